"""Measures a roll back of a broken version, and what a shadow costs the answers that are sent.

Usage: .venv/bin/python bench/versions.py [--only NAME] [--repeat 3] [--seconds 5] [--json PATH]
"""

import http.client
import itertools
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from compiled import compiled, load
from server import PORT, ROOT, Server
from table import Row, Settings, main

sys.path.insert(0, str(ROOT / "bench/apps"))
from versions_app import network

BODY = b"[[0.25,0.75]]"
HEADERS = {"Content-Type": "application/json"}

# --- canary ---

CANARY = """
location = /probe { webtorch_handler versions_app:output; }
location = /checked {
    webtorch_handler versions_app:checked model=xor@$canary;
    add_header Version $canary always;
}
location /control { webtorch_control; }
"""

SPLIT = """
webtorch_zone models:1m;
webtorch_checkpoint %s interval=1h;
split_clients $arg_id $canary { 10%% 2; * ""; }
"""

CLIENTS = 8


def weights(bias: float) -> dict[str, Tensor]:
    """Return the network's weights with another bias of the output."""
    found = {name: tensor.clone() for name, tensor in network().state_dict().items()}
    found["2.bias"] += bias
    return found


def order(action: str, **body: str) -> None:
    """Order something for the model, and wait until it is done."""
    client = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    client.request("POST", f"/control/models/xor/{action}", json.dumps(body), HEADERS)
    answer = client.getresponse()
    text = answer.read()
    assert answer.status == 200, text
    client.close()


class Clients:
    """Clients that ask without a break, and write down when they got which answer."""

    def __init__(self) -> None:
        self.answers: list[tuple[float, str, int]] = []
        """Time, version and status; status 0 is a request that got no answer."""
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self, first: int) -> None:
        client = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        for number in itertools.count(first, CLIENTS):
            if self._stop.is_set():
                return
            try:
                client.request("POST", f"/checked?id={number}", BODY, HEADERS)
                answer = client.getresponse()
                answer.read()
                found = answer.getheader("Version", ""), answer.status
            except OSError:
                found = "", 0
            self.answers.append((time.perf_counter(), *found))

    def has_failed(self) -> bool:
        """Return whether one of the last answers was an error."""
        return any(status == 500 for _, _, status in self.answers[-100:])

    def stop(self) -> None:
        """Let all end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


def canary(settings: Settings) -> Row:
    """The time from the order to roll back to the last answer of the broken version."""
    seconds = []
    shares = []
    lost = 0
    with tempfile.TemporaryDirectory(prefix="webtorch-versions-") as directory:
        Path(directory).chmod(0o777)
        files = Path(directory) / "xor@2"
        files.mkdir()
        files.chmod(0o777)
        save_file(weights(0), files / "good.safetensors")
        (files / "good.safetensors").chmod(0o644)
        with Server(CANARY, "/probe", workers=2, http=SPLIT % directory):
            for number in range(settings.repeat):
                broken = files / f"broken{number}.safetensors"
                save_file(weights(1e9), broken)
                broken.chmod(0o644)
                clients = Clients()
                order("load", version="2")
                while not clients.has_failed():
                    time.sleep(0.01)
                time.sleep(settings.seconds / 2)
                begin = time.perf_counter()
                order("rollback", version="2", file="good.safetensors")
                time.sleep(2)
                clients.stop()
                failed = [when for when, _, status in clients.answers if status == 500]
                seconds.append(max(0.0, failed[-1] - begin))
                lost += sum(
                    status not in (200, 500) or (status == 500 and version != "2")
                    for _, version, status in clients.answers
                )
                shares.append(
                    sum(version == "2" for _, version, _ in clients.answers) / len(clients.answers)
                )
    value = max(seconds)
    return Row(
        "roll back of a broken version that 10 % get, 2 workers",
        "≤ 1 s, none of the others fails",
        value,
        value <= 1 and lost == 0,
        "s",
        {"seconds": seconds, "lost": lost, "shares": shares},
    )


# --- shadow ---

SHADOW = """
location = /plain { webtorch_handler versions_app:output; }
location = /shadow {
    webtorch_handler versions_app:output shadow=versions_app:better shadow_rate=10%;
}
location = /status { webtorch_status; }
"""


def shadow(settings: Settings) -> Row:
    """The 99th percentile of answers with a shadow to that without, in alternating runs.

    The load is half of what the worker can do: a queue that grows is no time of an answer.
    """
    ratios = []
    with Server(SHADOW, "/plain", main="worker_cpu_affinity 01;"), compiled("ask") as own:

        def ask(path: str, seconds: float, *rate: float) -> dict[str, Any]:
            return load(own, "ask", PORT, path, "http", 16, seconds, BODY.decode(), *rate)

        ask("/shadow", 2)
        rate = ask("/plain", 2)["per_second"] / 2
        before = ask("/plain", settings.seconds, rate)["p99"]
        for _ in range(3 * settings.repeat):
            between = ask("/shadow", settings.seconds, rate)["p99"]
            after = ask("/plain", settings.seconds, rate)["p99"]
            ratios.append(between / ((before + after) / 2))
            before = after
        client = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
        client.request("GET", "/status?format=json")
        (counted,) = json.loads(client.getresponse().read())["shadows"]
    value = median(ratios)
    return Row(
        "99th percentile of answers, a shadow gets 10 %, to none",
        "≤ 1.05",
        value,
        value <= 1.05,
        "",
        {"ratios": ratios, "rate": rate, "copies": counted["requests"]},
    )


if __name__ == "__main__":
    main(__doc__, "versions", {"canary": canary, "shadow": shadow})
