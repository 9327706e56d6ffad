"""Stages in one process: look up, prepare, compute together with other requests.

Run it with `./build.sh run nginx-conf/pipeline.conf`. A handler asks another service for what it
knows of a customer, puts the values into a row, and waits for the network, which computes the rows
of all requests that are there in one call.
"""

import os
from dataclasses import dataclass

import httpx
import torch
from jaxtyping import Float32
from torch import Tensor, nn

import webtorch

AGE_MEAN, AGE_SPREAD = 40.0, 15.0

# one client, and so one pool of connections, in each worker
customers = httpx.AsyncClient(
    base_url=os.environ.get("CUSTOMERS", "http://127.0.0.1:3001"), timeout=2
)

torch.manual_seed(0)
network = webtorch.Model("risk", nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1)))


@dataclass
class Order:
    """An order to be judged."""

    customer: int
    amount: float


@webtorch.infer
def risk(x: Float32[Tensor, "batch 3"]) -> Float32[Tensor, "batch 1"]:
    """Return the probability that an order is not paid, for each row."""
    return torch.sigmoid(network(x))


@webtorch.handler(methods=["POST"])
async def judge(request: webtorch.Request, order: Order) -> dict[str, object]:
    """Judge an order."""
    answer = await customers.get(f"/customers/{order.customer}")
    if answer.status_code != httpx.codes.OK:
        raise webtorch.HTTPError(422, f"there is no customer {order.customer}")
    customer = answer.json()
    row = [
        (customer["age"] - AGE_MEAN) / AGE_SPREAD,
        float(customer["orders"] > 0),
        order.amount / 100,
    ]
    ((probability,),) = await risk.batched(torch.tensor([row]))
    return {"customer": customer["name"], "risk": float(probability)}
