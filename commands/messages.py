"""Makes one line of what a parser has to say."""

_LONGEST = 400


def parser_message(message: str) -> str:
    """The gist of a parser's message.

    Args:
        message: Several lines, the most telling ones last.

    Returns:
        One line of at most 400 characters.
    """
    line = " ".join(message.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."
