"""Voice activity: silero-vad listens to many microphones, whose chunks are computed together.

Run it with `./build.sh run nginx-conf/vad.conf`. It needs `pip install silero-vad`, a package that
carries its model.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float32, Int16
from silero_vad import load_silero_vad
from torch import Tensor

import webtorch
from webtorch import State

# The network in the module keeps no state; the outer one keeps that of a single stream.
network = load_silero_vad()._model


class Speech(NamedTuple):
    """The probability that a chunk has speech, and what the next chunk needs."""

    probability: Float32[Tensor, "batch"]
    memory: State[Float32[Tensor, "batch 2 128"]]
    context: State[Float32[Tensor, "batch 64"]]


@webtorch.stream
def speech(
    audio: Int16[Tensor, "batch 512"],
    memory: State[Float32[Tensor, "batch 2 128"]],
    context: State[Float32[Tensor, "batch 64"]],
) -> Speech:
    """Answer 32 ms of audio, mono at 16 kHz, of each stream."""
    samples = torch.cat([context, audio / 32768], dim=1)
    probability, memory = network(samples, memory.transpose(0, 1))
    return Speech(probability[:, 0], memory.transpose(0, 1), samples[:, -64:])
