"""The runner of balancers' policies; it touches cffi."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from webtorch._native import ffi, lib
from webtorch._worker.runners.scores import Scores, find
from webtorch.balancer import Correction, PolicyError, Samples, Servers

SAMPLE = np.dtype(
    [
        ("server", "<u4"),
        ("outcome", "<i4"),
        ("latency", "<f4"),
        ("expected", "<f4"),
        ("features", "<f4", lib.WEBTORCH_FEATURES),
    ]
)
"""The layout of webtorch_sample_t."""

SERVER = np.dtype(
    [
        ("server", "<u4"),
        ("in_flight", "<u4"),
        ("ejected", "<u4"),
        ("service", "<f4"),
        ("concurrency", "<f4"),
        ("error", "<f4"),
        ("features", "<f4", lib.WEBTORCH_FEATURES),
    ]
)
"""The layout of webtorch_server_t."""


class PolicyRunner:
    """Runs the rounds of a balancer's policy, or of a function that scores its servers.

    Args:
        name: `module:name` of the policy or the function.

    Raises:
        PolicyError: There is none of that name, or it cannot be used.
        Exception: Importing it raised it.

    """

    MAX_SAMPLES = 4096
    MAX_SERVERS = 256

    def __init__(self, name: str) -> None:
        self.name = name
        self._policy = find(name)
        self.interval = self._policy.interval
        self._next = ffi.new("uint64_t *")
        self._samples = np.zeros(self.MAX_SAMPLES, SAMPLE)
        self._servers = np.zeros(self.MAX_SERVERS, SERVER)
        # resets the scales that a function of an earlier configuration has set
        self._unscaled = torch.ones(self.MAX_SERVERS)

    def run(self, number: int) -> None:
        """Learn from a balancer's finished requests, and publish the result to all workers.

        Args:
            number: Number of the balancer.

        Raises:
            PolicyError: The result cannot be used.
            Exception: The policy raised it.

        """
        if isinstance(self._policy, Scores):
            self._scale(number, self._policy.scales(self._take_servers(number)))
        else:
            self._policy.round(self._take_samples(number))
            self._scale(number, self._unscaled)
        self._publish(number, self._policy.correction())

    def _take_samples(self, number: int) -> Samples:
        memory = ffi.from_buffer("webtorch_sample_t[]", self._samples)
        count = lib.ngx_webtorch_balancer_samples(number, self._next, memory, self.MAX_SAMPLES)
        taken = self._samples[:count]
        return Samples(**{name: _column(taken, name) for name in SAMPLE.fields or ()})

    def _take_servers(self, number: int) -> Servers:
        memory = ffi.from_buffer("webtorch_server_t[]", self._servers)
        count = lib.ngx_webtorch_balancer_servers(number, memory, self.MAX_SERVERS)
        taken = self._servers[:count]
        columns = {name: _column(taken, name) for name in SERVER.fields or ()}
        return Servers(**{**columns, "ejected": columns["ejected"] != 0})

    def _scale(self, number: int, scales: Tensor) -> None:
        memory = ffi.from_buffer("float[]", scales.numpy())
        if lib.ngx_webtorch_balancer_scale(number, memory, len(scales)) != 0:
            raise PolicyError(f"the scores are too far apart, costs would be times {scales}")

    def _publish(self, number: int, correction: Correction) -> None:
        params = ffi.new("webtorch_params_t *")
        params.used = correction.used
        params.hidden = len(correction.weights)
        params.loss = correction.loss
        params.baseline = correction.baseline
        params.bias = correction.bias
        params.linear = correction.linear
        params.biases = correction.biases
        params.output = correction.output
        params.weights = correction.weights
        if lib.ngx_webtorch_balancer_publish(number, params) != 0:
            raise PolicyError("what it has learned is not finite")


def _column(records: "np.ndarray[Any, Any]", name: str) -> Tensor:
    """Copy a field of records; integers become int64, which torch supports in full."""
    column = np.ascontiguousarray(records[name])
    return torch.from_numpy(column.astype(np.int64) if column.dtype.kind in "iu" else column)
