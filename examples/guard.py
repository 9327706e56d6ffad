"""Denies attacks by their payload, and learns from an operator: nginx-conf/guard.conf.

webtorch_access asks `score`, webtorch_log tells `remember` of the requests, and `learn` takes
an operator's labels of these.
"""

from jaxtyping import Float32, Int32, Int64, UInt8
from torch import Tensor, optim

import webtorch
from webtorch.detect import PayloadClassifier, Payloads, Recent

classifier = PayloadClassifier.pretrained()
model = webtorch.Model("guard", classifier, lambda params: optim.SGD(params, lr=0.5))
recent = webtorch.Model("guard_recent", Recent())


@webtorch.infer
def score(
    tokens: Int32[Tensor, "batch 5 tokens"], segments: Int64[Tensor, "batch tokens"]
) -> Float32[Tensor, "batch 1"]:
    """Score each request: the probability of an attack."""
    return model(tokens, segments)


@webtorch.infer
def remember(
    id: UInt8[Tensor, "batch 16"],
    tokens: Int32[Tensor, "batch 5 256"],
    segments: Int64[Tensor, "batch 256"],
    parameters: Int32[Tensor, "batch 3 64"],
) -> UInt8[Tensor, "batch 16"]:
    """Keep what requests were like, for a while; nobody reads the answer."""
    recent.module.add(id, Payloads(tokens, segments, parameters))
    return id


@webtorch.train
def learn(
    id: webtorch.Strings[list[str], "batch"], label: Float32[Tensor, "batch 1"]
) -> Float32[Tensor, "batch 1"]:
    """Learn that requests were attacks (1) or normal (0); answer their new scores, -1: unknown."""
    try:
        payloads, known = recent.module.find(id)
    except ValueError as error:
        raise webtorch.HTTPError(400, str(error)) from None
    scores = label.new_full((len(id), 1), -1.0)
    if known.any():
        model.step(classifier.loss(payloads, label[known, 0]))
        scores[known] = classifier(payloads.tokens, payloads.segments).detach()
    return scores
