"""Whether other weights are worse at a host than those before, by errors and by the loss."""

import dataclasses
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from webtorch._cluster.rollout import GOOD, Epoch, Rollout

LEAST = 20
"""Requests, or steps, from which on a share or a mean is one."""

ERRORS = 0.05
"""By how much the share of errors may grow."""

LOSS = 0.5
"""By how much of itself the loss may grow."""

PAUSES = 10
"""Pauses after which a host is not waited for any more that has few requests."""

WINDOW = 600.0
"""Seconds that are looked back at, at most."""

SAMPLES = 60


@dataclass(frozen=True)
class Figures:
    """What was counted at a host, since some time ago."""

    answers: int = 0
    """Of handlers that use the model."""
    errors: int = 0
    """Of these, those with 5xx."""
    steps: int = 0
    losses: float = 0.0
    """The sum of these steps' losses."""

    def since(self, before: "Figures") -> "Figures":
        """Return what was counted since then."""
        return Figures(
            self.answers - before.answers,
            self.errors - before.errors,
            self.steps - before.steps,
            self.losses - before.losses,
        )

    def is_before(self, other: "Figures") -> bool:
        """Return whether others may have been counted later."""
        return self.answers <= other.answers and self.steps <= other.steps

    @property
    def share(self) -> float:
        """Errors of requests; 0 if there were few."""
        return self.errors / self.answers if self.answers >= LEAST else 0.0

    @property
    def loss(self) -> float | None:
        """The mean loss; None if there were few steps."""
        return self.losses / self.steps if self.steps >= LEAST else None


@dataclass(frozen=True)
class Trial:
    """An epoch that is rolled out, since this host has it."""

    epoch: int
    origin: str
    began: float
    """On the clock that all processes of this machine have."""
    before: Figures
    """Of the epoch before."""
    base: Figures
    """What had been counted when the host took it."""

    @property
    def of(self) -> Epoch:
        """The epoch."""
        return self.epoch, self.origin

    def write(self) -> dict[str, Any]:
        """Return it as an object of JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def read(cls, found: Any) -> "Trial":
        """Read what `write` has returned, of this version of the package."""
        figures = {key: Figures(**found[key]) for key in ("before", "base")}
        return cls(**{**found, **figures})


def judge(before: Figures, after: Figures, age: float, pause: float) -> str:
    """Return a verdict, see `webtorch._cluster.rollout.Holding`.

    Args:
        before: What was counted with the weights before.
        after: What was counted with these.
        age: Seconds that they have been here.
        pause: Seconds for which they have to be.

    """
    if after.answers >= LEAST and after.share > before.share + ERRORS:
        text = f"errors: {after.errors} of {after.answers} requests failed"
        if before.answers < LEAST:
            return f"{text}, there were few before"
        return f"{text}, {before.errors} of {before.answers} before"
    old, new = before.loss, after.loss
    if old is not None and new is not None and not new <= old + LOSS * abs(old):
        return f"loss: {new:.4g} in the mean of {after.steps} steps, {old:.4g} before"
    if age >= pause and (after.answers >= LEAST or age >= PAUSES * pause):
        return GOOD
    return ""


class Watch:
    """Looks at a model before each round. One thread uses it.

    Args:
        clock: Returns seconds, the same in all processes of this machine.

    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._of: Epoch | None = None
        self._samples: deque[tuple[float, Figures]] = deque(maxlen=SAMPLES)

    def look(
        self, of: Epoch, rollout: Rollout | None, trial: Trial | None, now: Figures
    ) -> tuple[Trial | None, str]:
        """Return the trial of an epoch that this host has, and the verdict.

        Args:
            of: The epoch.
            rollout: What is rolled out.
            trial: The one before.
            now: What was counted so far.

        """
        is_tried = rollout is not None and rollout.of == of and rollout.is_open
        if rollout is None or not is_tried:
            self._note(of, now)
            return None, ""
        time_ = self._clock()
        if trial is None or trial.of != of:
            base = self._samples[-1][1] if self._samples else now
            if not base.is_before(now):
                base = now
            trial = Trial(*of, time_, self._before(base), base)
        elif not trial.base.is_before(now):
            # a new binary begins to count with zero
            trial = dataclasses.replace(trial, base=Figures())
        self._samples.clear()
        self._of = of
        after = now.since(trial.base)
        return trial, judge(trial.before, after, time_ - trial.began, rollout.pause)

    def _before(self, base: Figures) -> Figures:
        """Return what was counted in the time that is looked back at."""
        least = self._clock() - WINDOW
        for at, sample in self._samples:
            if at >= least and sample.is_before(base):
                return base.since(sample)
        return Figures()

    def _note(self, of: Epoch, now: Figures) -> None:
        samples = self._samples
        if of != self._of:
            samples.clear()
            self._of = of
        time_ = self._clock()
        # the youngest is of now, those before it are apart
        if len(samples) > 1 and time_ - samples[-2][0] < WINDOW / SAMPLES:
            samples.pop()
        samples.append((time_, now))
