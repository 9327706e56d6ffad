"""A model of one weight with versions, its application and its requests."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from nginx import Nginx

APP = """
    import asyncio
    import torch, webtorch
    from jaxtyping import Float32, Int64
    from torch import Tensor, nn, optim
    from torch.nn.functional import mse_loss

    def net(weight, size=1):
        layer = nn.Linear(size, 1, bias=False)
        nn.init.constant_(layer.weight, weight)
        return layer

    model = webtorch.Model("scale", net(1), lambda p: optim.SGD(p, lr=0.1))

    @webtorch.infer
    def output(x: Float32[Tensor, "batch 1"]) -> tuple[
        Float32[Tensor, "batch 1"], Int64[Tensor, "batch"]
    ]:
        return model(x), torch.full((len(x),), len(x))

    @webtorch.train
    def train(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
        found = model(x)
        model.step(mse_loss(found, torch.zeros_like(found)))
        return found

    @webtorch.handler
    def about(request):
        return {"weight": model.module.weight.item(), "steps": model.steps}

    @webtorch.handler
    async def later(request):
        await asyncio.sleep(0)
        found, _ = await output.batched([[1.0]])
        return {"weight": model.module.weight.item(), "batched": found.item()}

    @webtorch.handler
    def own_loop(request):
        async def compute():
            found, _ = await output.batched([[1.0]])
            return found.item()

        return {"batched": asyncio.run(compute())}
"""


def http(directory: Path) -> str:
    """Return the directives of a zone and of checkpoints."""
    return f"webtorch_zone models:1m;\nwebtorch_checkpoint {directory} interval=1h;"


def put(
    directory: Path, version: object, weight: float, size: int = 1, name: str = "begin"
) -> None:
    """Put a file of a version into its directory."""
    path = directory / ("scale" if version == 1 else f"scale@{version}")
    path.mkdir(exist_ok=True)
    path.chmod(0o777)
    file = path / f"{name}.safetensors"
    save_file({"weight": torch.full((1, size), float(weight))}, file)
    file.chmod(0o644)


def weight(server: Nginx, path: str) -> float:
    """Return the weight that a location answers with."""
    answer = server.post(path, [[1.0]])
    assert answer.ok, answer.text
    return float(answer.json()["output_0"][0][0])


def infer(server: Nginx, version: str) -> tuple[str, float]:
    """Return the version and the weight that the inference protocol answers with."""
    x = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}
    answer = server.post(f"/v2/models/output{version}/infer", {"inputs": [x]})
    assert answer.ok, answer.text
    return answer.json()["model_version"], answer.json()["outputs"][0]["data"][0]
