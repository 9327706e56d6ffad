"""What `webtorch_status` shows of models."""

import time

from webtorch._metrics.cells import Cells, MetricKind, Wanted, own_cells


class Counts:
    """Cells of a model, as ngx_webtorch_metrics_model_t has them."""

    STEPS, STEPPED, LOSS, AVERAGE, SAVED, COMPILED, LOSSES = range(7)
    LOADED, UNSAVED, UNSTORED = range(7, 10)

    def __init__(self, name: str) -> None:
        self._cells: Cells = own_cells(Wanted(MetricKind.MODEL, name))
        self._steps = 0  # of this worker since its start, at most as many as the mean is of

    def load(self, loaded: bool) -> None:
        """Note whether this worker has the model."""
        self._cells.ints[self.LOADED] = int(loaded)

    def step(self, loss: float) -> None:
        """Count a step; the mean is that of about the last hundred."""
        ints, floats = self._cells.ints, self._cells.floats
        self._steps = min(self._steps + 1, 100)
        floats[self.LOSS] = loss
        floats[self.AVERAGE] += (loss - floats[self.AVERAGE]) / self._steps
        floats[self.LOSSES] += loss
        ints[self.STEPPED] = _milliseconds()
        ints[self.STEPS] += 1

    def compile(self) -> None:
        """Count a graph that was compiled."""
        self._cells.ints[self.COMPILED] += 1

    def save(self) -> None:
        """Note that a checkpoint was written."""
        self._cells.ints[self.SAVED] = _milliseconds()

    def fail(self, cell: int, is_failing: bool) -> None:
        """Note whether checkpoints can be written.

        Args:
            cell: UNSAVED for those of the disk, UNSTORED for those of object storage.
            is_failing: Whether they cannot.

        """
        ints = self._cells.ints
        ints[cell] = (ints[cell] or _milliseconds()) if is_failing else 0


def _milliseconds() -> int:
    """Return the time since 1970."""
    return time.time_ns() // 1_000_000
