"""Trains a net on the fields of requests, and reports it by leaving sites and lists out.

    .venv/bin/python bench/guard/train.py [--folds 4] [--only FOLD ...] [--out weights.safetensors]

Data: recorded requests of real-dev.jsonl.gz (MIT, Apache-2.0 and BSD, see its README), attacks of
HttpParamsDataset (MIT) in train.tsv.gz, lists of the OWASP Core Rule Set (Apache-2.0), names and
prose of Faker (MIT), and templates in normal.py and attacks.py. A fold is tested on sites, rules
and lists that it has not learned. Thresholds are those at which a share of its normal requests is
denied. With --out a FieldClassifier of webtorch.detect is written that has learned all of it. Needs
the package faker, and the lists' folder as $CRS_RULES.
"""

import argparse
import collections
import functools
import hashlib
import os
import random
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote_plus

import attacks
import model
import normal
import numpy as np
import places
import torch
import traffic
from reading import ROOT, Reader
from traffic import Row

from webtorch.detect import table

SHARED = Path(os.environ.get("WEBTORCH_DETECT_DATA", ROOT.parent / "shared/detect"))
REAL = SHARED / "real-dev.jsonl.gz"
TABLE = SHARED / "train.tsv.gz"
RECORDED = ("form", "graphql", "json", "multipart", "other", "page", "query", "xml")
SHARES = (0.001, 0.005, 0.01)
DATA = (
    "recorded requests and attacks of real-dev (MIT, Apache-2.0, BSD), attacks of HttpParamsDataset"
    " (MIT), lists of the OWASP Core Rule Set (Apache-2.0), Faker (MIT), templates of WebTorch"
)
GENERATED = 40  # groups of generated requests


def fold_of(group: str, folds: int) -> int:
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % folds


@functools.cache
def httpparams() -> list[tuple[str, str]]:
    """Return attacks of HttpParamsDataset (MIT)."""
    return [
        (unquote_plus(each.arguments.partition("=")[2]), each.type)
        for each in table.read(TABLE)
        if each.source == "httpparams" and each.label == 1
    ]


def generated(real: list[Row], normals: int, bad: int, seed: int) -> list[Row]:
    """Return requests that are made of recorded ones and values."""
    rng = random.Random(seed)
    bases = [each for each in real if each.label == 0 and each.kind != "crs-negative"]
    payloads = [each for each in real if each.payload]
    by_site = collections.defaultdict(list)
    for each in bases:
        by_site[each.group].append(each)
    sites = sorted(by_site)
    others = httpparams()
    made = []
    for number in range(normals):
        base = rng.choice(by_site[rng.choice(sites)]).request
        value, kind, names = normal.value(rng)
        chosen = names or traffic.NAMES
        if rng.random() < 0.1:
            chosen = (places.key(rng),)
        place = rng.choice(traffic.PLACES)
        if place in ("path", "header", "cookie") and rng.random() < 0.6:
            place = rng.choice(("query", "form", "json", "multipart"))
        request = traffic.put(value, place, base, rng, chosen)
        if rng.random() < 0.5:
            request = replace(request, path=places.path(rng).encode())
        if rng.random() < 0.6:
            kept = [each for each in request.headers if each[0].lower() != b"user-agent"]
            request = replace(
                request, headers=[*kept, (b"User-Agent", places.user_agent(rng).encode())]
            )
        made.append(Row(request, 0, "made", f"made{number % GENERATED}", kind, place))
    for number in range(bad):
        base = rng.choice(by_site[rng.choice(sites)]).request
        if rng.random() < 0.3:
            base = replace(base, path=places.path(rng).encode())
        if payloads and rng.random() < 0.4:
            row = rng.choice(payloads)
            payload, family = row.payload, row.family
        elif others and rng.random() < 0.15:
            payload, family = rng.choice(others)
        else:
            payload, family = attacks.payload(rng)
            if len(payload) < 5:
                continue
        place = rng.choice(traffic.PLACES)
        share = rng.random()
        if share < 0.015:
            payload, family, place = attacks.scanner(rng), "scanner", "header"
            kept = [each for each in base.headers if each[0].lower() != b"user-agent"]
            request = replace(base, headers=[*kept, (b"User-Agent", payload.encode())])
        elif share < 0.05:
            request = replace(base, path=rng.choice(attacks.PATHS).encode())
            family, place = "scanner", "path"
        else:
            if rng.random() < 0.25 and place != "path":
                payload = traffic.filler(rng) + rng.choice(["", " ", ""]) + payload
            request = traffic.put(payload, place, base, rng)
        made.append(Row(request, 1, "made", f"bad{number % GENERATED}", family, place))
    return made


def train_rows(real: list[Row], held: "set[str]", options: argparse.Namespace) -> list[Row]:
    kept = [each for each in real if each.group not in held and each.site not in held]
    return kept + generated(kept, options.normal, options.attacks, 1)


def report(rows: list[Row], scores: np.ndarray) -> list[float]:
    """Print a table, and return the logits at which `SHARES` of normal requests are denied."""
    labels = np.array([each.label for each in rows])
    kinds = np.array([each.kind for each in rows])
    recorded = (labels == 0) & ~np.isin(
        kinds, ("crs-negative", "gotestwaf-falsepos", "upload", "tensor")
    )
    normals = np.sort(scores[recorded])[::-1]
    thresholds = [float(normals[int(share * len(normals))]) for share in SHARES]
    print("| | n | at 0.1 % | 0.5 % | 1 % |\n|---|---|---|---|---|")

    def line(name: str, mask: np.ndarray) -> None:
        if mask.any():
            rates = " | ".join(f"{100 * np.mean(scores[mask] > each):.2f}" for each in thresholds)
            print(f"| {name} | {mask.sum()} | {rates} |", flush=True)

    line("normal", recorded)
    for kind in sorted(set(kinds[labels == 0])):
        line(f"normal {kind}", (labels == 0) & (kinds == kind))
    for kind in sorted(set(kinds[labels == 1])):
        mask = (labels == 1) & (kinds == kind)
        line(f"**{kind}**", mask)
        for what in ("place", "family"):
            values = np.array([getattr(each, what) for each in rows])
            for value in sorted(set(values[mask])):
                line(f"{kind} {value}", mask & (values == value))
    print("thresholds", " ".join(f"{each:.2f}" for each in thresholds))
    return thresholds


def trained(
    rows: list[Row], reader: Reader, options: argparse.Namespace
) -> tuple[model.Net, model.Words, model.Data]:
    begin = time.time()
    data = model.Data([reader.read(each.request) for each in rows])
    words = model.Words(data, [each.group for each in rows], options.least)
    print(f"{len(rows)} requests, {len(words)} numbers", time.time() - begin, flush=True)
    net = model.Net(len(words), len(traffic.FAMILIES))
    model.fit(
        net,
        data,
        words,
        np.array([each.label for each in rows], np.float32),
        np.array([traffic.kind_of(each.family) if each.label else -1 for each in rows]),
        epochs=options.epochs,
    )
    return net, words, data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", type=Path, default=REAL)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--only", type=int, nargs="*", help="folds that are tried")
    parser.add_argument("--normal", type=int, default=8000)
    parser.add_argument("--attacks", type=int, default=9000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--least", type=int, default=3)
    parser.add_argument("--out", type=Path, help="weights of a net that has learned all rows")
    parser.add_argument(
        "--denied",
        type=float,
        choices=SHARES,
        default=0.005,
        help="part of the normal requests that a threshold of 0.5 would have denied in the folds",
    )
    options = parser.parse_args()
    torch.set_num_threads(1)

    with tempfile.TemporaryDirectory() as directory:
        reader = Reader(Path(directory))
    real = traffic.read(options.real)
    tested: list[Row] = []
    found: list[np.ndarray] = []
    for fold in options.only or range(options.folds):
        begin = time.time()
        held = {each.group for each in real if fold_of(each.group, options.folds) == fold}
        net, words, _ = trained(train_rows(real, held, options), reader, options)
        test = [each for each in real if each.group in held]
        scores = model.scores(net, model.Data([reader.read(each.request) for each in test]), words)
        tested += test
        found.append(scores)
        print("fold", fold, time.time() - begin)
        report(test, scores)
    print("all folds")
    thresholds = report(tested, np.concatenate(found))
    if options.out:
        net, words, _ = trained(train_rows(real, set(), options), reader, options)
        kinds = tuple(name for name, _ in traffic.FAMILIES)
        shift = thresholds[SHARES.index(options.denied)]
        model.published(net, words, kinds, shift).save(options.out, {"data": DATA})


if __name__ == "__main__":
    main()
