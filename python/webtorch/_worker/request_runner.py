"""The runner of custom handlers' batches."""

from typing import Any

from webtorch._handlers import RequestFunction
from webtorch._worker.failures import Failures
from webtorch._worker.replies import send_reply
from webtorch._worker.requests import take_request


class RequestRunner:
    """Runs the batches of a custom handler: a call for each request.

    Args:
        name: Name of the handler, `module:function`.
        handler: The handler, which may be replaced by one with the same variables.

    """

    def __init__(self, name: str, handler: RequestFunction) -> None:
        self.name = name
        self.handler = handler
        self._failures = Failures(name)

    def run(self, number: int, generation: int, rows: int, batch: Any) -> None:
        """Run the requests of a batch, a webtorch_batch_t, one after the other."""
        for index in range(batch.njobs):
            job = batch.jobs + index
            try:
                response = self.handler.run(take_request(job, self.handler.variables))
                send_reply(job, response)
            except BaseException as error:
                self._failures.answer(job, error)
