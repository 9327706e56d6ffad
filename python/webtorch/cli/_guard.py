"""`webtorch guard`."""

import json
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import click

from webtorch._core.text import printable
from webtorch.cli._call import full_url, prepare, send
from webtorch.cli._errors import CommandError
from webtorch.cli._options import header_option, insecure_option, option
from webtorch.cli._text import table

TIMEOUT = 60.0
"""Seconds to wait for an answer."""


class _Control:
    """The location that is asked.

    Args:
        url: What the user has given.
        name: Name of the guard; None: the only one.
        header: Headers as lines.
        insecure: Whether any certificate is accepted.

    """

    def __init__(self, url: str, name: str | None, header: tuple[str, ...], insecure: bool) -> None:
        parts = urlsplit(full_url(url))
        path = parts.path.rstrip("/") or "/control"
        self._url = parts._replace(path=path, query="").geturl()
        self._headers, _ = prepare((), header, None, None)
        self._insecure = insecure
        self._name = name

    def ask(self, what: str = "", body: Mapping[str, Any] | None = None) -> Any:
        """Return what the server answers about the guard.

        Raises:
            CommandError: There is no such guard, or the order was refused.

        """
        return self._send(f"/guards/{quote(self._find(), safe='')}{what}", body)

    def _find(self) -> str:
        if self._name is None:
            names = [each["name"] for each in self._send("/guards")]
            if len(names) != 1:
                found = ", ".join(names) or "none"
                raise CommandError(f"{self._url} has no guard or several ({found}): see --name.")
            self._name = names[0]
        return self._name

    def _send(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {**self._headers, "Content-Type": "application/json"}
        request = urllib.request.Request(self._url + path, data, headers)
        status, _, answer = send(request, TIMEOUT, self._insecure)
        try:
            found = json.loads(answer)
        except ValueError:
            found = None
        if status == 200 and found is not None:
            return found
        error = found.get("error") if isinstance(found, dict) else None
        reason = f": {error}" if error else ", is webtorch_control there?"
        raise CommandError(f"{self._url}{path} answered {status}{reason}")


_url = option(
    "--url",
    default="http://127.0.0.1:8000",
    help="Location of webtorch_control; of an address alone it is /control.",
)
_name = option("--name", help="Name of the guard's model, if there are several.")


def _asks(function: Any) -> Any:
    for each in (insecure_option, header_option, _name, _url):
        function = each(function)
    return function


@click.group()
def guard() -> None:
    """Show and correct what a guard has learned of a site.

    \b
    webtorch guard show
    webtorch guard mark --normal 9f86d081884c7d659a2feaa0c55ad015
    webtorch guard mark --attack 60303ae22b998861bce3b28f33eec1be
    webtorch guard reset --marks
    """  # noqa: D301 - click takes it for "do not wrap"


@guard.command()
@_asks
def show(url: str, name: str | None, header: tuple[str, ...], insecure: bool) -> None:
    """Show thresholds of locations, the most frequent fields, and marks."""
    found = _Control(url, name, header, insecure).ask()
    click.echo(f"{found['requests']} requests learned\n")
    for heading, rows in (
        (("LOCATION", "REQUESTS", "1 %", "0.1 %", "0.05 %"), map(_location, found["locations"])),
        (
            ("ADDRESS", "FIELD", "VALUES", "TYPE", "LENGTH", "CHARACTERS"),
            map(_field, found["fields"]),
        ),
        (("MARKED", "AS"), ((each["id"], each["verdict"]) for each in found["marks"])),
    ):
        lines = list(rows)
        if lines:
            click.echo("\n".join([*table([heading, *lines]), ""]))


@guard.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--normal", "verdict", flag_value="normal", help="They were normal.")
@click.option("--attack", "verdict", flag_value="attack", help="They were attacks.")
@_asks
def mark(
    ids: tuple[str, ...],
    verdict: str | None,
    url: str,
    name: str | None,
    header: tuple[str, ...],
    insecure: bool,
) -> None:
    """Mark requests of the log, whose $request_id is ID."""
    if verdict is None:
        raise click.UsageError("--normal or --attack is needed.")
    control = _Control(url, name, header, insecure)
    found = control.ask("/mark", {"ids": list(ids), "verdict": verdict})
    click.echo(f"{len(found['marked'])} marked as {verdict}")
    if found["full"]:
        raise CommandError(f"no room for more marks: {', '.join(found['full'])}")
    if found["unknown"]:
        raise CommandError(f"not remembered any more: {', '.join(found['unknown'])}")


@guard.command()
@option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for the JSON; by default it is printed.",
)
@_asks
def export(
    output: Path | None, url: str, name: str | None, header: tuple[str, ...], insecure: bool
) -> None:
    """Print all that was learned, as JSON."""
    found = json.dumps(_Control(url, name, header, insecure).ask("/export"), indent=2)
    if output:
        output.write_text(found + "\n")
    else:
        click.echo(found)


@guard.command()
@option("--learned", is_flag=True, default=False, help="Fields and scores alone.")
@option("--marks", is_flag=True, default=False, help="Marks of operators alone.")
@_asks
def reset(
    learned: bool,
    marks: bool,
    url: str,
    name: str | None,
    header: tuple[str, ...],
    insecure: bool,
) -> None:
    """Forget what was learned and marked."""
    what = "all" if learned == marks else "learned" if learned else "marks"
    _Control(url, name, header, insecure).ask("/reset", {"what": what})
    click.echo("forgotten")


def _location(found: Mapping[str, Any]) -> tuple[str, ...]:
    thresholds = (f"{each:.3f}" for each in found["thresholds"].values())
    return (printable(found["example"]), str(found["requests"]), *thresholds)


def _field(found: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        printable(found["address"]),
        printable(found["field"]),
        str(found["values"]),
        found["type"],
        f"< {found['length'] + 1}" if found["length"] else "",
        " ".join(found["characters"]),
    )
