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
from statistics import median

import torch
from torch import Tensor

import wrk
from server import ROOT, Backend, Server
from table import Settings, at_least, between
from webtorch.detect import PayloadClassifier, Payloads, corpus, table

sys.path.insert(0, str(Path(__file__).parent / "guard"))

import shipped
from reading import Request

SOURCES = ("csic2010", "torpeda", "httpparams")
MADE_UP, OTHERS = 24000, 20000  # requests that are learned beside those of a source, or for it
FEW, DRAWS = 200, 8

SENT, BODY = 1000, 16000  # requests that are sent in turn, and bytes of their bodies at most
CONNECTION = {
    *(b"host", b"connection", b"content-length", b"content-encoding"),
    *(b"transfer-encoding", b"expect"),
}
PROBE = "location = /probe { webtorch_handler xor_app:output; }"
PORTS = {"bare": 3902, "guard": 3903, "learning": 3905}
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
    webtorch_access guard:score body=16k threshold=2;
    location / {{ proxy_pass http://site; }}
}}
server {{
    listen 127.0.0.1:{learning} backlog=4096;
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


def table_requests(directory: Path) -> list[bytes]:
    """Return normal requests of csic2010, or those that are made up, as they are sent."""
    requests = list(corpus.requests(4000))
    if (directory / "dev.tsv.gz").exists():
        dev = read(directory / "dev.tsv.gz", True)
        requests = [each for each in dev if each.source == "csic2010"]
    return [raw(shipped.request_of(each)) for each in requests if each.label == 0][:SENT]


def recorded_requests(path: Path) -> list[bytes]:
    """Return normal requests of real-dev, with their headers and bodies, as they are sent."""
    rows = [
        row.request
        for row in shipped.traffic.read(path)
        if row.label == 0 and row.kind not in ("crs-negative", "gotestwaf-falsepos")
    ]
    random.Random(0).shuffle(rows)
    # wrk waits for the body of an answer to HEAD; longer bodies are read up to there
    sent = [
        each
        for each in rows
        if each.method not in ("HEAD", "CONNECT", "TRACE")
        and len(each.body) <= BODY
        and each.path.startswith(b"/")
        and b" " not in each.path + each.query
    ]
    return [raw(each) for each in sent[:SENT]]


def raw(request: Request) -> bytes:
    """Return the bytes of a request."""
    target = request.path + (b"?" + request.query if request.query else b"")
    lines = [b"%s %s HTTP/1.1" % (request.method.encode(), target)]
    lines.append(b"Host: " + (request.header(b"host") or b"localhost"))
    lines += [a + b": " + b for a, b in request.headers if a.lower() not in CONNECTION]
    if request.body or request.method in ("POST", "PUT", "PATCH"):
        lines.append(b"Content-Length: %d" % len(request.body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + request.body


def script_of(requests: list[bytes]) -> str:
    """Return a script of wrk that sends requests, one after the other and again."""
    texts = ("".join(f"\\{byte:03d}" for byte in each) for each in requests)
    lines = ["local texts, at = {}, 0"]
    lines += [f'texts[#texts + 1] = "{text}"' for text in texts]
    lines.append("function request() at = at % #texts + 1 return texts[at] end")
    return "\n".join(lines) + "\n"


def cost(directory: Path, real: Path, settings: Settings) -> None:
    """Print the ratio of requests per second with and without the guard, one worker.

    With `learning` requests are also written to the zone, from which the guard learns the site.
    """
    mixes = {"csic2010": table_requests(directory)}
    if real.exists():
        mixes = {"recorded": recorded_requests(real), **mixes}
    print("| | measured | target | | µs of the worker | without |\n|---|---|---|---|---|---|")
    for name, requests in mixes.items():
        with Backend(BACKEND), Server(PROBE, "/probe", http=cost_http()) as server:
            for connections in (16, 64):
                cost = Cost(name, script_of(requests), connections, server)
                for guard in ("guard", "learning"):
                    cost.show(guard, settings)


def cost_http() -> str:
    return COST.format(root=ROOT, backend=BACKEND, **PORTS)


class Cost:
    """Measures a proxy with and without the guard.

    Args:
        name: Of the requests.
        script: That sends them.
        connections: Of the client.
        server: The server, with both.

    """

    def __init__(self, name: str, script: str, connections: int, server: Server) -> None:
        self._name = f"{name}, {connections} connections"
        self._load = {"script": script, "threads": 1, "connections": connections}
        self._server = server
        self._spent: dict[str, list[float]] = {name: [] for name in PORTS}

    def show(self, guard: str, settings: Settings) -> None:
        """Print the row of a server with the guard."""
        for name in (guard, "bare"):
            self._rate(name, 2)
        self._spent = {name: [] for name in PORTS}
        seconds = settings.seconds
        ratios = between(
            lambda: self._rate(guard, seconds), lambda: self._rate("bare", seconds), settings
        )
        row = at_least(f"{self._name}, {guard}", 0.80, ratios)
        met = "ok" if row.met else "MISSED"
        spent, bare = (median(self._spent[name]) for name in (guard, "bare"))
        print(f"| {row.name} | {row.value:.2f} | {row.target} | {met} | {spent:.1f} | {bare:.1f} |")
        print(f"<!-- {' '.join(f'{ratio:.2f}' for ratio in ratios['ratios'])} -->", flush=True)

    def _rate(self, name: str, seconds: float) -> float:
        """Return requests per second; note the worker's processor time for each, in µs."""
        before = self._server.worker_seconds()
        result = wrk.run(f"http://127.0.0.1:{PORTS[name]}/", seconds, **self._load)
        assert result.errors == 0, f"{name} answers with errors: {result}"
        spent = self._server.worker_seconds() - before
        self._spent[name].append(spent / result.requests * 1e6)
        return result.per_second


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
        real = options.directory / options.real
        cost(options.directory, real, Settings(options.seconds, options.repeat))


if __name__ == "__main__":
    main()
