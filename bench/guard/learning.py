"""What a guard denies and detects on a site after it has learned some requests of it.

Half of the requests of a site that the classifier has not learned are drawn until there are a
thousand; the other half is normal requests that were not seen. Payloads of lists that it has not
learned are put into fields of the site's requests.
"""

import json
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote_from_bytes

import numpy as np
import torch
import traffic
import values
from numpy.typing import NDArray
from reading import Numbers, Reader, Request
from torch import Tensor
from traffic import Row

from webtorch.detect import FieldClassifier, SiteGuard

SEEN, LEAST, ATTACKS, PASTED = 1000, 60, 200, 60
TARGETS = (0.0005, 0.001, 0.005)
LOCATION = 7
PASTES = ("code", "markup", "sql", "log_line", "english")


@dataclass
class Site:
    """Requests of a site, read as a guard gets them."""

    seen: list[Numbers]
    normal: list[Numbers]
    again: list[Numbers]
    attacks: list[Numbers]
    poison: list[Numbers]
    pasted: list[Numbers]
    pastes: list[Numbers]


def sites(rows: list[Row], reader: Reader) -> Iterator[Site]:
    """Yield sites of rows that were left out: normal requests, and payloads of lists."""
    payloads = [each.payload for each in rows if each.kind == "injected"]
    of_site = defaultdict(list)
    for each in rows:
        if each.label == 0 and each.kind not in ("crs-negative", "gotestwaf-falsepos", "made"):
            of_site[each.site].append(each.request)
    for name, requests in sorted(of_site.items()):
        if len(requests) < LEAST or not payloads:
            continue
        rng = random.Random(name)
        rng.shuffle(requests)
        read = [reader.read(each) for each in requests]
        half = len(read) // 2
        drawn = read[:half] + [rng.choice(read[:half]) for _ in range(max(0, SEEN - half))]

        def attacks(count: int, rng: random.Random = rng, of: list[Request] = requests) -> Any:
            return [
                reader.read(inject(rng.choice(of), rng.choice(payloads), rng)) for _ in range(count)
            ]

        base = requests[0]
        pastes = [reader.read(paste(base, rng)) for _ in range(2 * PASTED)]
        yield Site(
            drawn[:SEEN],
            read[half:],
            read[:half],
            attacks(ATTACKS),
            attacks(ATTACKS // 2),
            pastes[:PASTED],
            pastes[PASTED:],
        )


def paste(base: Request, rng: random.Random) -> Request:
    """Return a request to a page of pastes, with code, markup or prose."""
    while True:
        value, kind, _ = values.value(rng)
        if kind in PASTES:
            break
    request = traffic.put(value, "form", base, rng, ("content",))
    return replace(request, path=b"/pastes/new", query=b"")


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of the strings of a JSON document."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in items:
            yield from leaves(each, (*path, key))
    elif isinstance(value, str):
        yield path


def inject(request: Request, payload: str, rng: random.Random) -> Request:
    """Return a request with a payload in one of its fields, or in a new one."""
    raw = payload.encode("utf8", "surrogateescape")
    places = ["path", "header", "cookie", "new"]
    form = b"urlencoded" in request.header(b"content-type").lower() and b"=" in request.body
    places += ["query"] * (2 * (b"=" in request.query)) + ["form"] * (3 * form)
    document, strings = None, []
    if request.body[:1] in (b"{", b"["):
        try:
            document = json.loads(request.body)
            strings = list(leaves(document))
        except ValueError:
            pass
    places += ["json"] * (4 * bool(strings))
    place = rng.choice(places)
    if place in ("query", "form"):
        parts = (request.query if place == "query" else request.body).split(b"&")
        at = rng.choice([i for i, each in enumerate(parts) if b"=" in each])
        parts[at] = parts[at].split(b"=")[0] + b"=" + traffic.encode_url(raw, rng)
        whole = b"&".join(parts)
        return replace(request, **{"query" if place == "query" else "body": whole})
    if place == "json":
        *before, last = rng.choice(strings)
        inner: Any = document
        for key in before:
            inner = inner[key]
        text = payload.encode("utf8", "replace").decode()
        if before or isinstance(document, dict | list):
            inner[last] = text
        return replace(request, body=json.dumps(document).encode())
    if place == "path":
        parts = request.path.split(b"/")
        parts.insert(rng.randint(1, len(parts)), quote_from_bytes(raw, safe="").encode())
        return replace(request, path=b"/".join(parts))
    if place == "new":
        name = traffic.name(rng, traffic.NAMES).encode()
        new = name + b"=" + traffic.encode_url(raw, rng)
        return replace(request, query=request.query + b"&" + new if request.query else new)
    return traffic.put(payload, place, request, rng)


def rows_of(read: Numbers) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the features of one request."""
    n = len(read.numbers)
    traits = torch.zeros(1, 4, n, dtype=torch.int32)
    traits[0, :, : read.traits.shape[1]] = torch.from_numpy(read.traits)
    return (
        torch.from_numpy(read.numbers)[None],
        torch.from_numpy(read.windows)[None].long(),
        traits,
        torch.tensor([[LOCATION]]),
    )


class Trial:
    """A guard that learns one site."""

    def __init__(self, classifier: FieldClassifier) -> None:
        self.guard = SiteGuard(classifier)

    def learn(self, requests: list[Numbers]) -> None:
        for each in requests:
            self.guard.learn(*rows_of(each))

    @torch.no_grad()
    def logits(self, requests: list[Numbers]) -> NDArray[np.float32]:
        """Return logits without a target."""
        none = torch.zeros(1, 1)
        found = [self.guard(*rows_of(each), none)[0] for each in requests]
        return torch.cat(found)[:, 0].double().logit().numpy()

    @torch.no_grad()
    def threshold(self, target: float) -> float:
        """Return the logit that is denied at a target; 0: that of the classifier."""
        return float(self.guard.thresholds(torch.tensor([LOCATION]), torch.tensor([target])))


def measure(classifier: FieldClassifier, rows: list[Row], reader: Reader) -> list[dict[str, Any]]:
    """Return what is denied of each site before it is learned, after, and with attacks in it."""
    found = []
    for site in sites(rows, reader):
        rng = random.Random(0)
        poisoned = [rng.choice(site.poison) if rng.random() < 0.01 else each for each in site.seen]
        result: dict[str, Any] = {}
        for name, seen in (
            ("before", []),
            ("after", site.seen),
            ("attacked", poisoned),
            ("pastes", site.pasted + site.seen[: SEEN - PASTED]),
        ):
            trial = Trial(classifier)
            trial.learn(seen)
            parts = site.normal, site.again, site.attacks, site.pastes
            logits = [trial.logits(each) for each in parts]
            for target in (0.0,) if name == "before" else TARGETS:
                threshold = trial.threshold(target)
                result[name, target] = [each >= threshold for each in logits]
        found.append(result)
    return found


def report(found: list[dict[str, Any]]) -> None:
    """Print a table of all sites."""
    print("| | new, denied | again, denied | payloads, detected | pastes, denied |")
    print("|---|---|---|---|---|")
    for key in found[0]:
        parts = [np.concatenate([each[key][part] for each in found]) for part in range(4)]
        cells = " | ".join(f"{100 * np.mean(each):.2f}" for each in parts)
        print(f"| {key[0]}, target={key[1]} | {cells} |", flush=True)
    print(
        f"{len(found)} sites, {sum(len(next(iter(each.values()))[0]) for each in found)} requests"
    )
