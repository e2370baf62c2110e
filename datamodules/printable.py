"""Text from files as a terminal may show it."""


def printable(text: str) -> str:
    r"""Text from a file as one line that is safe on a terminal, in a table and in a picture.

    Args:
        text: Any text: control characters, line breaks, marks that turn the direction of writing
            and halves of characters become escapes such as ``\x1b``.
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )
