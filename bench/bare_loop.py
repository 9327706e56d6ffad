"""The training step of apps/xor_app.py in a bare loop: prints steps per second.

Usage: bare_loop.py SECONDS
"""

import sys
import time

import torch
from torch import nn, optim
from torch.nn.functional import mse_loss

CORE = 1


def main() -> None:
    torch.set_num_threads(1)
    net = nn.Sequential(nn.Linear(2, 20), nn.Tanh(), nn.Linear(20, 1))
    optimizer = optim.SGD(net.parameters(), lr=0.01)
    x = torch.tensor([[0.25, 0.75]])

    def step() -> None:
        label = torch.where(x.prod(dim=1, keepdim=True) > 0, -1.0, 1.0)
        loss = mse_loss(net(x), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(500):
        step()

    steps = 0
    begin = time.perf_counter()
    end = begin + float(sys.argv[1])
    while time.perf_counter() < end:
        step()
        steps += 1
    print(steps / (time.perf_counter() - begin))


main()
