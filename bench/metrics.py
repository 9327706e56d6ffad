"""Measures what metrics cost a request, and how long an answer of webtorch_status takes.

Usage: .venv/bin/python bench/metrics.py [--only NAME] [--repeat 5] [--seconds 3] [--json PATH]

The cost is in processor time of the worker, which depends less than rates do on what else the
machine does; virtual machines often count no instructions.
"""

import http.client
import time
from pathlib import Path
from statistics import median

import wrk
from server import PORT, Server
from table import Row, Settings, main

LOCATION = "location = /auto { webtorch_handler xor_app:output; }"


def processor_time(server: Server, seconds: float) -> float:
    """Return the microseconds of the only worker for each request."""
    wrk.run(server.url("/auto"), 1)
    (worker,) = server.children()
    stat = Path(f"/proc/{worker}/schedstat")
    begin = int(stat.read_text().split()[0])
    result = wrk.run(server.url("/auto"), seconds)
    assert result.errors == 0
    return (int(stat.read_text().split()[0]) - begin) / result.requests / 1000


def cost(settings: Settings) -> Row:
    """Processor time of a request with metrics, to that without."""
    ratios = []
    for _ in range(settings.repeat):
        counts = []
        for setting in ("on", "off"):
            with Server(LOCATION, "/auto", http=f"webtorch_metrics {setting};") as server:
                counts.append(processor_time(server, settings.seconds))
        ratios.append(counts[0] / counts[1])
    value = median(ratios)
    return Row(
        "infer auto, processor time, metrics on to off",
        "≤ 1.02",
        value,
        value <= 1.02,
        "",
        {"ratios": ratios},
    )


HANDLERS = 50


def scrape(settings: Settings) -> Row:
    """A HEAD of all metrics of 50 handlers and 8 workers, beyond `return 200`: it writes them."""
    locations = "".join(
        f"location = /h{number} {{ webtorch_handler many_app:output{number}; }}"
        for number in range(HANDLERS)
    )
    status = "location = /status { webtorch_status; }"
    with Server(LOCATION + locations + status, "/auto", workers=8) as server:
        assert len(server.children()) == 8
        client = http.client.HTTPConnection("127.0.0.1", PORT)

        def seconds(method: str, path: str) -> float:
            times = []
            for _ in range(300):
                start = time.perf_counter()
                client.request(method, path)
                client.getresponse().read()
                times.append(time.perf_counter() - start)
            return median(times)

        loop = seconds("HEAD", "/status?format=openmetrics") - seconds("HEAD", "/ok")
        whole = seconds("GET", "/status?format=openmetrics")
    value = loop * 1000
    return Row(
        "a scrape of 50 handlers, 8 workers, in the event loop",
        "≤ 2 ms",
        value,
        value <= 2,
        "ms",
        {"whole": whole},
    )


if __name__ == "__main__":
    main(__doc__, "metrics", {"cost": cost, "scrape": scrape})
