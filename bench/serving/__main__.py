"""Compares WebTorch with other servers of models: the same networks, bodies and client.

Usage: .venv/bin/python bench/serving --cache DIRECTORY [--only NAME] [--row NAME] [--seconds 3]

The first run installs the peers in DIRECTORY, which takes 20 minutes and 9 GB; then all of it takes
about 20 minutes. See bench/README.md.
"""

import argparse
import datetime
import json
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent / "apps"))

import report
from environments import ENVIRONMENTS, install
from measure import ROWS, Cell, measure
from servers import PEERS, ROOT, Peer
from table import machine


def compare(
    name: str, options: argparse.Namespace, rows: list[str]
) -> tuple[str, dict[str, Cell] | str]:
    """Return a server's name and its cells, or why there are none."""
    kind = PEERS[name]
    cache: Path = options.cache.resolve()
    if kind.environment and (why := install(kind.environment, cache, options.python)):
        return kind.name, why
    starts = []
    cells: dict[str, Cell] = {}
    try:
        # the first start compiles Python and fills the caches
        for _ in range(1 + options.starts if "start" in rows else 1):
            with kind(cache) as peer:
                starts.append(peer.start_seconds)
                if len(starts) == 1:
                    cells = measure(peer, rows, options.seconds, options.repeat)
    except RuntimeError as error:
        return kind.name, str(error)
    if "start" in rows:
        cells["start"] = Cell(median(starts[1:]), details={"seconds": starts})
    return kind.name, cells


def versions(peer: type[Peer]) -> list[str]:
    """Return the packages that a server is made of, with their versions."""
    if not peer.environment:
        return []
    wanted = ENVIRONMENTS[peer.environment]
    return [*wanted.packages, *wanted.debian]


def main() -> None:
    """Measure, print the table, and write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cache", type=Path, required=True, help="folder of the peers")
    parser.add_argument("--python", default="/usr/bin/python3", help="interpreter of the peers")
    parser.add_argument("--only", choices=PEERS, action="append", help="measure just this server")
    parser.add_argument("--row", choices=ROWS, action="append", help="measure just this row")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--output", type=Path, help="by default bench/results/DATE-serving")
    parser.add_argument("--page", action="store_true", help="write docs/performance.md, too")
    options = parser.parse_args()
    rows = options.row or list(ROWS)

    cells: report.Cells = {}
    unavailable = {}
    for key in options.only or PEERS:
        name, found = compare(key, options, rows)
        if isinstance(found, str):
            unavailable[name] = found
            print(f"{name}: {found}", file=sys.stderr, flush=True)
        else:
            cells[name] = found
            values = ", ".join(f"{row} {report.text(cell)}" for row, cell in found.items())
            print(f"{name}: {values}", file=sys.stderr, flush=True)

    table, notes = report.table(cells, rows), report.notes(cells, rows, unavailable)
    print("\n\n".join([table, *notes]))
    if (options.only or options.row) and not options.output:
        return
    today = datetime.date.today().isoformat()
    about = machine()
    path = options.output or ROOT / f"bench/results/{today}-serving"
    settings = {key: getattr(options, key) for key in ("seconds", "repeat", "starts")}
    result = {
        "date": today,
        "machine": about,
        "settings": settings,
        "versions": {peer.name: versions(peer) for peer in PEERS.values()},
        "servers": {
            name: {row: asdict(cell) for row, cell in found.items()}
            for name, found in cells.items()
        },
        "unavailable": unavailable,
    }
    path.with_suffix(".json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    title = f"{about['cpu']}, {about['cores']} cores, one worker each, {today}"
    runs = f"the median of {options.repeat} runs" if options.repeat > 1 else "of one run"
    if options.page:
        report.plot(cells, rows, ROOT / "docs/performance", title, (".svg",))
        report.write_page(
            ROOT / "docs/performance.md",
            [
                f"{title}. Each value is {runs} of {options.seconds:g} s, those of the start are "
                f"medians of {options.starts} (`--seconds {options.seconds:g} --repeat "
                f"{options.repeat} --starts {options.starts}`). The best one of each column is "
                f"bold; `*` has failures.",
                table,
                *notes,
            ],
        )
    report.plot(cells, rows, path, title)
    print(f"\nwritten to {path}.json, .svg and .png")


if __name__ == "__main__":
    main()
