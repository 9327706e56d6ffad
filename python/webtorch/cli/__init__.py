"""The command `webtorch`."""

import click

from webtorch import __version__
from webtorch.cli._bench import bench, models
from webtorch.cli._call import call
from webtorch.cli._checkpoints import checkpoints
from webtorch.cli._errors import Commands
from webtorch.cli._guard import guard
from webtorch.cli._new import new
from webtorch.cli._openapi import openapi
from webtorch.cli._run import check, nginx, run
from webtorch.cli._serve import serve
from webtorch.cli._status import status

CONTEXT = {
    "auto_envvar_prefix": "WEBTORCH",
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
}


@click.group(cls=Commands, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="webtorch")
def cli() -> None:
    """PyTorch inside nginx: functions of tensors, served over HTTP.

    \b
    webtorch new shop                            make a project
    webtorch serve app.py                        serve the functions of app.py
    webtorch call localhost:8000/f '[[1, 2]]'    call one of them
    webtorch status                              what is wrong, rates, latencies, live

    Each option is an environment variable, too, for example WEBTORCH_SERVE_PORT=80. Completion of
    commands and options for bash (zsh and fish: zsh_source, fish_source):

    \b
    eval "$(_WEBTORCH_COMPLETE=bash_source webtorch)"
    """  # noqa: D301 - click takes it for "do not wrap"


COMMANDS = (
    *(new, serve, call, bench, models, status, guard),
    *(check, run, checkpoints, openapi, nginx),
)

for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Run the command line of this process; the program `webtorch`."""
    cli(prog_name="webtorch")
