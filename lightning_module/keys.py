"""Parts of metric keys: slugs that every tracking store accepts."""

import re
from collections.abc import Iterable

_FORBIDDEN = re.compile(r"[^a-z0-9_.-]+")


def unique_slugs(names: Iterable[str]) -> tuple[str, ...]:
    """Names as slugs of ``[a-z0-9_.-]``, told apart by ``_2``, ``_3``, ... where they coincide.

    Args:
        names: Names of loss terms or classes, in order.

    Returns:
        One slug a name, in the same order, no two alike.

    Example:
        >>> unique_slugs(["bce", "Left atrium", "bce"])
        ('bce', 'left_atrium', 'bce_2')
    """
    slugs: list[str] = []
    for name in names:
        base = _FORBIDDEN.sub("_", name.lower()).strip("_") or "unnamed"
        slug, repeat = base, 1
        while slug in slugs:
            repeat += 1
            slug = f"{base}_{repeat}"
        slugs.append(slug)
    return tuple(slugs)
