"""`webtorch check`, `webtorch run` and `webtorch nginx`."""

import os
import subprocess
import sys
from pathlib import Path

import click

from webtorch.cli import _bundled
from webtorch.cli._discovery import Discovery
from webtorch.cli._errors import CommandError
from webtorch.cli._main_directives import main_directives
from webtorch.cli._nginx import MODULE, Nginx, find
from webtorch.cli._options import module_option, nginx_option, option
from webtorch.cli._target import Target
from webtorch.cli._terminal import Terminal

prefix_option = option(
    "--prefix",
    "-p",
    type=click.Path(file_okay=False, path_type=Path, resolve_path=True),
    help="Directory of relative paths in CONF: by default that of nginx.",
)


def _command(
    nginx: Nginx, conf: Path, prefix: Path | None, *, in_foreground: bool = False
) -> list[str]:
    """Return a command that runs nginx with a configuration, which need not load the module.

    What the configuration has cannot be given twice: then it is the configuration's.
    """
    found = [words for words in main_directives(conf) if len(words) == 2]
    names = {name for name, _ in found}
    modules = {Path(value).name for name, value in found if name == "load_module"}
    directives = []
    if nginx.module and MODULE not in modules:
        directives.append(f'load_module "{nginx.module}";')
    if in_foreground and "daemon" not in names:
        directives.append("daemon off;")
    return [
        *nginx.command,
        *(["-p", f"{prefix}/"] if prefix else []),
        "-c",
        str(conf),
        *(["-g", " ".join(directives)] if directives else []),
    ]


@click.command()
@click.argument("conf", type=click.Path(exists=True, path_type=Path, resolve_path=True))
@prefix_option
@nginx_option
@module_option
def check(conf: Path, prefix: Path | None, nginx: str | None, module: str | None) -> None:
    """Check CONF: a configuration of nginx, or an application.

    A configuration is read as `nginx -t` does, its functions are imported. Of an application (a
    Python file or a directory) the functions are imported and listed. The exit status is 1 if it
    cannot be served.

    \b
    webtorch check nginx.conf
    webtorch check app.py
    """  # noqa: D301 - click takes it for "do not wrap"
    terminal = Terminal()
    if conf.is_dir() or conf.suffix == ".py":
        with Discovery() as discovery:
            application = discovery.read(Target.find(str(conf)))
        if application.failure:
            terminal.trace(application.failure)
            raise CommandError("the application cannot be served.")
        for function in application.functions:
            click.echo(f"{function.kind} {function.name} {function.signature()}")
        return
    done = subprocess.run(
        [*_command(find(nginx, module), conf, prefix), "-t"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    for line in done.stdout.splitlines(keepends=True):
        terminal.record(line)
    sys.exit(1 if done.returncode else 0)


@click.command()
@click.argument(
    "conf",
    type=click.Path(exists=True, dir_okay=False, path_type=Path, resolve_path=True),
    default="nginx.conf",
)
@prefix_option
@nginx_option
@module_option
def run(conf: Path, prefix: Path | None, nginx: str | None, module: str | None) -> None:
    """Run nginx in the foreground with the configuration CONF.

    "daemon on" in CONF runs it in the background. CONF need not load WebTorch's module. Ctrl-C
    stops it at once, SIGQUIT when all answers are sent.

    \b
    webtorch run nginx.conf --prefix .
    """  # noqa: D301 - click takes it for "do not wrap"
    command = _command(find(nginx, module), conf, prefix, in_foreground=True)
    os.execvp(command[0], command)


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def nginx(arguments: tuple[str, ...]) -> None:
    """Run the nginx of this package with options of nginx.

    \b
    webtorch nginx -V
    webtorch nginx -p . -c nginx.conf
    """  # noqa: D301 - click takes it for "do not wrap"
    _bundled.run(arguments)
