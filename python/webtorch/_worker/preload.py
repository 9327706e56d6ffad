"""Imports for the master, whose workers then share them; `webtorch_preload` adds to them.

The package imports its modules when they are first used, which in a worker would be too late.
torch.optim imports torch._dynamo when the first optimizer is made: that takes 0.9 s and 70 MB, here
once for all workers instead of in each of them.
"""

import torch._dynamo  # noqa: F401

import webtorch._handlers
import webtorch._model
import webtorch._process
import webtorch._worker.access
import webtorch._worker.environment
import webtorch._worker.saver  # noqa: F401
