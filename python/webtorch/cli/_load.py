"""Requests of many connections at once, and how long they take."""

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from webtorch.cli._errors import CommandError
from webtorch.cli._tls import tls_context

SCRIPT = """
wrk.method = %(method)s
wrk.body = %(body)s
%(headers)s
done = function(summary, latency, requests)
    io.write("\\nRESULT ", summary.requests, " ", summary.duration, " ", summary.errors.status, " ",
             summary.errors.connect + summary.errors.read + summary.errors.write
             + summary.errors.timeout)
    for p = 1, 1000 do
        io.write(" ", latency:percentile(math.min(p / 10, 99.999)))
    end
    io.write("\\n")
end
"""
"""A script of wrk: a request, and a line with the latencies of thousandths in microseconds."""


@dataclass(frozen=True)
class LoadTarget:
    """A request that is sent again and again."""

    url: str
    method: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Result:
    """What was measured.

    Attributes:
        seconds: Duration.
        requests: Answers.
        refused: Answers with a status of 400 or higher.
        broken: Connections that were refused or broken, and answers that did not come.
        latencies: Seconds that answers took, sorted: all of them, or thousandths.

    """

    seconds: float = 0.0
    requests: int = 0
    refused: int = 0
    broken: int = 0
    latencies: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Answers in a second."""
        return self.requests / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """Return the latency in seconds that a share of the answers, 0 to 1, did not exceed."""
        if not self.latencies:
            return 0.0
        return self.latencies[min(int(share * len(self.latencies)), len(self.latencies) - 1)]


def find_wrk(target: LoadTarget, insecure: bool) -> str | None:
    """Return the path of wrk, if it can send the requests."""
    # it checks no certificate, and waits for the body of an answer to HEAD
    if target.method == "HEAD" or (target.url.startswith("https:") and not insecure):
        return None
    return shutil.which("wrk")


def run_wrk(path: str, target: LoadTarget, connections: int, seconds: float) -> Result:
    """Measure with wrk.

    Raises:
        CommandError: It has failed.

    """
    headers = "\n".join(
        f"wrk.headers[{_lua(name.encode())}] = {_lua(value.encode())}"
        for name, value in target.headers.items()
    )
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        body = _lua(target.body) if target.body else "nil"
        method = _lua(target.method.encode())
        script.write(SCRIPT % {"method": method, "body": body, "headers": headers})
        script.flush()
        threads = max(1, min(connections, (os.cpu_count() or 1) // 2))
        done = subprocess.run(
            [path, f"-t{threads}", f"-c{connections}", f"-d{max(1, round(seconds))}s",
             "-s", script.name, target.url],
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
    line = next((one for one in done.stdout.splitlines() if one.startswith("RESULT ")), None)
    if line is None:
        raise CommandError(f"wrk has failed: {(done.stderr or done.stdout).strip()}")
    requests, duration, refused, broken, *latencies = map(float, line.split()[1:])
    return Result(
        duration / 1e6, int(requests), int(refused), int(broken), [one / 1e6 for one in latencies]
    )


def _lua(data: bytes) -> str:
    """Return bytes as a string of Lua."""
    return '"' + "".join(f"\\{byte:03d}" for byte in data) + '"'


class Client:
    """Sends requests over HTTP/1.1 itself, one after the other on each connection.

    Args:
        target: The request.
        connections: How many at once.
        insecure: Whether any certificate is accepted.

    """

    def __init__(self, target: LoadTarget, connections: int, insecure: bool = False) -> None:
        parts = urlsplit(target.url)
        self._host = parts.hostname or ""
        self._is_tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._is_tls else 80)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"Host": parts.netloc, **target.headers}
        if target.body:
            headers["Content-Length"] = str(len(target.body))
        lines = [f"{target.method} {path} HTTP/1.1", *map(": ".join, headers.items()), "", ""]
        self._request = "\r\n".join(lines).encode() + target.body
        self._is_head = target.method == "HEAD"
        self._connections = connections
        self._context = tls_context(insecure) if self._is_tls else None
        self.result = Result()

    def run(self, seconds: float, progress: Callable[[Result], None]) -> Result:
        """Measure.

        Args:
            seconds: Duration.
            progress: Called several times a second.

        Raises:
            CommandError: There is no connection.

        """
        try:
            asyncio.run(self._run(seconds, progress))
        except OSError as error:
            raise CommandError(f"{self._host}:{self._port}: {error.strerror or error}.") from error
        self.result.latencies.sort()
        return self.result

    async def _run(self, seconds: float, progress: Callable[[Result], None]) -> None:
        # what cannot be connected to is an error of the command
        _, writer = await self._connect()
        writer.close()
        begin = time.perf_counter()
        tasks = [asyncio.create_task(self._send(begin + seconds)) for _ in range(self._connections)]
        waiting = asyncio.gather(*tasks)
        while not waiting.done():
            await asyncio.wait([waiting], timeout=0.2)
            self.result.seconds = time.perf_counter() - begin
            progress(self.result)
            if self.result.seconds > seconds + 10:
                waiting.cancel()
                self.result.broken += sum(not task.done() for task in tasks)
                break
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self._host, self._port, ssl=self._context)

    async def _send(self, end: float) -> None:
        reader = writer = None
        while (now := time.perf_counter()) < end:
            try:
                if writer is None or reader is None:
                    reader, writer = await self._connect()
                writer.write(self._request)
                status, is_kept = await self._read(reader)
            except (OSError, EOFError, ValueError, IndexError, asyncio.LimitOverrunError):
                self.result.broken += 1
                if writer:
                    writer.close()
                writer = None
                await asyncio.sleep(0.01)
                continue
            self.result.latencies.append(time.perf_counter() - now)
            self.result.requests += 1
            self.result.refused += status >= 400
            if not is_kept:
                writer.close()
                writer = None
        if writer:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> tuple[int, bool]:
        """Read an answer; return its status, and whether the connection is kept."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split()[1])
        values: dict[str, str] = {}
        for line in head[1:-2]:
            name, _, value = line.partition(":")
            values[name.lower()] = value.strip().lower()
        if self._is_head or status in (204, 304):
            pass
        elif values.get("transfer-encoding") == "chunked":
            while size := int(await reader.readline(), 16):
                await reader.readexactly(size + 2)
            await reader.readline()
        elif "content-length" in values:
            await reader.readexactly(int(values["content-length"]))
        else:
            await reader.read()
            return status, False
        return status, values.get("connection") != "close"


def describe(result: Result) -> str:
    """Return a result as JSON."""
    return json.dumps({
        "seconds": round(result.seconds, 3),
        "requests": result.requests,
        "requests_per_second": round(result.per_second, 1),
        "errors": {"status": result.refused, "connection": result.broken},
        "latency_ms": {
            f"p{share:g}": round(result.percentile(share / 100) * 1000, 3)
            for share in (50, 90, 99, 99.9)
        },
    })  # fmt: skip
