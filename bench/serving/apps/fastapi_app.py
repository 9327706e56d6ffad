"""The networks in FastAPI; bodies are read as quickly as it can, without pydantic."""

import orjson
import torch
from fastapi import FastAPI, Request, Response

import nets

app = FastAPI()
all_nets = nets.Nets()


def json(y: torch.Tensor) -> Response:
    return Response(orjson.dumps(y.tolist()), media_type="application/json")


def raw(y: torch.Tensor) -> Response:
    return Response(y.numpy().tobytes(), media_type="application/octet-stream")


@app.post("/xor")
async def xor(request: Request) -> Response:
    return json(all_nets.xor(torch.tensor(orjson.loads(await request.body()))))


@app.post("/mlp")
async def mlp(request: Request) -> Response:
    return json(all_nets.mlp(torch.tensor(orjson.loads(await request.body()))))


@app.post("/mlp_binary")
async def mlp_binary(request: Request) -> Response:
    x = torch.frombuffer(bytearray(await request.body()), dtype=torch.float32)
    return raw(all_nets.mlp(x.view(-1, nets.MLP_INPUT)))


@app.post("/train")
async def train(request: Request) -> Response:
    return json(all_nets.train(torch.tensor(orjson.loads(await request.body()))))


@app.post("/beginning")
async def beginning(request: Request) -> Response:
    x = torch.frombuffer(bytearray(await request.body()), dtype=torch.float32)
    return raw(all_nets.beginning(x.view(-1, *nets.IMAGE)))
