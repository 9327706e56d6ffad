"""A character model that writes in the style of this project's documentation.

nginx-conf/generate.conf names the function. Training takes less than a minute on a core, and writes
build/generate.pt:

    .venv/bin/python examples/generate/generate.py
    ./build.sh run nginx-conf/generate.conf
    curl -N -H 'Accept: text/event-stream' 'http://127.0.0.1:3000/v1/write?prompt=nginx+'

<http://localhost:3000/generate.html> shows what it writes with an `EventSource`.
"""

import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn, optim
from torch.nn.functional import cross_entropy

import webtorch
from webtorch import State, Strings

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "build/generate.pt"

SYMBOLS = 128
UNITS = 256


class Writer(nn.Module):
    """Predicts the next character of a text."""

    def __init__(self) -> None:
        super().__init__()
        self.symbols = nn.Embedding(SYMBOLS, 64)
        self.memory = nn.GRU(64, UNITS, batch_first=True)
        self.scores = nn.Linear(UNITS, SYMBOLS)

    def forward(self, text: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return scores `[batch, length, 128]` of the characters after each of a text's."""
        found, h = self.memory(self.symbols(text), h)
        return self.scores(found), h


net = Writer()
if WEIGHTS.exists():
    net.load_state_dict(torch.load(WEIGHTS, weights_only=True))


def encode(text: str) -> Tensor:
    """Return the codes of a text, others than ASCII as question marks."""
    return torch.tensor([*text.encode("ascii", "replace")])


class Step(NamedTuple):
    """A character of each text, and the states of these."""

    text: Strings[list[str], "batch"]
    h: State[Float32[Tensor, "batch 256"]]
    last: State[Int64[Tensor, "batch"]]
    temperature: State[Float32[Tensor, "batch"]]


@webtorch.generate
def write(
    h: State[Float32[Tensor, "batch 256"]],
    last: State[Int64[Tensor, "batch"]],
    temperature: State[Float32[Tensor, "batch"]],
) -> Step:
    """Write the next character of all texts."""
    scores, after = net(last[:, None], h[None])
    chances = (scores[:, 0] / temperature[:, None]).softmax(1)
    last = chances.multinomial(1)[:, 0]
    return Step([chr(code) for code in last.tolist()], after[0], last, temperature)


@write.open
def begin(
    prompt: Strings[list[str], "batch"] = "The ", temperature: Float32[Tensor, "batch"] = 0.6
) -> tuple[Tensor, Tensor, Tensor]:
    """Read prompts; what is written follows them."""
    h = torch.zeros(len(prompt), UNITS)
    last = torch.full((len(prompt),), ord(" "))
    for index, text in enumerate(prompt):
        codes = encode(text or " ")
        last[index] = codes[-1]
        if len(codes) > 1:
            h[index] = net(codes[None, :-1])[1][0, 0]
    return h, last, temperature.clamp(min=0.05)


def train(seconds: float) -> float:
    """Train on the documentation; return the loss in bits for each character."""
    text = encode("\n".join(path.read_text() for path in sorted(ROOT.glob("docs/*.md"))))
    optimizer = optim.Adam(net.parameters(), lr=3e-3)
    loss = torch.zeros(())
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begins = torch.randint(len(text) - 65, (32, 1))
        part = text[begins + torch.arange(65)]
        scores, _ = net(part[:, :-1])
        loss = cross_entropy(scores.flatten(0, 1), part[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item() / torch.log(torch.tensor(2.0)).item()


if __name__ == "__main__":
    bits = train(float(sys.argv[1]) if len(sys.argv) > 1 else 50)
    WEIGHTS.parent.mkdir(exist_ok=True)
    torch.save(net.state_dict(), WEIGHTS)
    print(f"{bits:.2f} bits for each character, in {WEIGHTS}")
