"""What webtorch.detect reaches on labelled requests, and what it costs a proxied request.

    .venv/bin/python bench/detect.py [DIRECTORY] [--raw] [--only fields|payload|cost]

DIRECTORY, or else $WEBTORCH_DETECT_DATA, or else ../shared/detect, has train.tsv.gz and dev.tsv.gz,
or what --test names, and real-dev.jsonl.gz, or what --real names. Rates are of the attacks in the
latter, at thresholds at which a part of its normal requests is denied. `fields` is the shipped
FieldClassifier, `payload` the shipped PayloadClassifier and others that are trained for it. The
normal requests and the injected payloads of real-dev were learned by the former; what it reaches on
sites and lists that it has not learned is what bench/guard/train.py prints.
"""

import argparse
import os
import random
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

import wrk
from server import ROOT, Backend, Server
from table import Settings, at_least, between
from webtorch.detect import PayloadClassifier, Payloads, corpus, table

sys.path.insert(0, str(Path(__file__).parent / "guard"))

import shipped

SOURCES = ("csic2010", "torpeda", "httpparams")
MADE_UP, OTHERS = 24000, 20000  # requests that are learned beside those of a source, or for it
FEW, DRAWS = 200, 8

PORTS = {"bare": 3902, "guard": 3903}
BACKEND = 3904
COST = """
upstream site {{ server 127.0.0.1:{backend}; keepalive 128; }}
proxy_http_version 1.1;
proxy_set_header Connection "";
large_client_header_buffers 8 32k;
webtorch_path {root}/examples/guard;
server {{ listen 127.0.0.1:{bare} backlog=4096; location / {{ proxy_pass http://site; }} }}
server {{
    listen 127.0.0.1:{guard} backlog=4096;
    webtorch_access guard:score body=16k target=0.001 threshold=2;
    webtorch_log guard:observe body=16k;
    location / {{ proxy_pass http://site; }}
}}
"""

Labelled = tuple[Payloads, Tensor]


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
    random.Random(0).shuffle(requests)
    return requests


def detected(classifier: PayloadClassifier, requests: Labelled, denied: float) -> float:
    """Return the part of attacks above the score of all but a part of the normal requests."""
    payloads, labels = requests
    with torch.no_grad():
        parts = [payloads[slice(at, at + 256)] for at in range(0, len(payloads), 256)]
        scores = torch.cat([classifier.logits(part) for part in parts])
    normal = scores[labels == 0].sort(descending=True).values
    threshold = normal[int(denied * len(normal))]
    return float((scores[labels == 1] > threshold).float().mean())


def show(name: str, rates: dict[str, float]) -> None:
    cells = " | ".join(
        f"{100 * rates[source]:.1f}" if source in rates else "" for source in SOURCES
    )
    print(f"| {name} | {cells} |", flush=True)


def trained(requests: Labelled) -> PayloadClassifier:
    classifier = PayloadClassifier()
    classifier.fit(*requests)
    return classifier


def accuracy(train_path: Path, test_path: Path, mend: bool) -> None:
    """Print what is detected."""
    train, dev = read(train_path, mend), read(test_path, mend)
    tests = {s: table.tensors([each for each in dev if each.source == s]) for s in SOURCES}
    of = {s: [each for each in train if each.source == s] for s in SOURCES}
    made_up = list(corpus.requests(MADE_UP))

    print(f"| detected, % | {' | '.join(SOURCES)} |\n|---|---|---|---|")
    shipped = PayloadClassifier.pretrained()
    for denied in (0.001, 0.005):
        show(
            f"shipped weights, {denied:.1%} denied",
            {source: detected(shipped, tests[source], denied) for source in SOURCES},
        )
    own = {s: detected(trained(table.tensors(of[s])), tests[s], 0.001) for s in SOURCES}
    show("trained on the same source, 0.1 %", own)

    others, few = {}, []
    for source in SOURCES:
        requests = [each for each in train if each.source != source][:OTHERS] + made_up
        classifier = trained(table.tensors(requests))
        others[source] = detected(classifier, tests[source], 0.005)
        if source == "csic2010":
            for draw in range(DRAWS):
                some = of[source][draw * FEW : (draw + 1) * FEW]
                classifier.adapt(*table.tensors(some))
                few.append(detected(classifier, tests[source], 0.005))
    show("trained without the source, 0.5 %", others)
    show(f"and adapted to {FEW} of it, mean of {DRAWS}, 0.5 %", {"csic2010": sum(few) / DRAWS})
    print(f"\nadapted to {FEW}: {' '.join(f'{100 * rate:.1f}' for rate in few)} %\n", flush=True)


def normal_requests(directory: Path) -> str:
    """Make a script of wrk that sends normal requests of csic2010, or those that are made up."""
    requests = list(corpus.requests(4000))
    if (directory / "dev.tsv.gz").exists():
        dev = read(directory / "dev.tsv.gz", True)
        requests = [each for each in dev if each.source == "csic2010"]
    requests = [each for each in requests if each.label == 0][:1000]
    lines = ["local requests = {}"]
    for each in requests:
        if each.method == "GET":
            target, body = f"{each.path}?{each.arguments}".removesuffix("?"), "nil"
            kind = "nil"
        else:
            target, body = each.path, f"[==[{each.arguments}]==]"
            kind = '{["Content-Type"] = "application/x-www-form-urlencoded"}'
        lines.append(
            f'requests[#requests + 1] = {{"{each.method}", [==[{target}]==], {kind}, {body}}}'
        )
    lines += [
        "local texts, at = {}, 0",
        "function init(args)",
        "    for i, r in ipairs(requests) do",
        "        texts[i] = wrk.format(r[1], r[2], r[3], r[4])",
        "    end",
        "end",
        "function request() at = at % #texts + 1 return texts[at] end",
    ]
    return "\n".join(lines) + "\n"


def cost(directory: Path, settings: Settings) -> None:
    """Print the ratio of requests per second with and without the classifier, one worker."""
    http = COST.format(root=ROOT, backend=BACKEND, **PORTS)
    probe = "location = /probe { webtorch_handler xor_app:output; }"
    print("| | measured | target | |\n|---|---|---|---|")
    script = normal_requests(directory)
    with Backend(BACKEND), Server(probe, "/probe", http=http):
        for connections in (16, 64):

            def rate(
                name: str, seconds: float = settings.seconds, connections: int = connections
            ) -> float:
                url = f"http://127.0.0.1:{PORTS[name]}/"
                result = wrk.run(url, seconds, script=script, threads=1, connections=connections)
                assert result.errors == 0, f"{name} answers with errors: {result}"
                return result.per_second

            for name in PORTS:
                rate(name, 1)
            ratios = between(lambda: rate("guard"), lambda: rate("bare"), settings)
            row = at_least(f"FieldClassifier, {connections} connections", 0.80, ratios)
            met = "ok" if row.met else "MISSED"
            print(f"| {row.name} | {row.value:.2f} | {row.target} | {met} |", flush=True)
            print(f"<!-- {' '.join(f'{ratio:.2f}' for ratio in ratios['ratios'])} -->")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = os.environ.get("WEBTORCH_DETECT_DATA", ROOT.parent / "shared/detect")
    parser.add_argument("directory", type=Path, nargs="?", default=Path(default))
    parser.add_argument("--raw", action="store_true", help="leave csic2010 as it is")
    parser.add_argument("--test", default="dev.tsv.gz", help="a file in the directory, or a path")
    parser.add_argument("--real", default="real-dev.jsonl.gz", help="as --test")
    parser.add_argument("--only", choices=("fields", "payload", "cost"))
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, test = (options.directory / name for name in ("train.tsv.gz", options.test))
    if options.only in (None, "fields"):
        scorer = shipped.Scorer()
        shipped.recorded(scorer, options.directory / options.real)
        rows = read(test, not options.raw)
        shipped.tables(scorer, {s: [each for each in rows if each.source == s] for s in SOURCES})
    if options.only in (None, "payload"):
        accuracy(train, test, not options.raw)
    if options.only in (None, "cost"):
        cost(options.directory, Settings(options.seconds, options.repeat))


if __name__ == "__main__":
    main()
