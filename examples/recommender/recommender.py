"""Recommends films, and learns from what visitors click: nginx-conf/recommender.conf.

Each visitor and each film has a vector; their product is how probable a click is. What a visitor
was shown and did not click is learned, too.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor, nn, optim
from torch.nn.functional import binary_cross_entropy_with_logits

import webtorch

FILMS, VISITORS, SIZE, SHOWN = 60, 1 << 16, 8, 3
EXPLORE = 0.3
"""Random part of the scores, so that films are shown of which little is known."""


class Tastes(nn.Module):
    """The logit of a click, for visitors and films."""

    def __init__(self) -> None:
        super().__init__()
        self.visitors = nn.Embedding(VISITORS, SIZE)
        self.films = nn.Embedding(FILMS, SIZE)
        self.popularity = nn.Embedding(FILMS, 1)
        # an unknown visitor has no taste: the popular films come first
        nn.init.zeros_(self.visitors.weight)
        nn.init.normal_(self.films.weight, std=0.5)
        nn.init.zeros_(self.popularity.weight)

    def forward(self, visitor: Tensor, film: Tensor) -> Tensor:
        """Return [batch, n] for visitors [batch] and films [batch, n]."""
        products = self.films(film) @ self.visitors(visitor).unsqueeze(2)
        return (products + self.popularity(film)).squeeze(2)


torch.manual_seed(0)
# a rate for each number: a visitor with few clicks learns fast, a known film slowly
tastes = webtorch.Model("tastes", Tastes(), lambda params: optim.Adagrad(params, lr=0.3))


class Films(NamedTuple):
    """Films for each visitor, the best one first, and the probabilities of a click."""

    film: Int64[Tensor, "batch 3"]
    probability: Float32[Tensor, "batch 3"]


def checked(values: Tensor, limit: int, name: str) -> Tensor:
    """Return numbers that are indices; raise 400 for others."""
    if ((values < 0) | (values >= limit)).any():
        raise webtorch.HTTPError(400, f"a {name} is from 0 to {limit - 1}")
    return values


@webtorch.infer
def recommend(visitor: Int64[Tensor, "batch"]) -> Films:
    """Choose films for each visitor."""
    every = torch.arange(FILMS).expand(len(visitor), FILMS)
    scores = tastes(checked(visitor, VISITORS, "visitor"), every)
    noise = EXPLORE * torch.randn(scores.shape)
    film = (scores + noise).topk(SHOWN, dim=1).indices
    return Films(film, scores.gather(1, film).sigmoid())


@webtorch.train
def learn(
    visitor: Int64[Tensor, "batch"],
    film: Int64[Tensor, "batch 3"],
    clicked: Bool[Tensor, "batch 3"],
) -> Float32[Tensor, "batch"]:
    """Learn what was clicked of what was shown; return the loss of each visitor before it."""
    visitor, film = checked(visitor, VISITORS, "visitor"), checked(film, FILMS, "film")
    losses = binary_cross_entropy_with_logits(
        tastes(visitor, film), clicked.float(), reduction="none"
    ).sum(1)
    # the sum, so that it does not matter how many visitors come together
    tastes.step(losses.sum())
    return losses.detach()
