"""Options that may be repeated, and are lines of an environment variable."""

from collections.abc import Sequence

import click


class Lines(click.types.StringParamType):
    """Text of an option that may be repeated; each line of its environment variable is one."""

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """Return the lines that are not blank."""
        return [line for line in rv.splitlines() if line.strip()]
