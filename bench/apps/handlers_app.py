"""What bench/handlers.py serves; peers/fastapi_app.py has the same in FastAPI."""

import asyncio
import time

import torch
from flower import Flower, Species
from jaxtyping import Float32
from pictures import classify
from torch import Tensor
from xor_app import output

import webtorch
from webtorch import Strings


@webtorch.handler
def small(request: webtorch.Request) -> dict[str, object]:
    return {"label": "setosa", "probability": 0.97, "model": 3}


@webtorch.handler
def flower(request: webtorch.Request, flower: Flower) -> Species:
    return Species(label="setosa", probability=flower.petal_length / 10)


@webtorch.handler
def wait(request: webtorch.Request) -> str:
    time.sleep(0.5)
    return "ok"


@webtorch.handler
async def wait_async(request: webtorch.Request) -> str:
    await asyncio.sleep(0.5)
    return "ok"


@webtorch.handler
async def alone(request: webtorch.Request) -> Tensor:
    return output(torch.tensor(request.json()))


@webtorch.handler
async def without(request: webtorch.Request) -> Tensor:
    return torch.tensor(request.json())


@webtorch.handler
async def together(request: webtorch.Request) -> Tensor:
    return await output.batched(torch.tensor(request.json()))


@webtorch.infer
def picture(file: Strings[list[bytes], "batch"]) -> Float32[Tensor, "batch 3"]:
    return classify(file)
