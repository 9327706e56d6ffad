"""`webtorch openapi`."""

import importlib
import json
import sys
from pathlib import Path

import click

from webtorch.cli._discovery import explain
from webtorch.cli._errors import CommandError
from webtorch.cli._options import option
from webtorch.cli._target import Target
from webtorch.cli._terminal import Terminal


@click.command()
@click.argument("app", default=".")
@option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="File to write.")
@option("--title", help="Name of the application: by default that of its module.")
@option("--app-version", default="1", help="Version of the application.")
@option("--server", default="", metavar="URL", help="Address of the server.")
def openapi(
    app: str, output: Path | None, title: str | None, app_version: str, server: str
) -> None:
    """Print a document of OpenAPI 3.1 for the functions of APP.

    `webtorch serve` answers with it at /openapi.json, and so does a location of nginx with the
    directive webtorch_openapi, for all functions of its server.

    \b
    webtorch openapi app.py > openapi.json
    """  # noqa: D301 - click takes it for "do not wrap"
    target = Target.find(app)
    text = json.dumps(
        _document(target, title or target.module, app_version, server), indent=2, ensure_ascii=False
    )
    if output:
        output.write_text(text + "\n")
    else:
        click.echo(text)


def _document(target: Target, title: str, version: str, server: str) -> object:
    from webtorch._core import process
    from webtorch._handlers.lookup import handlers_of
    from webtorch._openapi import documents

    sys.path.insert(0, str(target.root))
    try:
        with process.checking():
            handlers = handlers_of(importlib.import_module(target.module))
            found = [documents.Operation(f"/{name}", handler) for name, handler in handlers.items()]
            return documents.document(found, title, version, server)
    except Exception as error:
        Terminal().trace(explain(error, target.root))
        raise CommandError("the application cannot be described.") from None
