"""Tables of measurements: rows with targets, printed and written with the machine's description."""

import argparse
import datetime
import json
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import torch

import wrk
from server import NGINX, ROOT, Server


@dataclass
class Row:
    """One line of the table: the measured value and what it should be."""

    name: str
    target: str
    value: float
    met: bool
    unit: str = ""
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """How long and how often to measure."""

    seconds: float
    repeat: int


Measure = Callable[[Settings], Row]


def compare(
    server: Server, path: str, settings: Settings, reference: str = "/ok", **load: object
) -> dict[str, list[float]]:
    """Measure a location between two measurements of the reference, several times."""
    for each in (path, reference):
        warm_up = wrk.run(server.url(each), 1, **load)
        assert warm_up.errors == 0, f"{each} answers with errors: {warm_up}"

    def rate(path: str) -> float:
        return wrk.run(server.url(path), settings.seconds, **load).per_second

    return between(lambda: rate(path), lambda: rate(reference), settings)


def between(
    measure: Callable[[], float], reference: Callable[[], float], settings: Settings
) -> dict[str, list[float]]:
    """Measure rates, each between two measurements of the reference."""
    ratios, rates = [], []
    before = reference()
    for _ in range(settings.repeat):
        rate = measure()
        after = reference()
        ratios.append(rate / ((before + after) / 2))
        rates.append(rate)
        before = after
    return {"ratios": ratios, "requests_per_second": rates}


def compare_to_loop(
    server: Server, path: str, program: str, settings: Settings, **load: object
) -> dict[str, list[float]]:
    """Measure a location between two runs of the same work in a bare loop, several times."""
    wrk.run(server.url(path), 2, **load)
    ratios = []
    for _ in range(settings.repeat):
        before = bare_loop(program, settings.seconds)
        rate = wrk.run(server.url(path), settings.seconds, **load).per_second
        ratios.append(rate / ((before + bare_loop(program, settings.seconds)) / 2))
    return {"ratios": ratios}


def bare_loop(program: str, seconds: float) -> float:
    """Return the calls per second of a process that does nothing else, on one core."""
    command = ["taskset", "-c", "1", sys.executable, ROOT / "bench" / program, str(seconds)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def at_least(name: str, target: float, ratios: Mapping[str, list[float]]) -> Row:
    """Make the row of a ratio to a reference."""
    value = median(ratios["ratios"])
    return Row(name, f"≥ {target:.2f}", value, value >= target, details=dict(ratios))


def machine() -> dict[str, object]:
    """Describe what was measured on."""

    def output(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        return (done.stdout + done.stderr).strip()

    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return {
        "cpu": cpu[0].partition(":")[2].strip(),
        "cores": len(cpu),
        "kernel": platform.release(),
        "nginx": output(NGINX, "-v"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": output("git", "rev-parse", "--short", "HEAD"),
        "modified": bool(output("git", "status", "--porcelain", "--untracked-files=no")),
    }


def main(description: str | None, name: str, rows: Mapping[str, Measure], repeat: int = 3) -> None:
    """Measure what the command line asks for; write bench/results/DATE-NAME.json."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--only", choices=rows, action="append", help="measure just this row")
    parser.add_argument("--repeat", type=int, default=repeat)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--json", type=Path, help="where to write, by default in bench/results")
    options = parser.parse_args()
    settings = Settings(options.seconds, options.repeat)

    print("| | measured | target | |\n|---|---|---|---|")
    measured = []
    for key in options.only or rows:
        row = rows[key](settings)
        measured.append(row)
        value = f"{row.value:.0f}" if row.unit in ("µs", "MB") or row.target == "0" else None
        value = value or f"{row.value:.2f}"
        met = "ok" if row.met else "MISSED"
        print(f"| {row.name} | {value} {row.unit} | {row.target} | {met} |", flush=True)

    today = datetime.date.today().isoformat()
    path = options.json or ROOT / f"bench/results/{today}-{name}.json"
    if options.only and not options.json:
        return
    report = {"date": today, "machine": machine(), "settings": asdict(settings)}
    report["rows"] = [asdict(row) for row in measured]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    print(f"\nwritten to {path}")
