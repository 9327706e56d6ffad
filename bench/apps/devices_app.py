"""What bench/devices.py serves: a simulated device that is slow."""

import os
import time

os.environ["WEBTORCH_SIMULATED_DEVICE"] = "1"

from jaxtyping import Float32
from torch import Tensor

import webtorch
from webtorch._device import devices

# seconds that operations of the simulated device take
TIMES = {
    "slow": {"compute": 0.05},
    "computed": {"compute": 0.02},
    "copied": {"put": 0.01, "compute": 0.02, "fetch": 0.01},
}

if not webtorch.is_check():
    times: dict[str, float] = {}
    devices.open_device("cuda:0").before = lambda operation, size: time.sleep(
        times.get(operation, 0)
    )


@webtorch.infer(device="cuda")
def double(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    """Compute what takes no time but that of the device."""
    return 2 * x


@webtorch.handler
def choose(request: webtorch.Request) -> str:
    """Set how slow the device is."""
    times.clear()
    times.update(TIMES.get(request.args, {}))
    return "ok"
