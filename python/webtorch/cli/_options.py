"""What options of all commands have in common."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from webtorch.cli._lines import Lines

Function = TypeVar("Function", bound=Callable[..., Any])


class Size(click.ParamType[str]):
    """A size as nginx reads it, or one of some words.

    Args:
        units: Letters that may follow the number, for example `km`.
        words: Other values.

    """

    name = "size"

    def __init__(self, units: str, *words: str) -> None:
        self._units = units
        self._words = words

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return a size or a word as it is."""
        if value in self._words or re.fullmatch(rf"\d+[{self._units}]?", value, re.I):
            return value
        others = "".join(f", nor {word}" for word in self._words)
        units = " or ".join(self._units)
        self.fail(f"'{value}' is not a number with {units}, for example 64m{others}", param, ctx)


def option(*names: str, default: Any = None, **settings: Any) -> Callable[[Function], Function]:
    """Make an option whose help names its environment variable and its default.

    If it may be repeated, each line of the variable is one: a header has blanks.
    """
    if settings.get("multiple"):
        settings.setdefault("type", Lines())
    return click.option(
        *names,
        default=default,
        show_envvar=True,
        show_default=default is not None,
        **settings,
    )


header_option = option(
    "--header", "-H", multiple=True, metavar="'NAME: VALUE'", help="Header; may be repeated."
)
insecure_option = option(
    "--insecure", "-k", is_flag=True, default=False, help="Accept any certificate."
)
nginx_option = option(
    "--nginx",
    metavar="PATH",
    type=click.Path(),
    help="nginx to run: by default the one of the package, or else the system's.",
)
module_option = option(
    "--module",
    metavar="PATH",
    type=click.Path(),
    help="WebTorch's module for the system's nginx: by default where it was built or installed.",
)
