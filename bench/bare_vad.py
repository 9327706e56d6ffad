"""Runs silero-vad on chunks of 128 streams in a loop, without a server; prints chunks per second.

Usage: taskset -c 0 .venv/bin/python bench/bare_vad.py [SECONDS]
"""

import sys
import time

import torch
from silero_vad import load_silero_vad

STREAMS = 128

torch.set_num_threads(1)
network = load_silero_vad()._model
samples = torch.randn(STREAMS, 576) / 10
memory = torch.zeros(2, STREAMS, 128)

with torch.no_grad():
    for _ in range(10):
        network(samples, memory)
    calls = 0
    begin = time.perf_counter()
    end = begin + float(sys.argv[1] if len(sys.argv) > 1 else 5)
    while (now := time.perf_counter()) < end:
        probability, memory = network(samples, memory)
        calls += 1
print(calls * STREAMS / (now - begin))
