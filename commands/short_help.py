"""Help texts whose defaults can be read."""

from argparse import Action

from jsonargparse import DefaultHelpFormatter, Namespace


class ShortHelp(DefaultHelpFormatter):
    """Shows a list of objects by their names, and not with all of their settings."""

    def _get_help_string(self, action: Action) -> str:
        text: str = super()._get_help_string(action)
        given = action.default
        names = [_name(each) for each in given] if isinstance(given, list) else []
        known = [name for name in names if name is not None]
        if not known or len(known) < len(names):
            return text
        return text.replace("%(default)s", ", ".join(known))


def _name(found: object) -> str | None:
    """The name among the settings of an object; None for anything else."""
    settings = found.get("init_args") if isinstance(found, Namespace) else None
    name = settings.get("name") if isinstance(settings, Namespace) else None
    return None if name is None else str(name)
