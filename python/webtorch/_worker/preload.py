"""Imports for the master, whose workers then share them; `webtorch_preload` adds to them.

The package imports its modules when they are first used, which in a worker would be too late.
torch._dynamo, which takes 0.9 s and 70 MB, is not among them: the master imports it when it knows
that the handlers use it. NumPy makes its generator when `numpy.random` is first used: it is made
here, so that all workers draw the same initial weights.
"""

import sys

import webtorch._core.process
import webtorch._handlers.decorators
import webtorch._models.model
import webtorch._worker.process.environment
import webtorch._worker.process.permissions
import webtorch._worker.threads.saver  # noqa: F401

if "numpy" in sys.modules:  # PyTorch has found it
    import numpy.random  # noqa: F401
