"""An application whose functions one worker runs, and clients of the others."""

from typing import Any

import requests

from nginx import DEADLINE, Nginx, wait_for

APP = """
import os, time
import torch, webtorch
from jaxtyping import Float32, Int64
from torch import Tensor
from webtorch import Strings

gate = os.environ.get("GATE", "")

@webtorch.infer
def where(x: Float32[Tensor, "batch 1"]) -> Int64[Tensor, "batch 2"]:
    rows = torch.full((len(x), 2), os.getpid())
    rows[:, 1] = x[:, 0].long()
    return rows

@webtorch.infer
def wide(
    x: Float32[Tensor, "batch n"]
) -> tuple[Float32[Tensor, "batch n"], Float32[Tensor, "batch m"]]:
    return 2 * x, x.sum(1, keepdim=True).repeat(1, 3)

@webtorch.infer
def words(
    text: Strings[list[list[str]], "batch n"], x: Float32[Tensor, "batch n"]
) -> tuple[Strings[list[list[str]], "batch n"], Int64[Tensor, "batch n"]]:
    return [[word.upper() * 2 for word in row] for row in text], x.long()

@webtorch.infer
def long(x: Float32[Tensor, "batch"]) -> Strings[list[str], "batch"]:
    return ["a" * int(n) for n in x]

@webtorch.infer
def taller(x: Float32[Tensor, "batch n"]) -> Float32[Tensor, "batch n 32"]:
    return x[:, :, None].expand(-1, -1, 32).contiguous()

@webtorch.infer
def picky(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    if (x == 13).any():
        raise webtorch.HTTPError(422, [{"at": 13}], code="thirteen", message="no thirteen",
                                 headers={"X-Why": "luck"})
    if (x == 14).any():
        raise ValueError("fourteen")
    if (x == 17).any():
        raise webtorch.QueueFullError("seventeen")
    if (x == 18).any():
        raise webtorch.BatchTimeoutError("eighteen")
    return -x

@webtorch.infer
def gated(x: Float32[Tensor, "batch 1"]) -> Int64[Tensor, "batch 1"]:
    if (x == 1).any():
        open(f"{gate}/begun", "w").close()
        while not os.path.exists(f"{gate}/open"):
            time.sleep(0.01)
    return torch.full((len(x), 1), os.getpid())

@webtorch.infer
def plain(x: Float32[Tensor, "2"]) -> Float32[Tensor, "2"]:
    return x + 1

@webtorch.infer
def maybe(
    x: Float32[Tensor, "batch 1"], y: Float32[Tensor, "batch 1"] | None
) -> Float32[Tensor, "batch 1"]:
    return x if y is None else x + y

net = torch.nn.Linear(1, 1)
model = webtorch.Model("net", net, optimizer=lambda parameters: torch.optim.SGD(parameters, 0.1))

@webtorch.train
def learn(x: Float32[Tensor, "batch 1"]) -> Int64[Tensor, "batch 1"]:
    model.step(model(x).square().mean())
    return torch.full((len(x), 1), os.getpid())

@webtorch.handler
def pid(request):
    return {"pid": os.getpid(), "owner": webtorch.is_owner(), "steps": model.steps}

@webtorch.handler
async def posted(request):
    x = torch.tensor([[float(request.query()["x"])]])
    return {"pid": os.getpid(), "where": (await where.batched(x)).tolist()}

@webtorch.handler
def failing(request):
    try:
        return picky.batched(torch.tensor([[float(request.query()["x"])]])).tolist()
    except webtorch.HTTPError as error:
        return {"type": type(error).__name__, "status": error.status, "code": error.code,
                "detail": error.detail, "headers": [*error.headers]}
"""

HTTP = "webtorch_zone models:16m;"

SERVER = """
client_max_body_size 16m;
webtorch_device cpu owner=4m;
location = /where { webtorch_handler app:where; }
location = /wide { webtorch_handler app:wide; }
location = /words { webtorch_handler app:words; }
location = /long { webtorch_handler app:long; }
location = /longer { webtorch_handler app:long max_delay=300ms; }
location = /taller { webtorch_handler app:taller max_delay=300ms; }
location = /picky { webtorch_handler app:picky max_delay=200ms; }
location = /plain { webtorch_handler app:plain; }
location = /maybe { webtorch_handler app:maybe; }
location = /learn { webtorch_handler app:learn; }
location = /pid { webtorch_handler app:pid; }
location = /posted { webtorch_handler app:posted; }
location = /failing { webtorch_handler app:failing; }
location = /own { webtorch_device cpu; webtorch_handler app:where; }
location = /status { webtorch_status; }
"""

WORKERS = 4


class Client:
    """A connection to a worker that is not the owner, nor the process `but`."""

    def __init__(self, server: Nginx, but: int = 0) -> None:
        self._server = server
        self._but = but
        self.pid = 0
        wait_for(self._connect, "a connection to another worker than the owner")

    def _connect(self) -> bool:
        self.session = requests.Session()
        found = self.get("/pid").json()
        self.pid = found["pid"]
        if found["owner"] or self.pid == self._but:
            self.session.close()
            return False
        return True

    def close(self) -> None:
        self.session.close()

    def get(self, path: str) -> requests.Response:
        return self.session.get(self._server.url(path), timeout=DEADLINE)

    def post(self, path: str, json: Any = None, **options: Any) -> requests.Response:
        url = self._server.url(path)
        return self.session.post(url, json=json, timeout=DEADLINE, **options)
