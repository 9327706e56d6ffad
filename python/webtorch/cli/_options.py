"""What options of all commands have in common."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from webtorch.cli._lines import Lines

Function = TypeVar("Function", bound=Callable[..., Any])


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
