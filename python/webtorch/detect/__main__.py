"""Trains a PayloadClassifier from synthetic requests, and from tables of labelled ones.

    python -m webtorch.detect train.tsv.gz --source httpparams --out weights.safetensors
    python -m webtorch.detect explain 'http://localhost/?id=1%27+or+1%3D1--'

The second line explains how FieldClassifier scores a request, which is a URL, a file or "-".

A line of a table has six fields with tabs between them: source, label (0 normal, 1 attack; lines
with others are skipped), type, method, path, and the query of a GET or the form of other methods.
Path, query and form are percent-encoded.
"""

import argparse
import random
import sys
from pathlib import Path

import torch

from webtorch.detect import corpus, table
from webtorch.detect._payload import PayloadClassifier


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["explain"]:
        from webtorch.detect import _explain

        _explain.main(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="python -m webtorch.detect", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("table", type=Path, nargs="*")
    parser.add_argument("--source", action="append", help="a source whose lines are used")
    parser.add_argument("--corpus", type=int, default=48000, help="number of synthetic requests")
    parser.add_argument("--site", type=Path, help="table of a site to adapt to")
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
        parser.error("normal requests and attacks are needed, from tables or the corpus")

    classifier = PayloadClassifier()
    classifier.fit(*table.tensors(requests), epochs=options.epochs)
    if options.site:
        of_site = [each for each in table.read(options.site) if each.label != 2]
        classifier.adapt(*table.tensors(of_site))
    classifier.save(options.out)
    print(f"{len(requests)} requests learned, {options.out.stat().st_size} bytes written")


if __name__ == "__main__":
    main()
