"""The network of apps/tensor_app.py in a bare loop: prints pictures per second.

Usage: bare_resnet.py SECONDS
"""

import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent / "apps"))
from tensor_app import resnet18


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(1)
    network = resnet18().eval()
    x = torch.rand(1, 3, 224, 224)
    for _ in range(5):
        network(x)
    pictures = 0
    begin = time.perf_counter()
    end = begin + float(sys.argv[1])
    while time.perf_counter() < end:
        network(x)
        pictures += 1
    print(pictures / (time.perf_counter() - begin))


main()
