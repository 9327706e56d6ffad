"""Denies attacks by their payload: `webtorch_access guard:score`, see nginx-conf/guard.conf.

`learn` takes an operator's feedback: rows of bytes, as `webtorch.detect.payloads.rows` makes them,
and labels, 1 for attacks.
"""

from jaxtyping import Float32, UInt8
from torch import Tensor, optim

import webtorch
from webtorch.detect import PayloadClassifier

classifier = PayloadClassifier.pretrained()
model = webtorch.Model("guard", classifier, lambda params: optim.SGD(params, lr=0.5))


@webtorch.infer
def score(bytes: UInt8[Tensor, "batch 1024"]) -> Float32[Tensor, "batch 1"]:
    """Score each request: the probability of an attack."""
    return model(bytes)


@webtorch.train
def learn(
    bytes: UInt8[Tensor, "batch 1024"], label: Float32[Tensor, "batch 1"]
) -> Float32[Tensor, "batch 1"]:
    """Make a step on requests that an operator has labelled, answer their new scores."""
    model.step(classifier.loss(bytes, label.squeeze(1)))
    return classifier(bytes).detach()
