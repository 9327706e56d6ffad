"""Measures streams: many, long, slow and interrupted ones; see bench/README.md.

Usage: .venv/bin/python bench/streams.py [--only NAME] [--repeat 3] [--seconds 5] [--json PATH]

It needs `apt-get install libnghttp2-dev espeak-ng` and `.venv/bin/pip install -e .[bench]`. The
server is pinned to one core and the clients, which are compiled from bench/load/, to another one.
WEBTORCH_QUICK=1 makes the pauses and the rows with killed clients and workers shorter.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from compiled import SERVER_CORE, command, compiled, load
from peer import serving
from server import PORT, ROOT, Server
from table import Measure, Row, Settings, between, main

QUICK = "WEBTORCH_QUICK" in os.environ

LOCATIONS = """
location = /output { webtorch_handler xor_app:output; }
location = /xor { webtorch_handler streams_app:xor_stream; }
location = /stateless { webtorch_handler streams_app:xor_stateless; }
location = /audio { webtorch_handler streams_app:audio_sums; }
location = /small { webtorch_handler streams_app:small_sums; }
location = /counted { webtorch_handler streams_app:counted max_streams=256; }
location = /facts { webtorch_handler streams_app:facts; }
location = /wide { webtorch_handler streams_app:wide; }
location = /vad { webtorch_handler vad:speech; }
"""
HTTP2 = PORT + 1
PEER = PORT + 5

RATE = 16000
CHUNK = 1024  # bytes of 32 ms
HOUR = 3600 * RATE * 2 // CHUNK
MANY = ("http1", "http2", "websocket")


def start(**options: Any) -> Server:
    """Make a server with one worker on its core, and a port of its own for HTTP/2."""
    return Server(
        LOCATIONS,
        "/output",
        http=f"""
        webtorch_path {ROOT}/examples/vad;
        server {{ listen 127.0.0.1:{HTTP2} http2; {LOCATIONS} }}
        """,
        main="worker_cpu_affinity 01;",
        **options,
    )


# --- clients ---


@contextmanager
def fastapi() -> Iterator[None]:
    """Run uvicorn with one process on the server's core."""
    python = ["taskset", "-c", SERVER_CORE, sys.executable, "-m", "uvicorn", "streams_app:app"]
    options = ["--loop", "uvloop", "--http", "httptools", "--port", str(PEER)]
    options += ["--app-dir", str(ROOT / "bench/peers"), "--log-level", "warning"]
    # only xor_app.py is taken from there, the other file has the name of the peer
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "xor_app.py").symlink_to(ROOT / "bench/apps/xor_app.py")
        path = {"PYTHONPATH": directory, "PATH": "/usr/bin:/bin"}
        with serving([*python, *options], path, f"http://127.0.0.1:{PEER}/ready"):
            yield


# --- what the worker has ---


def worker(server: Server) -> int:
    """Return the pid of the only worker."""
    (pid,) = server.children()
    return pid


def megabytes(pid: int) -> float:
    """Return memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("there is no RssAnon")


def descriptors(pid: int) -> int:
    """Count open files of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def alerts(server: Server) -> list[str]:
    """Return lines of the error log that must not be there."""
    lines = (server.prefix / "error.log").read_text().splitlines()
    return [line for line in lines if any(f"[{x}]" in line for x in ("alert", "crit", "emerg"))]


# --- audio ---


def speech(path: Path) -> np.ndarray:
    """Write speech with noise as raw audio of 16 kHz; return it as int16."""
    text = "The quick brown fox jumps over the lazy dog. " * 8
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run(["espeak-ng", "-w", file.name, text], check=True)
        with wave.open(file.name) as audio:
            samples = np.frombuffer(audio.readframes(audio.getnframes()), dtype=np.int16)
            rate = audio.getframerate()
    times = np.arange(0, len(samples) - 1, rate / RATE)
    found = np.interp(times, np.arange(len(samples)), samples)
    found += np.random.default_rng(0).normal(0, 300, len(found))
    # pauses, which are noise alone
    found[: len(found) // 8] = np.random.default_rng(1).normal(0, 300, len(found) // 8)
    pcm = np.clip(found, -32768, 32767).astype("<i2")
    path.write_bytes(pcm.tobytes())
    return pcm


# --- rows ---


def real_time(settings: Settings) -> Row:
    """Streams of silero-vad in real time whose 99th percentile is below a chunk's length."""
    limit = 32000  # us

    def late(port: int, streams: int) -> int:
        found = load(programs, "paced", port, "/vad", streams, CHUNK, limit, seconds, 0, audio)
        tried.append({"port": port, "streams": streams, **found})
        return max(half["p99"] for half in found["halves"])

    def most(port: int, guess: int) -> int:
        """Return the most streams that are in time, in steps of a sixteenth of the guess."""
        step, low = max(guess // 16, 1), 0
        streams = guess
        while True:
            if late(port, streams) < limit:
                low = streams
                if high and low + step >= high[-1]:
                    return low
                streams += step if high else guess // 4
            else:
                high.append(streams)
                if streams <= step or (low and streams - step <= low):
                    return low
                streams -= step

    def bare() -> float:
        program = [sys.executable, ROOT / "bench/bare_vad.py", settings.seconds]
        done = subprocess.run(
            ["taskset", "-c", SERVER_CORE, *map(str, program)],
            check=True,
            capture_output=True,
            text=True,
        )
        return float(done.stdout)

    tried: list[dict[str, Any]] = []
    high: list[int]
    seconds = settings.seconds + 1
    with tempfile.TemporaryDirectory() as directory, compiled("paced") as programs:
        audio = Path(directory, "speech")
        speech(audio)
        before = bare()
        guess = int(0.75 * before * limit / 1e6)
        with start() as server:
            late(PORT, 64)
            high = []
            value = most(PORT, guess)
            log = alerts(server)
        rate = (before + bare()) / 2
        high = []
        with fastapi():
            late(PEER, 8)
            peer = most(PEER, 96)
    ratio = value / (limit / 1e6) / rate
    details = {"bare": rate, "ratio": ratio, "fastapi": peer, "alerts": log, "tried": tried}
    name = f"silero-vad in real time, streams (loop {ratio:.2f}, FastAPI {peer})"
    return Row(name, "≥ 1200, loop ≥ 0.65", value, value >= 1200 and ratio >= 0.65, "", details)


def equal(settings: Settings) -> Row:
    """Streams that begin and end at random, against the model alone."""
    import torch
    from silero_vad import load_silero_vad
    from websockets.asyncio.client import connect

    choose = random.Random(0)
    with tempfile.TemporaryDirectory() as directory:
        samples = speech(Path(directory, "speech"))
    pieces = []
    for _ in range(200):
        chunks = choose.randint(1, 150)
        at = choose.randrange(len(samples) - chunks * 512)
        pieces.append(samples[at : at + chunks * 512])

    async def run(piece: np.ndarray) -> np.ndarray:
        await asyncio.sleep(choose.random() * 5)
        answers = []
        async with connect(f"ws://127.0.0.1:{PORT}/vad", compression=None) as client:
            for at in range(0, len(piece), 512):
                await client.send(piece[at : at + 512].tobytes())
                answers.append(await client.recv())
                if choose.random() < 0.1:
                    await asyncio.sleep(choose.random() * 0.05)
        return np.frombuffer(b"".join(answers), dtype=np.float32)

    async def run_all() -> list[np.ndarray]:
        return await asyncio.gather(*map(run, pieces))

    with start() as server:
        found = asyncio.run(run_all())
        log = alerts(server)
    network = load_silero_vad()
    worst, speaking = 0.0, 0
    for piece, answers in zip(pieces, found, strict=True):
        network.reset_states()
        audio = torch.from_numpy(piece / np.float32(32768)).view(-1, 512)
        with torch.no_grad():
            expected = torch.cat([network(chunk[None], RATE)[:, 0] for chunk in audio]).numpy()
        worst = max(worst, float(abs(expected - answers).max()))
        speaking += int((expected > 0.5).sum())
    details = {"chunks": sum(map(len, found)), "of_them_speech": speaking, "alerts": log}
    met = worst <= 1e-4 and not log
    return Row("outputs of 200 streams and of the model alone", "≤ 0.0001", worst, met, "", details)


def ask(path: str, kind: str, port: int, programs: Path, seconds: float) -> float:
    """Return the answers per second of 64 clients that wait for each of them."""
    body = "[[0.25,0.75]]" if kind == "http" else "[0.25,0.75]"
    rate: float = load(programs, "ask", port, path, kind, 64, seconds, body)["per_second"]
    return rate


def beside_http(settings: Settings) -> Row:
    """A small stream function, against the same as a handler of requests."""
    with start() as server, compiled("ask") as programs:

        def rate(path: str, kind: str) -> float:
            return ask(path, kind, PORT, programs, settings.seconds)

        for path, kind in (("/xor", "websocket"), ("/stateless", "websocket"), ("/output", "http")):
            ask(path, kind, PORT, programs, 1)
        details: dict[str, Any] = between(
            lambda: rate("/xor", "websocket"), lambda: rate("/output", "http"), settings
        )
        details["stateless"] = between(
            lambda: rate("/stateless", "websocket"), lambda: rate("/output", "http"), settings
        )
        details["alerts"] = alerts(server)
    value = median(details["ratios"])
    stateless = median(details["stateless"]["ratios"])
    name = f"64 WebSockets that wait, ratio to HTTP (without a state {stateless:.2f})"
    return Row(name, "≥ 0.90", value, value >= 0.9, "", details)


def beside_fastapi(settings: Settings) -> Row:
    """A small stream function, against FastAPI."""
    with start(), fastapi(), compiled("ask") as programs:

        def rate(port: int) -> float:
            return ask("/xor", "websocket", port, programs, settings.seconds)

        rate(PORT)
        details = between(lambda: rate(PORT), lambda: rate(PEER), settings)
    value = median(details["ratios"])
    return Row("64 WebSockets that wait, ratio to FastAPI", "≥ 8", value, value >= 8, "", details)


@contextmanager
def duplex(programs: Path, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """Run a client that stops at marks."""
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(
        command(programs, "duplex", *arguments), text=True, bufsize=1, **pipes
    ) as client:
        yield client
        client.communicate()


def at_mark(client: "subprocess.Popen[str]") -> None:
    """Wait until the client has reached a mark."""
    assert client.stdout
    assert client.stdout.readline() == "mark\n", "a client failed"


def go_on(client: "subprocess.Popen[str]") -> None:
    """Let the client continue."""
    assert client.stdin
    client.stdin.write("\n")


def long_http2(settings: Settings) -> Row:
    """Streams over one connection; the growth of memory between their chunks 1000 and 10,000.

    A first run does not count: the thread that slow calls are moved to starts at any chunk of it.
    """
    with start() as server, compiled("duplex") as programs:
        growth = []
        for _ in range(1 + settings.repeat):
            arguments = (HTTP2, "/small", "http2", 100, 10000, 8, 32, 1000, 0)
            with duplex(programs, *arguments) as client:
                at_mark(client)
                before = megabytes(worker(server))
                go_on(client)
                at_mark(client)
                growth.append(megabytes(worker(server)) - before)
                go_on(client)
            assert client.returncode == 0, "an answer was wrong"
        log = alerts(server)
    first, *growth = growth
    value = max(growth)
    name = "100 streams over one HTTP/2 connection, 10,000 chunks each, growth"
    met = value < 1 and not log
    return Row(
        name, "< 1 MB", value, met, "of MB", {"first": first, "megabytes": growth, "alerts": log}
    )


def hour(settings: Settings) -> Row:
    """An hour of audio with a pause, at the default limits; the streams that were not whole."""
    pause = 2 if QUICK else 90
    seconds, failed = {}, []
    with start() as server, compiled("duplex") as programs:
        for kind in MANY:
            port = HTTP2 if kind == "http2" else PORT
            begin = time.perf_counter()
            arguments = (port, "/audio", kind, 1, HOUR, CHUNK, 64, HOUR // 2, pause)
            with duplex(programs, *arguments) as client:
                try:
                    for _ in range(2):
                        at_mark(client)
                        go_on(client)
                except AssertionError:
                    failed.append(kind)
            if client.returncode:
                failed.append(kind)
            seconds[kind] = time.perf_counter() - begin
        log = alerts(server)
    details = {"pause": pause, "seconds": seconds, "failed": failed, "alerts": log}
    name = f"an hour of audio with a pause of {pause} s, not whole of 3"
    return Row(name, "0", len(set(failed)), not failed and not log, "", details)


def slow_readers(settings: Settings) -> Row:
    """The 99th percentile of 100 clients when 100 others stop to read, against before."""
    ratios, found, memory = [], [], []
    # small buffers of the kernel, so that they are full soon
    small = start(listen="sndbuf=32k rcvbuf=32k")
    with tempfile.NamedTemporaryFile() as rows, small as server, compiled("paced") as programs:
        rows.write(np.zeros(65536, dtype="<f4").tobytes())
        rows.flush()
        pid = worker(server)
        seconds = max(2 * settings.seconds, 8)
        for _ in range(settings.repeat):
            before = most = megabytes(pid)
            arguments = (PORT, "/wide", 200, 4096, 40000, seconds, 100, rows.name)
            client = command(programs, "paced", *arguments)
            with subprocess.Popen(client, stdout=subprocess.PIPE, text=True) as process:
                while process.poll() is None:
                    most = max(most, megabytes(pid))
                    time.sleep(0.1)
                assert process.stdout
                found.append(json.loads(process.stdout.read()))
            memory.append(most - before)
            first, second = found[-1]["halves"]
            ratios.append(second["p99"] / first["p99"])
            assert found[-1]["blocked"], "no client was held up"
        log = alerts(server)
    value = median(ratios)
    details = {"ratios": ratios, "megabytes": memory, "clients": found, "alerts": log}
    met = value <= 1.5 and max(memory) < 64 and not log
    return Row("p99 of others beside 100 slow readers", "≤ 1.5", value, met, "", details)


def killed(settings: Settings) -> Row:
    """Clients that are killed at random; what is wrong afterwards."""
    seconds = 5 if QUICK else 60
    choose = random.Random(0)
    streams, kills = 8, 0

    def facts() -> dict[str, int]:
        with urllib.request.urlopen(server.url("/facts")) as answer:
            found: dict[str, int] = json.loads(answer.read())
            return found

    def begin() -> "subprocess.Popen[bytes]":
        kind = choose.choice(MANY)
        port = HTTP2 if kind == "http2" else PORT
        ahead = choose.choice((0, 1, 8))
        return subprocess.Popen(
            command(programs, "duplex", port, "/counted", kind, streams, 10**9, 8, ahead, 10**9, 0),
            stdin=subprocess.DEVNULL,
        )

    with start() as server, compiled("duplex") as programs:
        pid = worker(server)
        facts()
        before = descriptors(pid)
        clients = [begin() for _ in range(12)]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(choose.random() * 0.1)
            at = choose.randrange(len(clients))
            assert clients[at].poll() is None, "a client ended by itself"
            clients[at].kill()
            clients[at].wait()
            clients[at] = begin()
            kills += 1
        for client in clients:
            client.kill()
            client.wait()
        deadline = time.monotonic() + 30
        while (found := facts())["closed"] < found["opened"] and time.monotonic() < deadline:
            time.sleep(0.1)
        # as many streams as there are rows, twice
        for _ in range(2):
            with duplex(programs, PORT, "/counted", "websocket", 256, 2, 8, 1, 1, 0) as client:
                for _ in range(2):
                    at_mark(client)
                    go_on(client)
            assert client.returncode == 0, "rows were not given back"
        deadline = time.monotonic() + 30
        while descriptors(pid) > before and time.monotonic() < deadline:
            time.sleep(0.1)
        wrong = {
            "not closed": found["opened"] - found["closed"],
            "closed twice": int(found["most"] > 1),
            "descriptors": max(descriptors(pid) - before, 0),
            "alerts": len(alerts(server)),
            "workers that crashed": int(worker(server) != pid),
        }
    details = {"kills": kills, "facts": found, "wrong": wrong, "seconds": seconds}
    value = sum(wrong.values())
    name = f"{kills} clients of {streams} streams killed in {seconds} s, faults"
    return Row(name, "0", value, value == 0, "", details)


def resume(settings: Settings) -> Row:
    """Streams whose workers are killed; how many of them differ from what they should be."""
    sys.path.append(str(ROOT / "tests/support"))
    from resuming import stream

    choose = random.Random(0)
    streams, chunks = (10, 300) if QUICK else (50, 3000)
    audio = np.random.default_rng(0).integers(-100, 100, (streams, chunks, 4)).tolist()
    url = f"ws://127.0.0.1:{PORT}/again"
    kills = 0

    def run(rows: list[list[int]]) -> bool:
        """Return whether the answers are those of a stream without an interruption."""
        found = list(stream(url, rows))
        sums = np.cumsum([sum(row) for row in rows]).tolist()
        return found == [[n, total] for n, total in enumerate(sums, 1)]

    location = "location = /again { webtorch_handler streams_app:small_sums resume=60s; }"
    zone = "webtorch_zone models:16m;"
    begin = time.perf_counter()
    with (
        Server(
            LOCATIONS + location, "/output", 2, http=f"webtorch_path {ROOT}/examples/vad;{zone}"
        ) as server,
        ThreadPoolExecutor(streams) as pool,
    ):
        running = [pool.submit(run, rows) for rows in audio]
        while not all(each.done() for each in running):
            time.sleep(1)
            # a worker that was killed just now may still be listed
            with suppress(ProcessLookupError):
                os.kill(choose.choice(server.children()), signal.SIGKILL)
                kills += 1
        wrong = sum(not each.result() for each in running)
        expected = ("exited on signal 9", "exited while webtorch handler")
        log = [line for line in alerts(server) if not any(text in line for text in expected)]
    details = {"kills": kills, "seconds": time.perf_counter() - begin, "alerts": log}
    name = f"{streams} streams of {chunks} chunks, {kills} workers killed, that differ"
    return Row(name, "0", wrong, wrong == 0 and not log, "", details)


def drift(settings: Settings) -> Row:
    """The example that learns from a log; samples until it is told that paths have changed."""
    text = (ROOT / "nginx-conf/drift.conf").read_text()
    _, own, site = text.split("    server {\n")
    own = own[own.index("        webtorch_set") : own.rindex("    }\n\n    # in place")]
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        release = Path(directory, "release")

        def placed(text: str) -> str:
            text = text.replace("127.0.0.1:3002", f"127.0.0.1:{PEER}")
            return text.replace("build/run/release", str(release))

        http = f"webtorch_path {ROOT}/examples/drift;server {{\n{placed(site[: site.rindex('}')])}"
        locations = "location = /output { webtorch_handler xor_app:output; }" + placed(own)
        choose = random.Random(1)
        with Server(locations, "/output", http=http) as server:
            client = HTTPConnection("127.0.0.1", PORT)

            def report() -> dict[str, float]:
                with urllib.request.urlopen(server.url("/drift")) as answer:
                    found: dict[str, float] = json.loads(answer.read())
                    return found

            def visit(count: int) -> float:
                """Send requests, wait until they are learned; return the share of errors."""
                before = report()
                for _ in range(count):
                    client.request("GET", choose.choice(("/search", "/cart", "/news")))
                    client.getresponse().read()
                while (after := report())["samples"] < before["samples"] + count:
                    time.sleep(0.05)
                totals = [each["mean_error"] * each["samples"] for each in (before, after)]
                return (totals[1] - totals[0]) / count

            visit(600)
            early = report()["drifts"]
            release.touch()
            told, seen, back = 0, 0, 0
            while not back and seen < 10_000:
                wrong = visit(50)
                seen += 50
                told = told or seen * (report()["drifts"] > 0)
                back = seen * (told > 0 and wrong < 0.05)
            log = alerts(server)
    details = {"back": back, "early": early, "alerts": log}
    met = told <= 500 and back <= 2000 and not early and not log
    return Row(
        f"samples until a drift is reported (accuracy back after {back})",
        "≤ 500",
        told,
        met,
        "",
        details,
    )


ROWS: dict[str, Measure] = {
    "real-time": real_time,
    "equal": equal,
    "http": beside_http,
    "fastapi": beside_fastapi,
    "long": long_http2,
    "hour": hour,
    "slow": slow_readers,
    "killed": killed,
    "resume": resume,
    "drift": drift,
}


if __name__ == "__main__":
    main(__doc__, "streams", ROWS)
