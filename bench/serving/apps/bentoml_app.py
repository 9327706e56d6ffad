"""The networks in BentoML: NumPy arrays in JSON, and raw bodies from Starlette's requests."""

import bentoml
import numpy as np
import orjson
import torch
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import nets

all_nets = nets.Nets()


async def mlp_binary(request: Request) -> Response:
    x = torch.frombuffer(bytearray(await request.body()), dtype=torch.float32)
    y = all_nets.mlp(x.view(-1, nets.MLP_INPUT))
    return Response(y.numpy().tobytes(), media_type="application/octet-stream")


async def beginning(request: Request) -> Response:
    x = torch.frombuffer(bytearray(await request.body()), dtype=torch.float32)
    y = all_nets.beginning(x.view(-1, *nets.IMAGE))
    return Response(y.numpy().tobytes(), media_type="application/octet-stream")


async def train(request: Request) -> Response:
    y = all_nets.train(torch.tensor(orjson.loads(await request.body())))
    return Response(orjson.dumps(y.tolist()), media_type="application/json")


raw = Starlette(
    routes=[
        Route("/mlp_binary", mlp_binary, methods=["POST"]),
        Route("/beginning", beginning, methods=["POST"]),
        Route("/train", train, methods=["POST"]),
    ]
)


@bentoml.asgi_app(raw, path="/raw")
@bentoml.service(workers=1, traffic={"timeout": 60, "max_concurrency": 10000})
class Serving:
    """The service."""

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
    def xor(self, x: np.ndarray, /) -> np.ndarray:
        return all_nets.xor(torch.tensor(x, dtype=torch.float32)).numpy()

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
    def mlp(self, x: np.ndarray, /) -> np.ndarray:
        return all_nets.mlp(torch.tensor(x, dtype=torch.float32)).numpy()
