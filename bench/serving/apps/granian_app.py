"""The networks in an application of Granian's own interface, RSGI."""

from typing import Any

import orjson
import torch

import nets

all_nets = nets.Nets()
JSON = [("content-type", "application/json")]
RAW = [("content-type", "application/octet-stream")]


def rows(body: bytes, *shape: int) -> torch.Tensor:
    return torch.frombuffer(bytearray(body), dtype=torch.float32).view(-1, *shape)


async def app(scope: Any, protocol: Any) -> None:
    body = await protocol()
    match scope.path:
        case "/xor":
            y = all_nets.xor(torch.tensor(orjson.loads(body)))
        case "/mlp":
            y = all_nets.mlp(torch.tensor(orjson.loads(body)))
        case "/train":
            y = all_nets.train(torch.tensor(orjson.loads(body)))
        case "/mlp_binary":
            y = all_nets.mlp(rows(body, nets.MLP_INPUT))
            return protocol.response_bytes(200, RAW, y.numpy().tobytes())
        case "/beginning":
            y = all_nets.beginning(rows(body, *nets.IMAGE))
            return protocol.response_bytes(200, RAW, y.numpy().tobytes())
        case _:
            return protocol.response_empty(404, [])
    protocol.response_bytes(200, JSON, orjson.dumps(y.tolist()))
