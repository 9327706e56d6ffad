"""The runner that begins generations; it touches cffi."""

from typing import Any

from webtorch._native import lib
from webtorch._worker.runners.tensor_runner import TensorRunner

OPEN = "/open"
"""Follows the name of a handler in that of this runner's."""


class OpenRunner(TensorRunner):
    """Calls `open` of a generate function: a batch for each request."""

    def run(self, number: int, generation: int, rows: int, batch: Any) -> None:
        """Run a batch; the reply says that the generation is to be ended, also without a waiter."""
        super().run(number, generation, rows, batch)
        for index in range(batch.njobs):
            job = batch.jobs + index
            if job.status == 0 and lib.ngx_webtorch_job_reply_body(job, 200, b"", b"", 0) != 0:
                raise MemoryError
