"""Floods below any limit for each address, and crowds, with webtorch.detect.

    .venv/bin/python bench/flood.py [--only NAME ...] [--calm 8 300] [--seeds 1 2 3] [--json FILE]
    .venv/bin/python bench/flood.py --real [--only NAME ...] [--defences detector limit_req]

200 people read pages with their assets, 12 pages on average; another one with another address
follows who leaves (--stay: none leaves). After --calm seconds a flood begins, see
bench/floods/scenarios.py. The site takes 40 ms for a page and 5 ms for an asset, 16 at a time, with
a queue of 400: about 400 pages a second. A request of a person is served well if it is answered
with 200 within a second. Rates are over the flood but for its first second.

Time is simulated: the detector and nginx's code for its features are real, nginx and the network
are not. With --real all of them are, and people and attackers have addresses of 127.0.0.0/8.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from floods import network, simulation
from floods.report import Report
from floods.scenarios import SCENARIOS, Scenario

GOALS = {"served well": 95.0, "denied": 1.0}


def runs(options: argparse.Namespace) -> list[tuple[str, Callable[[Scenario, float, int], Report]]]:
    """Return what is measured for each scenario: its name, and a function."""
    if options.real:
        return [
            (
                defence,
                lambda scenario, calm, seed, defence=defence: network.measure(  # type: ignore[misc]
                    scenario, defence, calm, seed, options.stay
                ),
            )
            for defence in options.defences
        ]
    torch.set_num_threads(1)  # as in a worker
    with tempfile.TemporaryDirectory() as directory:
        c = simulation.build(Path(directory))
    return [
        (
            "detector",
            lambda scenario, calm, seed: simulation.simulate(
                scenario, calm, seed, c, simulation.Options(options.stay, options.scale)
            ),
        )
    ]


def show(row: dict[str, object], rates: dict[str, float]) -> None:
    good = rates["served well"] >= GOALS["served well"] and rates["denied"] <= GOALS["denied"]
    cells = [*(str(value) for value in row.values()), *(f"{value:.2f}" for value in rates.values())]
    print(f"| {' | '.join(cells)} | {'yes' if good else 'no'} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--calm", nargs="+", type=float, default=[8.0, 300.0], help="seconds")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--stay", action="store_true", help="no person leaves")
    parser.add_argument("--scale", type=float, default=1, help="of site, people and floods")
    parser.add_argument("--real", action="store_true", help="nginx, in real time")
    parser.add_argument(
        "--defences", nargs="+", choices=network.DEFENCES, default=["detector"], help="with --real"
    )
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--site", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.site:
        asyncio.run(network.serve_site())
        return

    rows = []
    print(
        "| flood | defence | calm seconds | seed | people served well % | people denied % "
        "| attack let through % | goal |\n|---|---|---|---|---|---|---|---|"
    )
    measured = runs(options)
    for name in options.only:
        for defence, run in measured:
            for calm in options.calm:
                for seed in options.seeds:
                    row = {"flood": name, "defence": defence, "calm": calm, "seed": seed}
                    rates = run(SCENARIOS[name], calm, seed).rates()
                    show(row, rates)
                    rows.append({**row, **rates})
    if options.json:
        found = {
            **{"real": options.real, "stay": options.stay, "scale": options.scale},
            "rows": rows,
        }
        found["date"] = time.strftime("%F", time.gmtime())
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
