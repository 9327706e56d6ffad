"""Directives of the main context of a configuration of nginx, with those of its includes."""

import glob
import re
from collections.abc import Iterator
from pathlib import Path

_TOKEN = re.compile(
    r"""
    \s+ | \#[^\n]*                     # blanks, comments
    | (?P<mark>[;{}])
    | "(?P<double>(?:[^"\\]|\\.)*)"
    | '(?P<single>(?:[^'\\]|\\.)*)'
    | (?P<word>(?:[^\s;{}"'\\]|\\.|\$\{|["'])(?:[^\s;{}\\]|\\.|(?<=\$)\{[^}\s]*\})*)
    | .                                # a character that nginx refuses
    """,
    re.X | re.S,
)

DEPTH = 8
"""Includes within includes that are read."""


def main_directives(
    conf: Path, root: Path | None = None, depth: int = DEPTH
) -> Iterator[list[str]]:
    """Yield the simple directives that are in no block, as words.

    Args:
        conf: The configuration.
        root: The directory of relative paths of includes: by default that of `conf`.
        depth: How many includes may be within each other.

    """
    root = root or conf.parent
    try:
        text = conf.read_text(errors="replace")
    except OSError:
        # nginx says so
        return
    for words in _simple(text):
        if words[0] == "include" and len(words) == 2 and depth:
            # of an absolute pattern the root is ignored
            for file in _matches(root, words[1]):
                yield from main_directives(file, root, depth - 1)
        else:
            yield words


def _matches(root: Path, pattern: str) -> list[Path]:
    # as glob(3) has it: "**" is "*", and hidden files are not found
    found = sorted(glob.glob(str(root / pattern)))
    return [file for file in map(Path, found) if file.is_file()]


def _simple(text: str) -> Iterator[list[str]]:
    words: list[str] = []
    level = 0
    for token in _TOKEN.finditer(text):
        mark = token["mark"]
        if mark is None:
            found = (token[kind] for kind in ("double", "single", "word"))
            words += [word for word in found if word is not None]
            continue
        if mark == ";" and level == 0 and words:
            yield words
        level += {"{": 1, "}": -1}.get(mark, 0)
        words = []
