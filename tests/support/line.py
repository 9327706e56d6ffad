"""A model of a line, which workers share and files keep: its application and its requests."""

from typing import Any

from nginx import Nginx, wait_for

APP = """
    import os
    import torch, webtorch
    from jaxtyping import Float32
    from torch import Tensor, nn, optim
    from torch.nn.functional import mse_loss

    torch.manual_seed({seed})
    model = webtorch.Model("line", nn.Linear({width}, 1), lambda p: {optimizer}, lock={lock})

    @webtorch.train
    def train(x: Float32[Tensor, "batch {width}"]) -> Float32[Tensor, "batch 1"]:
        label = x.sum(dim=1, keepdim=True)
        model.step(mse_loss(model(x), label))
        return label

    @webtorch.infer
    def output(x: Float32[Tensor, "batch {width}"]) -> Float32[Tensor, "batch 1"]:
        return model(x)

    @webtorch.handler
    def about(request):
        state = {{k: v.tolist() for k, v in model.module.state_dict().items()}}
        return {{"pid": os.getpid(), "steps": model.steps, "state": state}}
"""

SERVER = """
    location = /train { webtorch_handler app:train max_batch=1; }
    location = /output { webtorch_handler app:output; }
    location = /about { webtorch_handler app:about; }
"""

SGD = "optim.SGD(p, lr=0.01)"
MOMENTUM = "optim.SGD(p, lr=0.001, momentum=0.9)"
ADAM = "optim.Adam(p, lr=0.01)"


def app(
    *, seed: object = "os.getpid()", width: int = 2, optimizer: str = SGD, lock: bool = False
) -> str:
    """Write the application."""
    return APP.format(seed=seed, width=width, optimizer=optimizer, lock=lock)


def train(server: Nginx, times: int = 1, width: int = 2) -> None:
    """Send requests for a step each."""
    for _ in range(times):
        assert server.post("/train", [[1.0] * width]).ok


def about_each(server: Nginx) -> list[dict[str, Any]]:
    """Ask until all workers have answered; return what each of them said."""
    found: dict[int, dict[str, Any]] = {}

    def all_answered() -> list[int] | None:
        answer = server.post("/about").json()
        found[answer.pop("pid")] = answer
        workers = server.workers()
        return workers if found.keys() >= set(workers) else None

    return [found[pid] for pid in wait_for(all_answered, "an answer of each worker")]
