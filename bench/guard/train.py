"""Trains a net on the fields of requests, and reports it by leaving sites and lists out.

    .venv/bin/python bench/guard/train.py [--folds 4] [--only FOLD ...] [--out weights.safetensors]

Data: recorded requests of real-dev.jsonl.gz (MIT, Apache-2.0 and BSD, see its README) and the lists
of payloads in it (MIT), attacks of HttpParamsDataset (MIT) in train.tsv.gz, strings that rules of
the OWASP Core Rule Set match, and its word lists (Apache-2.0), names and prose of Faker (MIT), and
templates in this folder. The tests of gotestwaf and of the CRS in real-dev are never learned. A
fold is tested on them, and on sites and lists of payloads that it has not learned; thresholds are
those at which a share of the normal requests of these sites is denied. With --sites each site of a
fold is learned by a SiteGuard, which then judges other requests of it. With --out a FieldClassifier
of webtorch.detect is written that has learned all of it. Needs the package faker, and as $CRS_RULES
the folder of the rules of version 4, and after a colon that of version 3, which has a list more.
"""

import argparse
import collections
import functools
import hashlib
import os
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, unquote_plus

import attacks
import documents
import interpreters
import learning
import model
import numpy as np
import places
import torch
import traffic
import values
from rates import SHARES, show, thresholds_of
from reading import ROOT, Reader
from traffic import Row

from webtorch.detect import table

SHARED = Path(os.environ.get("WEBTORCH_DETECT_DATA", ROOT.parent / "shared/detect"))
REAL = SHARED / "real-dev.jsonl.gz"
TABLE = SHARED / "train.tsv.gz"
DATA = (
    "recorded requests of 39 repositories (MIT, Apache-2.0, BSD), lists of PayloadsAllTheThings"
    " (MIT), attacks of HttpParamsDataset (MIT), rules and word lists of the OWASP Core Rule Set"
    " (Apache-2.0), Faker (MIT), templates of WebTorch"
)
SAMPLE = 200  # requests in the file of the weights
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
        value, kind, names = values.value(rng)
        chosen = names or traffic.NAMES
        if rng.random() < 0.1:
            chosen = (places.key(rng),)
        place = rng.choice(traffic.PLACES)
        if place in ("path", "header", "cookie") and rng.random() < 0.6:
            place = rng.choice(("query", "form", "json", "multipart"))
        request = traffic.put(value, place, base, rng, chosen)
        if rng.random() < 0.5:
            request = replace(request, path=places.path(rng).encode())
        if rng.random() < 0.35:
            request, kind = (
                documents.with_body(base if rng.random() < 0.5 else request, rng),
                "body",
            )
            if rng.random() < 0.5:
                request = replace(request, path=places.path(rng).encode())
        if rng.random() < 0.5:
            request = documents.dressed(request, rng)
        if rng.random() < 0.6:
            request = request.with_header(b"User-Agent", places.user_agent(rng).encode())
        made.append(Row(request, 0, "made", f"made{number % GENERATED}", kind, place))
    for number in range(bad):
        base = rng.choice(by_site[rng.choice(sites)]).request
        if rng.random() < 0.3:
            base = replace(base, path=places.path(rng).encode())
        if rng.random() < 0.3:
            base = documents.dressed(base, rng)
        if rng.random() < 0.1:
            base = documents.with_body(base, rng)
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
            request = base.with_header(b"User-Agent", payload.encode())
        elif share < 0.05:
            request = replace(base, path=rng.choice(attacks.PATHS).encode())
            family, place = "scanner", "path"
        elif share < 0.065:
            payload, family, place = interpreters.upload(rng), "php", "multipart"
            if rng.random() < 0.3:
                name = rng.choice((b"X-Filename", b"X-File-Name", b"X_Filename", b"Slug"))
                request = replace(base, headers=[*base.headers, (name, payload.encode())])
            else:
                request = traffic.put(payload, "upload", base, rng)
        elif share < 0.1:
            payload, family, place = "/" + interpreters.secret(rng).lstrip("/"), "lfi", "path"
            request = replace(base, path=quote(payload, safe="/:.~-_").encode())
        elif share < 0.12:
            payload, place = rng.choice(["", "", " "]) + payload + rng.choice(["", "\n"]), "text"
            request = replace(traffic.put(payload, "form", base, rng), body=payload.encode())
        elif share < 0.16:
            if rng.random() < 0.2:
                payload, family = rng.choice(attacks.OPERATORS), "nosql"
            place = "name"
            request = traffic.put_name(payload, base, rng)
        else:
            if rng.random() < 0.25 and place != "path":
                payload = traffic.filler(rng) + rng.choice(["", " ", ""]) + payload
            elif rng.random() < 0.02 and place not in ("path", "header", "cookie", "query"):
                payload = traffic.padding(rng) + payload
            request = traffic.put(payload, place, base, rng)
        made.append(Row(request, 1, "made", f"bad{number % GENERATED}", family, place))
    return made


def is_judge(row: Row) -> bool:
    """Return whether a request is of the tests of gotestwaf or of the CRS."""
    return row.kind.startswith(("gotestwaf", "crs"))


def train_rows(real: list[Row], held: set[str], options: argparse.Namespace) -> list[Row]:
    kept = [
        each
        for each in real
        if not is_judge(each) and each.group not in held and each.site not in held
    ]
    return kept + generated(kept, options.normal, options.attacks, 1)


def report(rows: list[Row], scores: np.ndarray) -> list[float]:
    """Print a table, and return the logits at which `SHARES` of normal requests are denied."""
    labels = np.array([each.label for each in rows])
    kinds = np.array([each.kind for each in rows])
    recorded = (labels == 0) & ~np.isin(
        kinds, ("crs-negative", "gotestwaf-falsepos", "upload", "tensor", "made")
    )
    thresholds = thresholds_of(scores[recorded])
    print("| | n | at 0.1 % | 0.5 % | 1 % |\n|---|---|---|---|---|")

    def line(name: str, mask: np.ndarray) -> None:
        if mask.any():
            show(name, scores[mask], thresholds)

    line("normal", recorded)
    families = np.array([each.family for each in rows])
    for kind in sorted(set(kinds[labels == 0])):
        mask = (labels == 0) & (kinds == kind)
        line(f"normal {kind}", mask)
        if kind == "made":
            for family in sorted(set(families[mask])):
                line(f"made {family}", mask & (families == family))
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


def sample(
    rows: list[Row],
    reader: Reader,
    score: Callable[[model.Data], np.ndarray],
    shift: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return requests for rehearsal: some that are made up, and that are scored as they should."""
    made = [each for each in rows if each.kind == "made"][:: max(1, len(rows) // 4000)]
    data = model.Data([reader.read(each.request) for each in made])
    right = (score(data) > shift) == np.array([each.label for each in made])
    kept = [each for each, is_right in zip(made, right, strict=True) if is_right]
    labels = np.array([each.label for each in kept], np.float32)
    return model.sample(model.Data([reader.read(each.request) for each in kept]), labels, SAMPLE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", type=Path, default=REAL)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--only", type=int, nargs="*", help="folds that are tried, or none")
    parser.add_argument("--normal", type=int, default=24000, help="requests that are made up")
    parser.add_argument("--attacks", type=int, default=24000, help="attacks that are made up")
    parser.add_argument("--pasted", type=int, default=1500, help="those of a test")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--least", type=int, default=3)
    parser.add_argument("--most", type=int, default=45000, help="numbers in the file")
    parser.add_argument("--sites", action="store_true", help="try guards that learn a site")
    parser.add_argument("--out", type=Path, help="weights of a net that has learned all rows")
    parser.add_argument(
        "--shift", type=float, help="the logit of a score of 0.5, instead of --denied"
    )
    parser.add_argument(
        "--denied",
        type=float,
        choices=SHARES,
        default=0.005,
        help="part of the normal requests that a threshold of 0.5 would have denied in the folds",
    )
    options = parser.parse_args()
    if options.out and options.only == [] and options.shift is None:
        parser.error("--out needs --shift if no fold is tried")
    torch.set_num_threads(1)

    with tempfile.TemporaryDirectory() as directory:
        reader = Reader(Path(directory))
    real = traffic.read(options.real)
    tested: list[Row] = []
    found: list[np.ndarray] = []
    of_sites = []
    for fold in range(options.folds) if options.only is None else options.only:
        begin = time.time()
        held = {each.group for each in real if fold_of(each.group, options.folds) == fold}
        net, words, data = trained(train_rows(real, held, options), reader, options)
        test = [each for each in real if each.group in held or is_judge(each)]
        test += generated([each for each in test if not is_judge(each)], options.pasted, 0, 2)
        scores = model.scores(net, model.Data([reader.read(each.request) for each in test]), words)
        tested += test
        found.append(scores)
        print("fold", fold, time.time() - begin)
        thresholds = report(test, scores)
        if options.sites:
            kinds = tuple(name for name, _ in traffic.FAMILIES)
            shift = thresholds[SHARES.index(options.denied)]
            often = words.often(data)
            classifier = model.published(net, words, often, kinds, shift, most=options.most)
            out = [each for each in real if each.group in held and not is_judge(each)]
            of_sites += learning.measure(classifier, out, reader)
    if found:
        print("all folds")
        if of_sites:
            learning.report(of_sites)
        thresholds = report(tested, np.concatenate(found))
    if options.out:
        rows = train_rows(real, set(), options)
        net, words, data = trained(rows, reader, options)
        kinds = tuple(name for name, _ in traffic.FAMILIES)
        shift = options.shift
        if shift is None:
            shift = thresholds[SHARES.index(options.denied)]
        often = words.often(data)
        classifier = model.published(net, words, often, kinds, shift, most=options.most)
        classifier.sample = sample(rows, reader, lambda each: model.scores(net, each, words), shift)
        classifier.save(options.out, {"data": DATA})


if __name__ == "__main__":
    main()
