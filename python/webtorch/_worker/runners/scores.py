"""Policies by their names in nginx's configuration, and functions that score servers."""

import importlib
import math
from collections.abc import Callable

import torch
from torch import Tensor

from webtorch._handlers.functions import Handler
from webtorch.balancer import FEATURES, Correction, Policy, PolicyError, Servers


class Scores:
    """A function that scores servers: twice the score halves the cost.

    Args:
        function: Takes Servers and returns a score for each, finite and greater than 0.

    """

    interval = 1.0
    """Seconds between calls."""

    def __init__(self, function: Callable[[Servers], Tensor]) -> None:
        self._function = function

    def scales(self, servers: Servers) -> Tensor:
        """Return the factors of the servers' costs, float32 `[servers]`.

        Raises:
            PolicyError: The function did not return a finite number greater than 0 for each server.
            Exception: The function raised it.

        """
        if not len(servers):
            return torch.empty(0)
        scores = self._function(servers)
        if not isinstance(scores, Tensor) or scores.shape != (len(servers),):
            raise PolicyError(f"a tensor of {len(servers)} scores is expected, not {scores}")
        scores = scores.detach().to("cpu", torch.float32)
        if not (scores.isfinite() & (scores > 0)).all():
            raise PolicyError(f"scores are to be finite and greater than 0, not {scores}")
        return (scores.mean() / scores).contiguous()

    def correction(self) -> Correction:
        """Return a correction of nothing."""
        return Correction(False, math.nan, math.nan, 0.0, [0.0] * len(FEATURES), [], [], [])


def find(name: str) -> Policy | Scores:
    """Import a policy.

    Args:
        name: `module:name` of a subclass of Policy, or of a function of Servers.

    Raises:
        PolicyError: There is none of that name, or nginx cannot use it.
        Exception: Importing it raised it.

    """
    module_name, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(module_name), attribute, None)
    if found is None:
        raise PolicyError(f'module "{module_name}" has no "{attribute}"')
    if isinstance(found, type) and issubclass(found, Policy):
        policy = found()
        policy.correction()
        if not 0.05 <= policy.interval <= 2.0:
            raise PolicyError(f"its interval is to be 0.05 to 2 seconds, not {policy.interval}")
        return policy
    if callable(found) and not isinstance(found, type | Handler):
        return Scores(found)
    raise PolicyError(f'"{attribute}" is neither a webtorch.balancer.Policy nor a function')
