"""`webtorch bench` and `webtorch models`."""

import json
import sys
import threading
import time
import urllib.request
from typing import Any
from urllib.parse import quote, urlsplit

import click

from webtorch.cli._call import full_url, prepare, send
from webtorch.cli._errors import CommandError
from webtorch.cli._examples import document
from webtorch.cli._functions import Function, Tensor
from webtorch.cli._load import Client, LoadTarget, Result, describe, find_wrk, run_wrk
from webtorch.cli._options import header_option, insecure_option, option
from webtorch.cli._text import table

DTYPES = {
    "BOOL": "bool",
    "BYTES": "str",
    "FP16": "float16",
    "BF16": "bfloat16",
    "FP32": "float32",
    "FP64": "float64",
    **{f"INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}
"""dtypes by their names in the inference protocol."""

WIDTH = 40
"""Characters of the longest bar."""

BARS = 12
"""Lines of the plot."""


@click.command()
@click.argument("url")
@click.argument("data", nargs=-1)
@option("--connections", "-c", type=click.IntRange(1, 10000), default=64, help="How many at once.")
@option("--duration", "-d", type=click.FloatRange(0.1), default=10.0, help="Seconds.")
@option("--rows", type=click.IntRange(1), default=1, help="Rows of a request that is made.")
@option("--method", "-X", help="Method: by default POST if there is a body, or else GET.")
@header_option
@option("--accept", help="Media type or suffix of the answers, for example npy.")
@option("--content-type", help="Media type of a file, if its suffix does not say it.")
@insecure_option
@option(
    "--client",
    type=click.Choice(["auto", "wrk", "own"]),
    default="auto",
    help="wrk, where it is installed, is faster than the own client.",
)
@option(
    "--json",
    "as_json",
    envvar="WEBTORCH_BENCH_JSON",
    is_flag=True,
    default=False,
    help="Print a line of JSON.",
)
def bench(
    url: str,
    data: tuple[str, ...],
    connections: int,
    duration: float,
    rows: int,
    method: str | None,
    header: tuple[str, ...],
    accept: str | None,
    content_type: str | None,
    insecure: bool,
    client: str,
    as_json: bool,
) -> None:
    """Measure latency and throughput of the function at URL.

    DATA is that of `webtorch call`. Without it a request is made from the function's signature,
    which the server is asked for. The exit status is 1 if an answer was an error.

    \b
    webtorch bench http://127.0.0.1:8000/output
    webtorch bench http://127.0.0.1:8000/output '[[1, 2]]' -c 256 -d 30
    webtorch bench http://127.0.0.1:8000/classify @cat.jpg --accept npy
    """  # noqa: D301 - click takes it for "do not wrap"
    url = full_url(url)
    headers, body = prepare(data, header, accept, content_type)
    if body is None and method in (None, "POST", "PUT"):
        function = _ask(url, insecure)
        if function is not None:
            body = json.dumps(document(function, rows)).encode()
            headers.setdefault("Content-Type", "application/json")
            if not as_json:
                click.echo(f"{function.signature()}")
    target = LoadTarget(url, method or ("GET" if body is None else "POST"), headers, body or b"")
    _try(target, insecure, "" if data else ": give DATA, see --help")

    wrk = find_wrk(target, insecure) if client != "own" else None
    if client == "wrk" and wrk is None:
        raise CommandError(
            "there is no wrk, or it cannot do this: it checks no certificates (see -k) and waits "
            "for the body of a HEAD; see --client."
        )
    progress = _Progress(duration, f"{connections} connections, {'wrk' if wrk else 'own client'}")
    if wrk:
        with progress:
            result = run_wrk(wrk, target, connections, duration)
    else:
        result = Client(target, connections, insecure).run(duration, progress.show)
    progress.end()
    click.echo(describe(result) if as_json else _report(result))
    if result.refused or result.broken or not result.requests:
        sys.exit(1)


def _try(target: LoadTarget, insecure: bool, hint: str) -> None:
    """Send one request.

    Raises:
        CommandError: Its answer is an error.

    """
    request = urllib.request.Request(
        target.url, target.body or None, dict(target.headers), method=target.method
    )
    status, _, answer = send(request, insecure=insecure)
    if status >= 400:
        click.echo(answer.decode(errors="replace").rstrip("\n"), err=True)
        # of another address no data would be right
        raise CommandError(f"{target.url} answered {status}{hint if status != 404 else ''}.")


def _ask(url: str, insecure: bool) -> Function | None:
    """Return the function of tensors at an address; None: it is none."""
    asked = urllib.request.Request(url, method="OPTIONS")
    status, _, answer = send(asked, insecure=insecure)
    try:
        return _function(json.loads(answer)) if status == 200 else None
    except (ValueError, LookupError, TypeError):
        return None


def _function(found: Any) -> Function:
    """Read the metadata of the inference protocol."""
    # a function that generates may have no inputs
    batched = bool(found["inputs"]) and found["inputs"][0]["shape"][:1] == [-1]

    def tensors(items: Any) -> tuple[Tensor, ...]:
        return tuple(
            Tensor(
                one["name"],
                DTYPES[one["datatype"]],
                tuple("n" if size < 0 else size for size in one["shape"][batched:]),
            )
            for one in items
        )

    return Function(
        found["name"].rpartition(":")[2],
        "infer",
        batched=batched,
        inputs=tensors(found["inputs"]),
        outputs=tensors(found["outputs"]),
    )


class _Progress:
    """A bar on standard error, if that is a terminal."""

    def __init__(self, seconds: float, title: str) -> None:
        self._seconds = seconds
        self._title = title
        self._is_shown = sys.stderr.isatty()
        self._ended = threading.Event()

    def __enter__(self) -> None:
        if self._is_shown:
            threading.Thread(target=self._run, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _run(self) -> None:
        begin = time.monotonic()
        while not self._ended.wait(0.2):
            self._draw(time.monotonic() - begin, "")

    def show(self, result: Result) -> None:
        """Show how far a measurement is."""
        self._draw(result.seconds, f", {result.requests} answers")

    def _draw(self, seconds: float, more: str) -> None:
        if self._is_shown:
            done = min(1.0, seconds / self._seconds)
            bar = ("#" * round(done * WIDTH)).ljust(WIDTH, "-")
            click.echo(f"\r[{bar}] {self._title}{more} ", nl=False, err=True)

    def end(self) -> None:
        """Clear the line."""
        if self._is_shown:
            click.echo("\r" + " " * 100 + "\r", nl=False, err=True)


def _report(result: Result) -> str:
    lines = [
        f"{result.per_second:,.0f} requests/s, {result.requests:,} in {result.seconds:.1f} s",
        "latency "
        + ", ".join(
            f"{share:g} %: {_time(result.percentile(share / 100))}" for share in (50, 90, 99, 99.9)
        ),
    ]
    if result.refused or result.broken:
        lines.append(f"{result.refused} answers are errors, {result.broken} connections failed")
    return "\n".join([*lines, *_plot(result)])


def _plot(result: Result) -> list[str]:
    """Return a histogram of the latencies, without the slowest hundredth."""
    latencies = result.latencies[: max(1, len(result.latencies) * 99 // 100)]
    if not latencies:
        return []
    low, high = latencies[0], latencies[-1]
    step = (high - low) / BARS or 1e-9
    counts = [0] * BARS
    for one in latencies:
        counts[min(BARS - 1, int((one - low) / step))] += 1
    most = max(counts)
    return [
        f"{_time(low + step * (index + 1)):>10} |{'#' * round(WIDTH * count / most)}"
        for index, count in enumerate(counts)
    ]


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


@click.command()
@click.argument("url", default="http://127.0.0.1:8000")
@header_option
@insecure_option
def models(url: str, header: tuple[str, ...], insecure: bool) -> None:
    """List functions of tensors, with their numbers of requests.

    URL is the server, or the location of its webtorch_inference_protocol, by default /v2.

    \b
    webtorch models http://127.0.0.1:8000
    """  # noqa: D301 - click takes it for "do not wrap"
    base = full_url(url).rstrip("/")
    if not urlsplit(base).path:
        base += "/v2"
    headers, _ = prepare((), header, None, None)

    def get(path: str, method: str = "GET") -> Any:
        request = urllib.request.Request(base + path, headers=headers, method=method)
        return _answer(request, insecure)

    found: dict[str, list[Any]] = {}
    for entry in get("/repository/index", "POST"):
        found.setdefault(entry["name"], []).append(entry)
    rows = [("MODEL", "VERSIONS", "STATE", "REQUESTS", "FAILED", "ROWS", "CALLS", "SIGNATURE")]
    for name, versions in found.items():
        model = f"/models/{quote(name, safe=':')}"
        (stats,) = get(f"{model}/stats")["model_stats"]
        counts = stats["inference_stats"]
        numbers = (
            counts["success"]["count"],
            counts["fail"]["count"],
            stats["inference_count"],
            stats["execution_count"],
        )
        state = versions[0]["state"]
        # what is not loaded is not known
        signature = _function(get(model)).signature() if state == "READY" else "-"
        numbered = ", ".join(entry["version"] for entry in versions)
        rows.append((name, numbered, state, *map(str, numbers), signature))
    click.echo("\n".join(table(rows)))


def _answer(request: urllib.request.Request, insecure: bool) -> Any:
    url = request.full_url
    status, _, answer = send(request, insecure=insecure)
    if status != 200:
        raise CommandError(f"{url} answered {status}: is webtorch_inference_protocol there?")
    try:
        return json.loads(answer)
    except ValueError as error:
        raise CommandError(f"{url}: the answer is not JSON.") from error
