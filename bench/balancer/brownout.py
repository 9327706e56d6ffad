"""Draws which share of the requests a server gets that is slow for a time, with each method.

usage: brownout.py [--seconds 24] [--plot docs/brownout.svg]

It is the scenario "brownout" of run.py. What was measured is written to bench/results.
"""

import argparse
import datetime
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from run import METHODS, ROOT, SCENARIOS, measure

SHOWN = ("round robin", "least_conn", "webtorch")
COLOURS = {"round robin": "#b7791f", "least_conn": "#4a6fa5", "webtorch": "#2f6f4f"}
STEP = 0.5
"""Seconds of a point of the curves."""


def series(method: str, seconds: float) -> dict[str, list[float]]:
    """Return the slow server's share of requests, and the mean latency, for each step of time."""
    scenario = SCENARIOS["brownout"]
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        log = Path(directory) / "log"
        results = measure(scenario, METHODS[method], seconds, f"{log} server")
        lines = [line.replace(",", "").split() for line in log.read_text().splitlines()]
    slow = int(scenario.events[0][1]["server"])
    # the time when a request came, and the port of its first server, one after the other
    picks = [
        (float(end) - float(taken), int(server.rpartition(":")[2]))
        for end, taken, server, *_ in lines
        if ":" in server
    ]
    first = min(port for _, port in picks)
    begin = min(at for at, _ in picks)
    shares, latencies = [], []
    for number in range(int(seconds / STEP)):
        low, high = number * STEP, (number + 1) * STEP
        ports = [port for at, port in picks if low <= at - begin < high]
        times = [latency for at, latency, _ in results if low <= at < high]
        shares.append(ports.count(first + slow) / len(ports) if ports else 0.0)
        latencies.append(statistics.mean(times) if times else 0.0)
    return {"share": shares, "latency": latencies}


def panel(top: int, title: str, unit: str, most: float, ticks: list[float]) -> list[str]:
    """Draw the frame of a panel; a tick is a value with its line."""
    lines = [f'<text class="name" x="70" y="{top - 12}">{title}</text>']
    for tick in ticks:
        y = top + 150 - 150 * tick / most
        lines.append(f'<path class="grid" d="M70,{y:.1f} H710"/>')
        lines.append(
            f'<text class="note" x="62" y="{y + 4:.1f}" text-anchor="end">{tick:g}{unit}</text>'
        )
    return lines


def draw(measured: dict[str, dict[str, list[float]]], seconds: float) -> str:
    """Return the picture as SVG."""
    most = max(max(values["latency"]) for values in measured.values()) * 1000
    most = max(200.0, -(-most // 200) * 200)
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 850 470" '
        'font-family="system-ui, sans-serif" font-size="13">',
        "<title>Shares and times while one of five servers is slow</title>",
        "<style>.name { font-weight: 600 } .note { font-size: 12px; fill: #52606d } "
        "text { fill: #1f2933 } .grid { stroke: #d9dfe5 } .slow { fill: #f7e3e3 } "
        ".curve { fill: none; stroke-width: 2 }</style>",
        '<rect width="850" height="470" fill="#ffffff"/>',
    ]
    for top in (40, 250):
        lines.append(
            f'<rect class="slow" x="{70 + 640 / 3:.0f}" y="{top}" width="213" height="150"/>'
        )
    lines += panel(40, "Requests that the slow server gets", " %", 30, [0, 10, 20, 30])
    lines += panel(250, "Mean time of a request", " ms", most, [0, most / 2, most])
    for number, (method, values) in enumerate(measured.items()):
        for top, key, scale in ((40, "share", 100 / 30), (250, "latency", 1000 / most)):
            points = [
                f"{70 + 640 * (at + 0.5) * STEP / seconds:.1f},"
                f"{top + 150 - 150 * min(1.0, value * scale):.1f}"
                for at, value in enumerate(values[key])
            ]
            lines.append(
                f'<path class="curve" stroke="{COLOURS[method]}" d="M{" L".join(points)}"/>'
            )
        y = 60 + 22 * number
        lines.append(f'<path class="curve" stroke="{COLOURS[method]}" d="M722,{y - 4} h18"/>')
        lines.append(f'<text x="746" y="{y}">{method}</text>')
    for second in range(0, int(seconds) + 1, 4):
        x = 70 + 640 * second / seconds
        lines.append(
            f'<text class="note" x="{x:.0f}" y="418" text-anchor="middle">{second} s</text>'
        )
    lines.append(
        '<text class="note" x="70" y="448">Shaded: one of five servers takes ten times as long. '
        "280 requests in a second, at random times.</text>"
    )
    return "\n".join([*lines, "</svg>", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=24)
    parser.add_argument("--plot", type=Path, default=ROOT / "docs/brownout.svg")
    arguments = parser.parse_args()

    measured = {method: series(method, arguments.seconds) for method in SHOWN}
    today = datetime.date.today().isoformat()
    results: dict[str, Any] = {"date": today, "seconds": arguments.seconds, "step": STEP}
    results["methods"] = {
        method: {key: [round(value, 4) for value in values] for key, values in each.items()}
        for method, each in measured.items()
    }
    file = ROOT / f"bench/results/{today}-brownout.json"
    file.write_text(json.dumps(results) + "\n")
    arguments.plot.write_text(draw(measured, arguments.seconds))
    third = int(arguments.seconds / STEP / 3)
    for method, each in measured.items():
        share = statistics.mean(each["share"][third + 2 : 2 * third])
        latency = statistics.mean(each["latency"][third : 2 * third]) * 1000
        print(f"{method}: {share:.1%} of the requests, {latency:.0f} ms while one server is slow")


if __name__ == "__main__":
    main()
