"""The runner of custom handlers' batches."""

from collections.abc import Callable, Sequence
from typing import Any

from webtorch._handlers import RequestFunction
from webtorch._worker.failures import Failures
from webtorch._worker.replies import send_result
from webtorch._worker.requests import Names, take_request


class RequestRunner:
    """Runs the batches of a custom handler: a call for each request.

    Args:
        name: Name of the handler, `module:function`.
        handler: The handler.
        captures: Named captures of its location.

    Raises:
        SignatureError: Nothing fills an argument of the handler.

    """

    def __init__(self, name: str, handler: RequestFunction, captures: Sequence[str]) -> None:
        self.name = name
        self.names = Names(handler.variables, captures)
        self._failures = Failures(name)
        self.handler = handler
        self._call = handler.bind(captures)

    def prepare(self, handler: Any) -> Callable[[], None]:
        """Return a function that takes a handler with the same variables instead.

        Raises:
            SignatureError: Nothing fills an argument of it.

        """
        call = handler.bind(self.names.captures)

        def replace() -> None:
            self.handler = handler
            self._call = call

        return replace

    def run(self, number: int, generation: int, rows: int, batch: Any) -> None:
        """Run the requests of a batch, a webtorch_batch_t, one after the other."""
        run = self.handler.run
        for index in range(batch.njobs):
            job = batch.jobs + index
            try:
                send_result(job, run(self._call, take_request(job, self.names)))
            except BaseException as error:
                self._failures.answer(job, error)
