"""`webtorch status`."""

import contextlib
import json
import os
import select
import shutil
import signal
import sys
import termios
import time
import tty
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import click

from webtorch.cli._call import full_url, prepare, send
from webtorch.cli._errors import CommandError
from webtorch.cli._options import header_option, insecure_option, option
from webtorch.cli._status_report import Report

TIMEOUT = 10.0
"""Seconds to wait for an answer."""

TROUBLE = 3
"""Exit status if something is wrong, as that of `systemctl status`."""

_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"


@click.command()
@click.argument("url", default="http://127.0.0.1:8000")
@option("--interval", "-n", type=click.FloatRange(0.1), default=2.0, help="Seconds between polls.")
@option("--once", is_flag=True, default=False, help="Print it once, with averages since the start.")
@option(
    "--json",
    "as_json",
    envvar="WEBTORCH_STATUS_JSON",
    is_flag=True,
    default=False,
    help="Print the server's JSON once.",
)
@header_option
@insecure_option
def status(
    url: str,
    interval: float,
    once: bool,
    as_json: bool,
    header: tuple[str, ...],
    insecure: bool,
) -> None:
    """Show what is wrong with a server, and what it does.

    URL is a location with the directive webtorch_status; of an address alone it is /status, which
    `webtorch serve` has. On a terminal all is drawn again every two seconds, until q is pressed.
    REQ/S, the latencies and ROWS/CALL are those of the last two seconds or, if there was no
    request, since nginx was started. P99 is a time that 99 of 100 requests did not exceed, from
    their headers to the end of the answer; CALL P99 is that of the function alone.

    Without a terminal, and with --once or --json, it is printed once. The exit status is then 0 if
    nothing is wrong, 3 if something is, and 1 if there is no answer.

    \b
    webtorch status
    webtorch status https://example.com/status -H 'Authorization: Basic ZXZhOnNlY3JldA=='
    webtorch status --json | jq '.handlers[] | {name, requests}'
    """  # noqa: D301 - click takes it for "do not wrap"
    source = _Source(url, header, insecure)
    now = source.read()
    has_colors = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    report = Report(now, has_colors=has_colors)
    if as_json:
        click.echo(json.dumps(now, separators=(",", ":"), ensure_ascii=False))
    elif once or not sys.stdout.isatty():
        click.echo("\n".join(report.lines()))
    else:
        with _screen(), contextlib.suppress(KeyboardInterrupt):
            _watch(source, now, interval, has_colors)
        return
    sys.exit(TROUBLE if report.problems else 0)


class _Source:
    """The location that is asked.

    Args:
        url: What the user has given.
        header: Headers as lines.
        insecure: Whether any certificate is accepted.

    """

    def __init__(self, url: str, header: tuple[str, ...], insecure: bool) -> None:
        parts = urlsplit(full_url(url))
        path = parts.path if parts.path not in ("", "/") else "/status"
        self.url = parts._replace(path=path, query="format=json").geturl()
        self._headers, _ = prepare((), header, None, None)
        self._insecure = insecure

    def read(self) -> Mapping[str, Any]:
        """Return what the server answers.

        Raises:
            CommandError: There is no answer of webtorch_status.

        """
        request = urllib.request.Request(self.url, headers=self._headers)
        status, _, answer = send(request, TIMEOUT, self._insecure)
        if status != 200:
            raise CommandError(f"{self.url} answered {status}: is webtorch_status there?")
        try:
            found: Mapping[str, Any] = json.loads(answer)
            Report(found).lines()
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise CommandError(f"{self.url}: this is no answer of webtorch_status.") from error
        return found


# --- the terminal ---


def _watch(source: _Source, now: Mapping[str, Any], interval: float, has_colors: bool) -> None:
    """Draw until the user presses q."""
    before: Mapping[str, Any] | None = None
    failure = ""
    while True:
        report = Report(now, before, has_colors)
        if failure:
            report.problems.insert(0, failure)
        _draw([*report.lines(), "", f"every {interval:g} s, q ends"])
        if _is_ended(interval):
            return
        try:
            before, now, failure = now, source.read(), ""
        except CommandError as error:
            # it may be starting again
            failure = error.message


def _draw(lines: list[str]) -> None:
    columns, rows = shutil.get_terminal_size()
    if len(lines) > rows:
        lines = [*lines[: rows - 1], "..."]
    text = f"{_REST_OF_LINE}\r\n".join(_cut(line, columns) for line in lines)
    sys.stdout.write(f"{_HOME}{text}{_REST_OF_LINE}{_REST}")
    sys.stdout.flush()


def _cut(line: str, columns: int) -> str:
    """Return what of a line is in a terminal; a line has one colour at most."""
    plain = click.unstyle(line)
    return line if len(plain) <= columns else line.replace(plain, plain[:columns])


def _is_ended(seconds: float) -> bool:
    """Wait; return whether q was pressed meanwhile."""
    if not sys.stdin.isatty():
        time.sleep(seconds)
        return False
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        readable, _, _ = select.select([sys.stdin], [], [], left)
        if readable and os.read(sys.stdin.fileno(), 1) in (b"q", b"Q", b""):
            return True
    return False


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """Use another screen of the terminal, and read keys at once."""
    begin, end = _SCREEN
    keys = termios.tcgetattr(sys.stdin) if sys.stdin.isatty() else None
    if keys:
        tty.setcbreak(sys.stdin)
    # a signal that ends the command leaves a terminal that can be used
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.stdout.write(begin)
    try:
        yield
    finally:
        sys.stdout.write(end)
        sys.stdout.flush()
        signal.signal(signal.SIGTERM, before)
        if keys:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, keys)
