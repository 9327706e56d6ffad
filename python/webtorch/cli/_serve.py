"""`webtorch serve`."""

import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import click

from webtorch.cli import _configuration, _examples
from webtorch.cli._configuration import ServeSettings
from webtorch.cli._discovery import Application, Discovery
from webtorch.cli._errors import CommandError
from webtorch.cli._functions import Function
from webtorch.cli._nginx import Nginx, find
from webtorch.cli._options import Size, module_option, nginx_option, option
from webtorch.cli._server import Server, find_port
from webtorch.cli._target import Target
from webtorch.cli._terminal import Terminal
from webtorch.cli._watcher import Watcher


@click.command()
@click.argument("app", default=".")
@option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 is all of IPv4.")
@option("--port", default=8000, type=click.IntRange(0, 65535), help="Port; 0 is any free one.")
@option("--workers", default="1", metavar="N", help="Processes; auto is one for each core.")
@option(
    "--zone",
    default="auto",
    type=Size("km", "auto", "off"),
    metavar="SIZE",
    help="Memory in which workers share the models, for example 64m; off: each has its own.",
)
@option(
    "--checkpoint",
    type=click.Path(file_okay=False, path_type=Path, resolve_path=True),
    help="Directory for the models' weights, which the next start continues with.",
)
@option("--reload", is_flag=True, default=False, help="Serve changed code when it is saved.")
@option(
    "--preload",
    type=str,
    multiple=True,
    metavar="MODULE",
    help="Library that is imported once for all workers and reloads; may be repeated.",
)
@option(
    "--ssl-certificate",
    type=click.Path(exists=True, dir_okay=False, path_type=Path, resolve_path=True),
    help="File of the certificate and its chain, for HTTPS and HTTP/2.",
)
@option(
    "--ssl-certificate-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path, resolve_path=True),
    help="File of its key, if it is not in the file of the certificate.",
)
@option(
    "--max-body-size",
    default="16m",
    type=Size("kmg"),
    metavar="SIZE",
    help="Largest body of a request.",
)
@option("--access-log", default="off", metavar="PATH", help="File for a line for each request.")
@option(
    "--log-level",
    default="warn",
    type=click.Choice(["debug", "info", "notice", "warn", "error"]),
    help="Least level of messages.",
)
@option("--print-conf", is_flag=True, default=False, help="Print nginx's configuration and exit.")
@nginx_option
@module_option
def serve(
    app: str,
    host: str,
    port: int,
    workers: str,
    zone: str,
    checkpoint: Path | None,
    reload: bool,
    preload: tuple[str, ...],
    ssl_certificate: Path | None,
    ssl_certificate_key: Path | None,
    max_body_size: str,
    access_log: str,
    log_level: str,
    print_conf: bool,
    nginx: str | None,
    module: str | None,
) -> None:
    """Serve the functions of APP, each at its name.

    APP is a file, a directory with app.py or main.py, or the name of a module. All functions under
    a decorator of webtorch are served: infer, train, stream, generate and handler. Those of tensors
    are at /v2, too, by the Open Inference Protocol.

    Needs no root. Ctrl-C stops when all answers are sent, a second one at once.

    \b
    webtorch serve app.py --reload
    webtorch serve app.py --host 0.0.0.0 --port 80 --workers auto --checkpoint models
    webtorch serve app.py --print-conf > nginx.conf
    """  # noqa: D301 - click takes it for "do not wrap"
    if workers != "auto" and not (workers.isdecimal() and int(workers)):
        raise click.BadParameter(
            f"'{workers}' is not a number from 1 on, nor auto", param_hint="'--workers'"
        )
    if ssl_certificate_key and not ssl_certificate:
        raise click.UsageError("--ssl-certificate-key needs --ssl-certificate.")
    target = Target.find(app)
    found = find(nginx, module)
    if not print_conf:
        port = find_port(host, port)
        if checkpoint:
            checkpoint.mkdir(parents=True, exist_ok=True)
    settings = ServeSettings(
        host,
        port,
        workers,
        zone,
        checkpoint,
        preload,
        max_body_size,
        access_log,
        log_level,
        ssl_certificate,
        ssl_certificate_key,
    )
    terminal = Terminal()
    with Discovery(preload) as discovery:
        if print_conf:
            application = discovery.read(target)
            _require(application, terminal)
            click.echo(_configuration.write(settings, target, application, found), nl=False)
            return
        sys.exit(_Serving(settings, target, found, terminal, discovery).run(reload))


def _require(application: Application, terminal: Terminal) -> None:
    if application.failure:
        terminal.trace(application.failure)
        raise CommandError("the application cannot be served.")


class _Serving:
    """A run of the command.

    Args:
        settings: What the user has chosen.
        target: The application.
        nginx: What to run.
        terminal: Where to report.
        discovery: Imports the application.

    """

    def __init__(
        self,
        settings: ServeSettings,
        target: Target,
        nginx: Nginx,
        terminal: Terminal,
        discovery: Discovery,
    ) -> None:
        self._settings = settings
        self._target = target
        self._nginx = nginx
        self._terminal = terminal
        self._discovery = discovery

    def run(self, reload: bool) -> int:
        """Serve until a signal; return the exit status."""
        watcher = Watcher()
        application = self._read(watcher)
        if not reload:
            _require(application, self._terminal)
            self._discovery.close()
        while application.failure:
            self._terminal.trace(application.failure)
            self._terminal.say("waiting for a change", "yellow")
            watcher.wait()
            application = self._read(watcher)

        with Server(self._nginx, self._terminal) as server, server.stopped_by_signals():
            server.start(self._write(application))
            threading.Thread(target=self._greet, args=(server, application), daemon=True).start()
            if reload:
                threading.Thread(
                    target=self._follow, args=(server, watcher, application), daemon=True
                ).start()
            status = server.wait()
        return 0 if status == 0 else 1

    def _read(self, watcher: Watcher) -> Application:
        """Import the application, and watch its files."""
        since = time.time_ns()
        application = self._discovery.read(self._target)
        watcher.watch(application.files, since)
        return application

    def _write(self, application: Application) -> str:
        return _configuration.write(self._settings, self._target, application, self._nginx)

    def _example(self, function: Function) -> str:
        """Return a command line that calls a function."""
        options = ["-k"] if self._settings.certificate else []
        return _examples.curl(function, f"{self._settings.url}/{function.name}", options)

    def _greet(self, server: Server, application: Application) -> None:
        """Print the addresses when they are served."""
        url = self._settings.url
        if not server.wait_until_ready(url):
            return
        click.echo(f"Serving {self._target.module} at {url}, Ctrl-C stops it.")
        self._list(_examples.order(application.functions))

    def _list(self, functions: Iterable[Function]) -> None:
        """Print functions with a command line for each."""
        for function in functions:
            click.echo(f"\n{function.kind} /{function.name} {function.signature()}")
            click.echo(f"  {self._example(function)}")
        sys.stdout.flush()

    def _follow(self, server: Server, watcher: Watcher, application: Application) -> None:
        """Serve changed code; while it is broken, the old code is served."""
        served = application.functions
        while True:
            changed = watcher.wait()
            names = ", ".join(str(file.relative_to(self._target.root)) for file in changed)
            try:
                application = self._read(watcher)
            except CommandError as failure:
                if server.is_running():
                    self._terminal.say(f"{failure.message} Changes are served no more.", "red")
                return
            if application.failure:
                self._terminal.trace(application.failure)
                self._terminal.say(f"{names}: the old code is still served", "red")
                continue
            if not server.reload(self._write(application)):
                self._terminal.say(f"{names}: nginx has not taken the new code", "red")
                continue
            self._terminal.say(f"{names}: the new code is served", "green")
            self._list(function for function in application.functions if function not in served)
            served = application.functions
