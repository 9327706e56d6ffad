"""What webtorch.detect reaches on labelled requests, and what a request costs.

    .venv/bin/python bench/detect.py [DIRECTORY]

DIRECTORY, or else $WEBTORCH_DETECT_DATA, or else ../shared/detect, has train.tsv.gz and dev.tsv.gz.
Rates are of the attacks in dev, at thresholds at which a part of its normal requests is denied.
"""

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from webtorch.detect import PayloadClassifier, table

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("csic2010", "torpeda", "httpparams")
FEW, DRAWS = 200, 6


def read(path: Path, mend: bool) -> list[table.Request]:
    """Read a table, without what is odd but harmless, in random order.

    In csic2010 all attacks end with a carriage return, and no normal request does: a trace of how
    the set was copied, and not of attacks. It is mended unless it is asked to be kept.
    """
    requests = [each for each in table.read(path) if each.label != 2]
    if mend:
        requests = [
            replace(
                each,
                path=each.path.removesuffix("%0D"),
                arguments=each.arguments.removesuffix("%0D"),
            )
            for each in requests
        ]
    order = torch.randperm(len(requests), generator=torch.Generator().manual_seed(0))
    return [requests[index] for index in order]


def detected(classifier: PayloadClassifier, bytes: Tensor, labels: Tensor, denied: float) -> float:
    """Return the part of attacks above the score of all but a part of the normal requests."""
    with torch.no_grad():
        scores = torch.cat([classifier.logits(part) for part in bytes.split(256)])
    normal = scores[labels == 0].sort(descending=True).values
    threshold = normal[int(denied * len(normal))]
    return float((scores[labels == 1] > threshold).float().mean())


def microseconds(classifier: PayloadClassifier, bytes: Tensor) -> float:
    """Return the time that a request takes of a processor, in batches of 32."""
    with torch.no_grad():
        for _ in range(50):
            classifier(bytes)
        begin = time.process_time()
        for _ in range(300):
            classifier(bytes)
    return (time.process_time() - begin) / 300 / len(bytes) * 1e6


def show(name: str, rates: dict[str, float]) -> None:
    cells = " | ".join(
        f"{100 * rates[source]:.1f}" if source in rates else "" for source in SOURCES
    )
    print(f"| {name} | {cells} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = os.environ.get("WEBTORCH_DETECT_DATA", ROOT.parent / "shared/detect")
    parser.add_argument("directory", type=Path, nargs="?", default=Path(default))
    parser.add_argument("--raw", action="store_true", help="leave csic2010 as it is")
    options = parser.parse_args()
    torch.set_num_threads(1)

    train = read(options.directory / "train.tsv.gz", not options.raw)
    dev = {
        source: table.tensors([each for each in all_dev if each.source == source])
        for all_dev in [read(options.directory / "dev.tsv.gz", not options.raw)]
        for source in SOURCES
    }
    of = {source: [each for each in train if each.source == source] for source in SOURCES}

    print(f"| detected, % | {' | '.join(SOURCES)} |\n|---|---|---|---|")
    shipped = PayloadClassifier.pretrained()
    show("shipped weights, 0.1 % denied", {s: detected(shipped, *dev[s], 0.001) for s in SOURCES})

    own, adapted = {}, {}
    for source in SOURCES:
        classifier = PayloadClassifier()
        classifier.fit(*table.tensors(of[source]))
        own[source] = detected(classifier, *dev[source], 0.001)
        classifier.adapt(*table.tensors(of[source]), decay=1e-4)
        adapted[source] = detected(classifier, *dev[source], 0.001)
    show("trained on the same source, 0.1 %", own)
    show("and adapted to it, 0.1 %", adapted)

    without = {}
    for source in SOURCES:
        classifier = PayloadClassifier()
        classifier.fit(*table.tensors([each for each in train if each.source != source][:20000]))
        without[source] = detected(classifier, *dev[source], 0.005)
        if source == "csic2010":
            few = []
            for draw in range(DRAWS):
                some = of[source][draw * FEW : (draw + 1) * FEW]
                classifier.adapt(*table.tensors(some))
                few.append(detected(classifier, *dev[source], 0.005))
    show("trained without the source, 0.5 %", without)
    show(f"and adapted to {FEW} of it, mean of {DRAWS}, 0.5 %", {"csic2010": sum(few) / DRAWS})
    print(f"\nadapted to {FEW}: {' '.join(f'{100 * rate:.1f}' for rate in few)} %")

    normal = dev["csic2010"][0][dev["csic2010"][1] == 0][:32].contiguous()
    print(f"a request takes {microseconds(shipped, normal):.1f} µs")
    classifier.adapt(*dev["csic2010"])
    print(f"and adapted to a site {microseconds(classifier, normal):.1f} µs")


if __name__ == "__main__":
    main()
