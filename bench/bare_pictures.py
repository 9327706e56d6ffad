"""The classifier of apps/pictures.py in a bare loop, 32 files a call: prints files per second.

Usage: bare_pictures.py SECONDS
"""

import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent / "apps"))
from pictures import classify, jpeg

FILES = 32


def main() -> None:
    torch.set_num_threads(1)
    files = [jpeg()] * FILES
    for _ in range(5):
        classify(files)
    done = 0
    begin = time.perf_counter()
    end = begin + float(sys.argv[1])
    while time.perf_counter() < end:
        classify(files)
        done += FILES
    print(done / (time.perf_counter() - begin))


main()
