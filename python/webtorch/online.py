"""Models that learn from a stream of samples: metrics, and what to do when the data changes.

Each sample is predicted before it is learned, so that all of them test the model (prequential
evaluation: Gama, Sebastião and Rodrigues, "On evaluating stream learning algorithms", 2013). ADWIN
(Bifet and Gavaldà, "Learning from time-changing data with adaptive windowing", 2007) detects when
the mean error has changed. It is that of the library river: `pip install webtorch[online]`.

    monitor = online.Monitor(
        model, on_drift=lambda monitor, drift: monitor.raise_learning_rate(10, 2000)
    )

    @webtorch.train
    def learn(x: Float32[Tensor, "batch 8"], y: Float32[Tensor, "batch"]) -> ...:
        logit = model(x)[:, 0]
        loss = functional.binary_cross_entropy_with_logits(logit, y)
        monitor.step(loss, (logit > 0) != (y > 0.5))
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from river.drift import ADWIN
from torch import Tensor
from torch.nn import functional

from webtorch._models.model import Model

__all__ = ["Drift", "Monitor"]

log = logging.getLogger("webtorch")

MAX_POINTS = 16
"""Values of a batch that the detector is given; those of larger batches are means of samples."""

_CLOCK = 8
"""Values between two looks of the detector for a change."""


@dataclass(frozen=True)
class Drift:
    """A change of the mean error.

    Attributes:
        samples: The samples that the monitor had seen when it was detected.
        before: The mean error of the samples before the change.
        after: That of the samples since then.

    """

    samples: int
    before: float
    after: float


class Monitor:
    """Measures the error of a model on samples that it has not learned yet, and detects drift.

    Each worker has a monitor of its own, of the samples that it gets. Its methods are called in
    functions under `@webtorch.train`, which run one at a time.

    Args:
        model: The model that learns.
        delta: The probability of a detection although nothing has changed, between 0 and 1: a
            smaller one makes detections later.
        on_drift: Called with the monitor and the drift when the error has grown, after a warning
            is logged. It may call `freeze` or `raise_learning_rate`.

    Raises:
        ValueError: `delta` is out of range.

    """

    def __init__(
        self,
        model: Model,
        *,
        delta: float = 0.002,
        on_drift: Callable[["Monitor", Drift], object] | None = None,
    ) -> None:
        if not 0 < delta < 1:
            raise ValueError(f"delta is between 0 and 1, not {delta}")
        self.model = model
        self.samples = 0
        self.drifts = 0
        self._on_drift = on_drift
        self._detector = ADWIN(delta=delta, clock=_CLOCK)
        self._sum = 0.0
        self._frozen_until: float = 0
        self._raised_until: float = 0
        self._rates: list[Any] = []

    @property
    def error(self) -> float:
        """The mean error of the samples since the last drift, as far as ADWIN keeps them."""
        return float(self._detector.estimation)

    @property
    def mean_error(self) -> float:
        """The mean error of all samples; 0 before the first one."""
        return self._sum / self.samples if self.samples else 0.0

    @property
    def frozen(self) -> bool:
        """Whether samples are not learned."""
        return self.samples < self._frozen_until

    def step(self, loss: Tensor, errors: Tensor) -> None:
        """Record the errors of a batch, then learn it, unless the model is frozen.

        Args:
            loss: A tensor of one element, computed from the model's outputs.
            errors: `[batch]` or `[batch, 1]`, the error of each sample before it is learned, from 0
                to 1: for a classifier whether it was wrong.

        Raises:
            ValueError: An error is not between 0 and 1; nothing is recorded.
            RuntimeError: The model has no optimizer, or the loss no gradient.
            FloatingPointError: The loss is not finite; the model is not changed.

        """
        self.observe(errors)
        if not self.frozen:
            self.model.step(loss)

    def observe(self, errors: Tensor) -> None:
        """Record the errors of a batch without learning it.

        Args:
            errors: As for `step`.

        Raises:
            ValueError: An error is not between 0 and 1; nothing is recorded.

        """
        values = errors.detach().flatten().float()
        if not len(values):
            return
        low, high = values.aminmax()
        if not (low >= 0 and high <= 1):
            raise ValueError("errors are between 0 and 1")
        self.samples += len(values)
        self._sum += values.sum().item()
        if len(values) > MAX_POINTS:
            values = functional.adaptive_avg_pool1d(values[None], MAX_POINTS)[0]
        for value in values.tolist():
            self._detect(value)
        if self._rates and self.samples >= self._raised_until:
            self._restore_rates()

    def freeze(self, samples: float = float("inf")) -> None:
        """Only predict the next samples, by default until `unfreeze`.

        Args:
            samples: Number of samples that are not learned.

        """
        self._frozen_until = self.samples + samples

    def unfreeze(self) -> None:
        """Learn again."""
        self._frozen_until = 0

    def raise_learning_rate(self, factor: float, samples: int) -> None:
        """Multiply the learning rates of this worker's optimizer for the next samples.

        While they are raised, another call only changes for how long.

        Args:
            factor: What each parameter group's `lr` is multiplied by.
            samples: Number of samples after which the rates are as before.

        Raises:
            RuntimeError: The model has no optimizer.

        """
        optimizer = self.model.optimizer
        if optimizer is None:
            raise RuntimeError(f'model "{self.model.name}" has no optimizer')
        self._raised_until = self.samples + samples
        if not self._rates:
            self._rates = [group["lr"] for group in optimizer.param_groups]
            for group, rate in zip(optimizer.param_groups, self._rates, strict=True):
                group["lr"] = rate * factor

    def _restore_rates(self) -> None:
        assert self.model.optimizer
        for group, rate in zip(self.model.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate
        self._rates = []

    def _detect(self, value: float) -> None:
        before = self.error
        self._detector.update(value)
        # an error that has become smaller is what learning is for
        if not self._detector.drift_detected or self.error <= before:
            return
        self.drifts += 1
        drift = Drift(self.samples, before, self.error)
        log.warning(
            'model "%s": drift after %d samples, the mean error has grown from %.3f to %.3f',
            self.model.name,
            drift.samples,
            drift.before,
            drift.after,
        )
        if self._on_drift:
            self._on_drift(self, drift)
