"""Synthetic labelled requests: known attacks, and normal requests that resemble them.

They are made from `requests.grammar`, so no recorded data is in the weights that are shipped.
"""

import random
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

from webtorch.detect.table import Request

GRAMMAR = Path(__file__).with_name("requests.grammar")

SOURCE = "corpus"
"""`Request.source` of the requests."""

_PARAMETERS = (1, 1, 2, 3, 5, 8, 12)  # numbers of parameters, equally likely
_BY_PATH = {0: 0.25, 1: 0.2}  # share of the requests without parameters, by label
_PATH_SAFE = "/%~;'()*!,:=$@"  # sent unencoded
# sent unencoded, by browsers and by careless tools
_VALUE_SAFE = ("", "", "'()*!,:/;", "'\"<>()*!,:/;=|$@`{}[]\\")

_REFERENCE = re.compile(r"«(\w+)(?::(\d+)-(\d+))?(?::([^»]*))?»")
_ESCAPES = {"s": " ", "t": "\t", "r": "\r", "n": "\n", "0": "\0", "e": "", "\\": "\\"}


class Grammar:
    """Makes random texts by the rules in a file, whose first lines describe the syntax.

    Args:
        path: The file, UTF-8.

    Raises:
        OSError: The file cannot be read.
        ValueError: A line is before the first rule, or it names a rule that does not exist.

    """

    def __init__(self, path: Path = GRAMMAR) -> None:
        self._rules: dict[str, list[str]] = {}
        alternatives: list[str] | None = None
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not line or line.startswith("#"):
                continue
            if not line.startswith("    "):
                alternatives = self._rules.setdefault(line, [])
                continue
            if alternatives is None:
                raise ValueError(f"{path}, line {number}: an alternative before the first rule")
            weight, text = re.fullmatch(r"(?:\*(\d+) )?(.*)", line[4:]).groups()  # type: ignore[union-attr]
            unescaped = re.sub(r"\\(.)", lambda escape: _ESCAPES[escape[1]], text)
            alternatives += [unescaped] * int(weight or 1)
        for name in {
            name
            for alternatives in self._rules.values()
            for alternative in alternatives
            for name, *_ in _REFERENCE.findall(alternative)
        }:
            if name not in self._rules:
                raise ValueError(f"{path}: there is no rule {name}")

    def alternatives(self, name: str) -> list[str]:
        """Return the alternatives of a rule, unexpanded."""
        return self._rules[name]

    def make(self, name: str, rng: random.Random) -> str:
        """Return a random text of a rule.

        Args:
            name: Name of the rule in the grammar.
            rng: Source of random numbers; the same seed makes the same text.

        """

        def expand(reference: re.Match[str]) -> str:
            rule, least, most, between = reference.groups()
            count = rng.randint(int(least), int(most)) if least else 1
            return (between or "").join(self.make(rule, rng) for _ in range(count))

        return _REFERENCE.sub(expand, rng.choice(self._rules[name]))


def requests(count: int, seed: int = 0, grammar: Grammar | None = None) -> Iterator[Request]:
    """Make requests, about half of them attacks.

    Args:
        count: Number of requests.
        seed: Seed of the random numbers; the requests of a seed are always the same.
        grammar: The rules; by default those that are shipped.

    """
    grammar = grammar or Grammar()
    rng = random.Random(seed)
    keys = grammar.alternatives("key")
    for _ in range(count):
        label = int(rng.random() < 0.5)
        path, values = grammar.make("normal_path", rng), list[str]()
        if rng.random() >= _BY_PATH[label]:
            values = [grammar.make("normal", rng) for _ in range(rng.choice(_PARAMETERS))]
        if label and values:
            values[rng.randrange(len(values))] = grammar.make("attack", rng)
        elif label:
            path = grammar.make("path_attack", rng)
        method = "GET" if not values or rng.random() < 0.5 else "POST"
        arguments = _encode(dict(zip(rng.sample(keys, len(values)), values, strict=True)), rng)
        yield Request(SOURCE, label, "", method, quote(path, safe=_PATH_SAFE), arguments)


def _encode(parameters: dict[str, str], rng: random.Random) -> str:
    safe, encode = rng.choice(_VALUE_SAFE), rng.choice((quote, quote_plus))
    return "&".join(f"{name}={encode(value, safe=safe)}" for name, value in parameters.items())
