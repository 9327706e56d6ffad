"""What the master imports for its workers, besides `webtorch_preload`.

The package imports its modules when they are first used, which in a worker would be too late.
torch.optim imports torch._dynamo with the first optimizer that is made: 0.9 s and 70 MB, in the
master once for all workers, or else in each of them.
"""

import torch._dynamo  # noqa: F401

import webtorch._handlers
import webtorch._zone.checkpoint  # noqa: F401
