"""What a user can mend: the exception that ends a command with one line and no traceback."""


class InputError(Exception):
    """A wrong file, option or setting.

    The message is one line: what is wrong, what was found, what was expected and what to do.
    ``main.py`` prints it and exits with status 2.
    """
