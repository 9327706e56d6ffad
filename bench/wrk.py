"""Runs wrk and reads its results."""

import json
import math
import subprocess
import tempfile
from dataclasses import dataclass

DONE = """
done = function(summary, latency, requests)
    io.write(string.format(
        '\\nRESULT {"requests": %d, "microseconds": %d, "status": %d, "connect": %d, ' ..
        '"read": %d, "write": %d, "timeout": %d, "p50": %d, "p99": %d}\\n',
        summary.requests, summary.duration, summary.errors.status, summary.errors.connect,
        summary.errors.read, summary.errors.write, summary.errors.timeout,
        latency:percentile(50), latency:percentile(99)))
end
"""

JSON_ROW = """
wrk.method = "POST"
wrk.body = "[[0.25,0.75]]"
wrk.headers["Content-Type"] = "application/json"
"""

TORCH7_ROW = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "text/plain"
function init(args)
    math.randomseed(os.time() * 1000 + tonumber(tostring({}):sub(8), 16) % 1000)
end
function request()
    return wrk.format(nil, nil, nil, string.format(
        "4\\n1\\n3\\nV 1\\n18\\ntorch.DoubleTensor\\n1\\n2\\n1\\n1\\n" ..
        "4\\n2\\n3\\nV 1\\n19\\ntorch.DoubleStorage\\n2\\n%.17g %.17g\\n",
        math.random() * 2 - 1, math.random() * 2 - 1))
end
"""


@dataclass(frozen=True)
class Result:
    """What wrk measured; latencies in microseconds."""

    requests: int
    microseconds: int
    status: int
    connect: int
    read: int
    write: int
    timeout: int
    p50: int
    p99: int

    @property
    def per_second(self) -> float:
        return self.requests / self.microseconds * 1e6

    @property
    def errors(self) -> int:
        """Answers that are no success, and failures of sockets, but timeouts."""
        return self.status + self.connect + self.read + self.write


def start(
    url: str, seconds: float, *, script: str = JSON_ROW, threads: int = 2, connections: int = 64
) -> "subprocess.Popen[str]":
    """Start wrk for some seconds, rounded up; its output is for `finish`."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua", delete=False) as file:
        file.write(script + DONE)
    return subprocess.Popen(
        [
            "wrk",
            f"-t{threads}",
            f"-c{connections}",
            f"-d{math.ceil(seconds)}",
            "-s",
            file.name,
            url,
        ],
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> Result:
    """Wait for wrk to end; return what it measured."""
    output, _ = process.communicate()
    line = next(line for line in output.splitlines() if line.startswith("RESULT "))
    return Result(**json.loads(line.removeprefix("RESULT ")))


def run(url: str, seconds: float, **options: object) -> Result:
    """Run wrk to its end."""
    return finish(start(url, seconds, **options))  # type: ignore[arg-type]
