"""Anchors have the same bits on all processors."""

import os
import subprocess
import sys

import numpy as np
import torch

from webtorch._cluster.interfaces import Outer, Settings
from webtorch._cluster.rounds import Rounds

COUNT = 100_003


def advanced() -> bytes:
    """Return the bytes of an anchor's change and of its momentum."""
    found = b""
    for outer in (Outer("nesterov", 0.7, 0.5), Outer("nesterov", 0.7, 0.9)):
        rounds = Rounds(Settings("test", "a", ("localhost", 7610), "127.0.0.1", outer=outer), dict)
        # PyTorch's own numbers differ between processors
        values = np.random.default_rng(1).standard_normal((2, COUNT)) * 1e-3
        mean, momentum = torch.from_numpy(values.astype(np.float32))
        change = rounds._advance(mean.clone(), [1.0], momentum)
        found += change.numpy().tobytes() + momentum.numpy().tobytes()
    return found


def test_change_is_the_same_with_and_without_fma():
    code = "import sys, test_processors as t; sys.stdout.buffer.write(t.advanced())"
    found = [
        subprocess.run(
            (sys.executable, "-c", code),
            stdout=subprocess.PIPE,
            check=True,
            cwd=os.path.dirname(__file__),
            env={**os.environ, "ATEN_CPU_CAPABILITY": capability},
        ).stdout
        for capability in ("default", "avx2")
    ]
    assert len(found[0]) == 4 * 4 * COUNT
    assert found[0] == found[1]
