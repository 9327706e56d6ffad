"""Strings made from the expressions of rules of the OWASP Core Rule Set (Apache-2.0).

A rule's expression says which texts its authors take for an attack, so what it matches at random
covers them more evenly than a list of payloads does. Expressions that Python's re does not read
are left out. The tests of the rules are not used.
"""

import contextlib
import itertools
import os
import random
import re
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

from normal import word

DIRECTORIES = [
    Path(each)
    for each in os.environ.get("CRS_RULES", "/usr/share/modsecurity-crs/rules").split(":")
]
FAMILIES = {
    "930": "lfi",
    "931": "ssrf",
    "932": "cmdi",
    "933": "php",
    "934": "",
    "941": "xss",
    "942": "sqli",
    "944": "jndi",
}
RULE = re.compile(r'^SecRule (\S+) "((?:[^"\\]|\\.)*)"', re.MULTILINE)
OF_ALL_LEVELS = 'DETECTION_PARANOIA_LEVEL "@lt 2"'  # what follows is of higher levels
OPTIONAL, MORE = 0.3, 0.6  # chances that what may be absent is there, and of one repetition more
MOST = 400  # bytes of a string
LIST = 3  # how often a list of phrases is chosen, to an expression
PRINTED = [chr(each) for each in range(32, 127)]
LETTERS = [each for each in PRINTED if each.isalnum()]


@cache
def listed(name: str) -> tuple[str, ...]:
    """Return the lines of a list of the rules."""
    path = next(each / name for each in DIRECTORIES if (each / name).exists())
    lines = path.read_text(errors="replace").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))


def _operators(text: str) -> Iterator[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", "", text.partition(OF_ALL_LEVELS)[0])
    for variables, operator in RULE.findall(text):
        if "ARGS" in variables or "FILES" in variables or "REQUEST_FILENAME" in variables:
            name, _, argument = operator.partition(" ")
            yield name, argument.replace('\\"', '"')


@cache
def rules() -> dict[str, list[Any]]:
    """Return what the rules of each family match: parsed expressions, and lists of phrases."""
    found: dict[str, list[Any]] = {number: [] for number in FAMILIES}
    for number, matches in found.items():
        path = next(DIRECTORIES[0].glob(f"REQUEST-{number}-*.conf"))
        for operator, argument in _operators(path.read_text(errors="replace")):
            if operator == "@rx":
                with contextlib.suppress(re.error), warnings.catch_warnings(action="ignore"):
                    matches.append(_parser.parse(argument))
            elif operator == "@pm":
                matches.append(tuple(argument.split()))
            elif operator == "@pmFromFile":
                # hundreds of phrases, of one rule
                matches += [tuple(itertools.chain(*map(listed, argument.split())))] * LIST
    return found


def _any(items: list[Any], rng: random.Random) -> str:
    """Return a character of a class."""
    negated = bool(items) and items[0][0] is op.NEGATE
    chosen: set[str] = set()
    for kind, value in items:
        if kind is op.LITERAL:
            chosen.add(chr(value))
        elif kind is op.RANGE:
            chosen.update(chr(each) for each in range(value[0], min(value[1], 255) + 1))
        elif kind is op.CATEGORY:
            chosen.update(_category(value))
    if negated:
        chosen = {each for each in PRINTED if each not in chosen} or {"\n"}
    letters = sorted(each for each in chosen if each in LETTERS)
    if letters and rng.random() < 0.8:
        return rng.choice(letters)
    printed = sorted(each for each in chosen if each in PRINTED)
    return rng.choice(printed or sorted(chosen))


def _category(value: Any) -> list[str]:
    if value is op.CATEGORY_DIGIT:
        return list("0123456789")
    if value is op.CATEGORY_SPACE:
        return [" "]
    if value is op.CATEGORY_WORD:
        return LETTERS
    if value is op.CATEGORY_NOT_DIGIT:
        return [each for each in PRINTED if not each.isdigit()]
    if value is op.CATEGORY_NOT_SPACE:
        return [each for each in PRINTED if each != " "]
    return [each for each in PRINTED if not each.isalnum()]


def _is_wide(parsed: Any) -> bool:
    """Return whether an expression is one character, of many."""
    if len(parsed) != 1:
        return False
    kind, value = parsed[0]
    return kind is op.ANY or (kind is op.IN and (len(value) > 2 or value[0][0] is op.NEGATE))


def _repeated(least: int, most: int, parsed: Any, rng: random.Random) -> str:
    count = least
    if least == 0 and rng.random() < OPTIONAL:
        count = 1
    if count:
        while count < min(most, least + 8) and rng.random() < MORE:
            count += 1
    if count > 2 and _is_wide(parsed) and rng.random() < 0.5:
        made = word(rng)
        if re.fullmatch(_class(parsed), made):
            return made
    return "".join(_made(parsed, rng) for _ in range(min(count, 40)))


def _class(parsed: Any) -> str:
    kind, value = parsed[0]
    if kind is op.ANY:
        return ".*"
    allowed = {_any(value, random.Random(seed)) for seed in range(200)}
    return "[" + "".join(map(re.escape, sorted(allowed))) + "]*"


def _made(parsed: Any, rng: random.Random) -> str:
    return "".join(_part(kind, value, rng) for kind, value in parsed)


def _part(kind: Any, value: Any, rng: random.Random) -> str:
    if kind is op.LITERAL:
        return chr(value)
    if kind is op.NOT_LITERAL:
        return _any([(op.NEGATE, None), (op.LITERAL, value)], rng)
    if kind is op.ANY:
        return rng.choice(LETTERS if rng.random() < 0.8 else PRINTED)
    if kind is op.IN:
        return _any(value, rng)
    if kind is op.BRANCH:
        return _made(rng.choice(value[1]), rng)
    if kind in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
        return _repeated(value[0], int(value[1]), value[2], rng)
    if kind is op.SUBPATTERN:
        return _made(value[3], rng)
    if kind is op.ATOMIC_GROUP:
        return _made(value, rng)
    return ""  # of an assertion, or a reference


def _phrase(phrase: str, rng: random.Random) -> str:
    """Return a phrase of a list as it stands in an attack."""
    a = word(rng)
    return rng.choice(
        [
            *(phrase, phrase, f"{phrase} {a}", f";{phrase}", f"{phrase}()", f"{phrase}({a})"),
            *(f"/{phrase.lstrip('/')}", f"../../{phrase.lstrip('/')}", f"{a}={phrase}"),
            *(f"{a}; {phrase} {a}", f"|{phrase}", f"time {phrase}", f"{phrase}=({a})"),
        ]
    )


def payload(rng: random.Random) -> tuple[str, str]:
    """Return what a rule matches, and its kind."""
    number = rng.choice(sorted(rules()))
    rule = rng.choice(rules()[number])
    made = _phrase(rng.choice(rule), rng) if isinstance(rule, tuple) else _made(rule, rng)[:MOST]
    share = rng.random()
    if share < 0.1:
        made = made.upper()
    elif share < 0.25:
        made = "".join(rng.choice((each.lower(), each.upper())) for each in made)
    if rng.random() < 0.4:
        made = rng.choice([word(rng) + " ", str(rng.randint(1, 999)), "1'", '"', "x="]) + made
    if rng.random() < 0.3:
        made += rng.choice([" " + word(rng), "--", ")", "'", ";", " #", str(rng.randint(1, 999))])
    return made, FAMILIES[number]
