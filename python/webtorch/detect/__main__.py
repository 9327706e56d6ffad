"""Trains a PayloadClassifier from requests that are made up, and from tables of labelled ones.

    python -m webtorch.detect train.tsv.gz --source httpparams --out weights.safetensors

A line of a table has, with tabs between them: source, label (0 normal, 1 attack; others are left
out), type, method, path, and query of a GET or form of others, percent-encoded.
"""

import argparse
import random
from pathlib import Path

import torch

from webtorch.detect import corpus, table
from webtorch.detect._payload import PayloadClassifier


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m webtorch.detect", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("table", type=Path, nargs="*")
    parser.add_argument("--source", action="append", help="use only lines of this source")
    parser.add_argument("--corpus", type=int, default=48000, help="requests that are made up")
    parser.add_argument("--site", type=Path, help="a table of one site to adapt to, after that")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    torch.set_num_threads(1)
    requests = [
        each
        for path in options.table
        for each in table.read(path)
        if each.label != 2 and (not options.source or each.source in options.source)
    ]
    requests += corpus.requests(options.corpus)
    random.Random(0).shuffle(requests)
    if len({each.label for each in requests}) < 2:
        parser.error("there must be normal requests and attacks, in tables or made up")

    classifier = PayloadClassifier()
    classifier.fit(*table.tensors(requests), epochs=options.epochs)
    if options.site:
        of_site = [each for each in table.read(options.site) if each.label != 2]
        classifier.adapt(*table.tensors(of_site))
    classifier.save(options.out)
    print(f"{len(requests)} requests learned, {options.out.stat().st_size} bytes written")


if __name__ == "__main__":
    main()
