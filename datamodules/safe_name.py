"""Names from files as parts of paths."""

import hashlib
import re


def safe_name(name: str) -> str:
    """A name from a file or a user as a part of a path and of a line on the terminal.

    Args:
        name: Any text. What holds more than letters, digits and ``_.-`` is changed, and gets a
            hash of its own, so that two names stay two.
    """
    if re.fullmatch(r"\w[\w.-]*", name):
        return name
    plain = re.sub(r"[^\w.-]+", "_", name).lstrip(".-")
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{plain}_{digest[:8]}"
