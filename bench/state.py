"""Kills, reloads and restarts under load: what is lost, and what sharing costs; see docs/state.md.

Usage: .venv/bin/python bench/state.py [--only NAME] [--repeat 3] [--seconds 5] [--json PATH]
"""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import clients
import wrk
from server import PORT, Server
from table import Measure, Row, Settings, at_least, between, main

LOCATIONS = """
add_header X-Worker $pid always;
location = /train { webtorch_handler state_app:train max_batch=1; }
location = /train_strict { webtorch_handler state_app:train_strict max_batch=1; }
location = /output { webtorch_handler state_app:output; }
location = /output_strict { webtorch_handler state_app:output_strict; }
location = /about { webtorch_handler state_app:about; }
"""

ZONE = "webtorch_zone models:1m;"
SECONDS = 30
CONNECTIONS = 64
POINTS = [[0.5, 0.5], [-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5]]


def start(workers: int = 2, http: str = ZONE) -> Server:
    return Server(LOCATIONS, "/output", workers, http)


def about(server: Server, model: str) -> tuple[int, bool]:
    """Return the steps of a model, and whether it is finite."""
    state = json.loads(server.post("/about", b"{}"))[model]
    return state["steps"], state["finite"]


def has_learned(server: Server, path: str) -> bool:
    """Return whether a network has learned XOR."""
    answers = json.loads(server.post(path, json.dumps(POINTS).encode()))
    return [answer < 0 for (answer,) in answers] == [True, True, False, False]


def every_second(disturb: Callable[[], None], done: threading.Event) -> threading.Thread:
    """Disturb in a thread until `stop` is set."""

    def work() -> None:
        while not done.wait(1):
            disturb()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def under_load(
    server: Server, path: str, disturb: Callable[[], None], *, resend: bool = True
) -> clients.Outcome:
    """Disturb every second for as long as clients train."""
    done = threading.Event()
    thread = every_second(disturb, done)
    try:
        return clients.run(PORT, path, CONNECTIONS, SECONDS, resend=resend)
    finally:
        done.set()
        thread.join()


def kills(path: str, model: str) -> Measure:
    """Make the measurement of 30 killed workers."""

    def measure(settings: Settings) -> Row:
        killed: list[str] = []

        with start() as server:

            def kill() -> None:
                pid = random.choice(server.children())
                killed.append(str(pid))
                os.kill(pid, signal.SIGKILL)

            outcome = under_load(server, path, kill, resend=False)
            steps, finite = about(server, model)
            learned = has_learned(server, path.replace("train", "output"))

        # a connection that has had no answer yet has no worker's name
        others = {w: n for w, n in outcome.by_worker.items() if w and w not in killed}
        lost = max(0, outcome.acknowledged - steps)
        met = lost == 0 and finite and learned and not others
        details = {
            "acknowledged": outcome.acknowledged,
            "steps": steps,
            "killed": len(killed),
            "failed": len(outcome.failures),
            "failed on workers that were not killed": sum(others.values()),
            "finite": finite,
            "learned": learned,
        }
        name = f"a worker killed every second, {model}: steps lost of those acknowledged"
        return Row(name, "0", lost, met, details=details)

    return measure


def reloads(path: str, model: str) -> Measure:
    """Make the measurement of 30 reloads."""

    def measure(settings: Settings) -> Row:
        with start() as server:
            outcome = under_load(server, path, server.reload)
            steps, finite = about(server, model)
        exact = steps == outcome.acknowledged if model == "strict" else True
        met = not outcome.failures and steps >= outcome.acknowledged and exact and finite
        details = {
            "acknowledged": outcome.acknowledged,
            "steps": steps,
            "slowest answer, ms": outcome.slowest * 1000,
            "sent again on connections closed as idle": outcome.stale,
            "failures": outcome.failures[:10],
        }
        name = f"a reload every second, {model}: failed requests"
        return Row(name, "0", len(outcome.failures), met, details=details)

    return measure


def slowest(settings: Settings) -> Row:
    """The slowest answer over reloads, the median of several runs."""
    values = []
    with start() as server:
        for _ in range(settings.repeat):
            values.append(under_load(server, "/train", server.reload).slowest * 1000)
    value = median(values)
    name = "a reload every second, slowest answer"
    return Row(name, "≤ 250 ms", value, value <= 250, "ms", {"values": values})


def broken(settings: Settings) -> Row:
    """Python that is broken on purpose is refused, and the old workers go on."""
    app = Path(__file__).parent / "apps/state_app.py"
    with start() as server:
        copy = server.prefix / "app"
        copy.mkdir()
        text = app.read_text()
        (copy / "state_app.py").write_text(text)
        conf = server.prefix / "nginx.conf"
        conf.write_text(conf.read_text().replace(str(app.parent), str(copy)))
        server.reload()
        time.sleep(3)
        workers = set(server.children())
        (copy / "state_app.py").write_text(text + "\nraise RuntimeError('broken')\n")
        outcome = under_load(server, "/train", server.reload)
        refused = (server.prefix / "error.log").read_text().count("RuntimeError: broken (")
        same = workers == set(server.children())
    met = not outcome.failures and refused > 0 and same
    details = {"refused reloads": refused, "the old workers went on": same}
    return Row(
        "broken Python, reloads: failed requests", "0", len(outcome.failures), met, details=details
    )


def loss_of_power(settings: Settings) -> Row:
    """All processes are killed; at most an interval is lost, a damaged file is passed over."""
    interval = 1.0
    lost = []
    met = True
    # relative to nginx's prefix
    http = f"{ZONE} webtorch_checkpoint models interval={interval:.0f}s;"
    with start(http=http) as server:
        for turn in range(settings.repeat):
            begin = time.monotonic()
            outcome = clients.run(PORT, "/train", CONNECTIONS, 3 + random.random())
            per_second = outcome.acknowledged / (time.monotonic() - begin)
            before, _ = about(server, "free")
            server.kill()
            if turn == settings.repeat - 1:
                files = sorted((server.prefix / "models/free").glob("*.safetensors"))
                files[-1].write_bytes(files[-1].read_bytes()[:-1] + b"\xff")
            server.launch()
            after, _ = about(server, "free")
            lost.append((before - after) / per_second)
            allowed = 1.5 * interval if turn < settings.repeat - 1 else 2.5 * interval
            met = met and 0 <= lost[-1] <= allowed and after > 0
    details = {"seconds of steps lost": lost, "the last time with a damaged file": True}
    value = max(lost[:-1] or lost)
    name = "all killed, interval of 1 s: steps lost, in seconds"
    return Row(name, "≤ 1 (and the time to write)", value, met, details=details)


def respawn(settings: Settings) -> Row:
    """From the death of the only worker to the first answer of the next one."""
    milliseconds = []
    with start(1) as server:
        for _ in range(5 * settings.repeat):
            (pid,) = server.children()
            begin = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            # connections wait in the kernel for whoever accepts them
            while True:
                try:
                    server.post("/output", b"[[0.5,0.5]]")
                except OSError:
                    continue
                if server.children() != [pid]:
                    break
            milliseconds.append((time.monotonic() - begin) * 1000)
    value = median(milliseconds)
    name = "death of the only worker to the next one's answer"
    return Row(name, "≤ 100 ms", value, value <= 100, "ms", {"milliseconds": milliseconds})


def leaks(settings: Settings) -> Row:
    """The master's memory after 100 reloads, to that after ten."""
    with start(1) as server:
        megabytes = []
        for _ in range(100):
            before = set(server.children())
            server.reload()
            while set(server.children()) & before or not server.children():
                time.sleep(0.01)
            megabytes.append(private_megabytes(server.master))
        descriptors = len(os.listdir(f"/proc/{server.master}/fd"))
    value = (megabytes[-1] / megabytes[9] - 1) * 100
    details = {"megabytes": megabytes, "descriptors": descriptors}
    name = "memory of the master, 100 reloads to 10, growth in per cent"
    return Row(name, "≤ 2", value, value <= 2, details=details)


def private_megabytes(pid: int) -> float:
    """Return the memory that a process shares with nobody, or only with its children."""
    kilobytes = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            kilobytes += int(line.split()[1])
    return kilobytes / 1024


def together(settings: Settings) -> Row:
    """Two workers train one network as well as one does, with as many samples in sum."""
    losses: dict[int, list[float]] = {1: [], 2: []}
    same = True
    for _ in range(settings.repeat):
        for workers in (1, 2):
            with start(workers) as server:
                left = [20000]

                def enough(left: list[int] = left) -> bool:
                    left[0] -= 1
                    return left[0] < 0

                clients.run(PORT, "/train", CONNECTIONS, 600, stop=enough)
                answers = {server.post("/output", json.dumps(POINTS).encode()) for _ in range(50)}
                same = same and len(answers) == 1
                found = [a for (a,) in json.loads(answers.pop())]
                losses[workers].append(
                    sum((a - b) ** 2 for a, b in zip(found, [-1, -1, 1, 1], strict=True)) / 4
                )
    one, two = median(losses[1]), median(losses[2])
    noise = max(losses[1]) - min(losses[1])
    met = same and two <= one + max(noise, 0.05)
    details = {"one": losses[1], "two": losses[2], "both workers answer the same": same}
    name = "loss after 20000 steps of two workers, less that of one"
    return Row(name, "within noise", two - one, met, details=details)


def cost(settings: Settings) -> Row:
    """Training in the zone against training in the process, one step per batch.

    In an application that has no model in strict order, for which auto would choose the thread.
    """
    locations = """
    location = /train { webtorch_handler xor_app:train; }
    location = /output { webtorch_handler xor_app:output; }
    """

    def rate(http: str) -> float:
        with Server(locations, "/output", 1, http) as server:
            wrk.run(server.url("/train"), 1)
            return wrk.run(server.url("/train"), settings.seconds).per_second

    name = "XOR train per batch, in the zone to in the process"
    return at_least(name, 0.95, between(lambda: rate(ZONE), lambda: rate(""), settings))


ROWS: dict[str, Measure] = {
    "kills": kills("/train", "free"),
    "kills-strict": kills("/train_strict", "strict"),
    "reloads": reloads("/train", "free"),
    "reloads-strict": reloads("/train_strict", "strict"),
    "slowest": slowest,
    "broken": broken,
    "power": loss_of_power,
    "respawn": respawn,
    "leaks": leaks,
    "together": together,
    "cost": cost,
}


if __name__ == "__main__":
    main(__doc__, "state", ROWS)
