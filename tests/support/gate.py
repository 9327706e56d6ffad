"""Handlers that stop at a gate, so that tests know what runs, what waits, and in which thread."""

from collections.abc import Sequence
from typing import Any

from nginx import Nginx, wait_for

GATE_APP = '''
import os
import threading

import torch
import webtorch
from jaxtyping import Float64
from torch import Tensor

gate = threading.Event()
gate.set()
calls: list[list[float]] = []


@webtorch.infer
def gated(x: Float64[Tensor, "batch 1"]) -> Float64[Tensor, "batch 1"]:
    """Note the rows, wait for the gate, answer 2x + 1."""
    calls.append(x.flatten().tolist())
    gate.wait()
    return 2 * x + 1


@webtorch.infer
def affine(x: Float64[Tensor, "batch 1"]) -> Float64[Tensor, "batch 1"]:
    """Note the rows, answer 2x + 1."""
    calls.append(x.flatten().tolist())
    return 2 * x + 1


@webtorch.handler
def gated_request(request: webtorch.Request) -> str:
    """Note the body's length, wait for the gate."""
    calls.append([len(request.body)])
    gate.wait()
    return "passed"


@webtorch.handler
def where(request: webtorch.Request) -> dict:
    """Tell the thread; a worker's event loop runs in the thread whose number is its pid."""
    return {"pid": os.getpid(), "thread": threading.get_native_id()}


@webtorch.handler
def control(request: webtorch.Request) -> dict:
    """Shut or open the gate, tell the calls since it was shut."""
    if request.args == "shut":
        calls.clear()
        gate.clear()
    elif request.args == "open":
        gate.set()
    return {"calls": calls}
'''

GATE_SERVER = """
location = /gate { webtorch_handler app:control mode=thread; }
location = /where { webtorch_handler app:where mode=thread; }
"""


class Gate:
    """The gate in the only worker of a server with GATE_APP and GATE_SERVER.

    As a context it is shut, and open again afterwards.
    """

    def __init__(self, server: Nginx) -> None:
        self._server = server

    def __enter__(self) -> "Gate":
        self.shut()
        return self

    def __exit__(self, *_: object) -> None:
        self.open()

    def shut(self) -> None:
        """Hold all calls from now on."""
        self._control("shut")

    def open(self) -> None:
        """Release all calls that wait, and hold no later ones."""
        self._control("open")

    def calls(self) -> list[list[float]]:
        """Return the rows of each call, in order, since the gate was shut."""
        calls: list[list[float]] = self._control("")["calls"]
        return calls

    def wait_for_calls(self, count: int) -> None:
        """Wait until so many calls have begun."""
        wait_for(lambda: len(self.calls()) >= count, f"{count} calls")

    def _control(self, command: str) -> Any:
        answer = self._server.get(f"/gate?{command}")
        assert answer.ok, answer.text
        return answer.json()


def rows_of(*numbers: float) -> list[list[float]]:
    """Write numbers as the rows of a request."""
    return [[number] for number in numbers]


def affine(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """Compute what the handlers answer, in the same arithmetic."""
    return [[2 * number + 1 for number in row] for row in rows]
