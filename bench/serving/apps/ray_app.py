"""The networks in Ray Serve: one replica, with batches but training."""

import sys
import time

import orjson
import ray
import torch
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

import nets


@serve.deployment(num_replicas=1, max_ongoing_requests=1000)
class Serving:
    """All networks, by the path."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.nets = nets.Nets()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)
    async def xor(self, rows: list[torch.Tensor]) -> list[torch.Tensor]:
        return list(self.nets.xor(torch.cat(rows)).unsqueeze(1))

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)
    async def mlp(self, rows: list[torch.Tensor]) -> list[torch.Tensor]:
        return list(self.nets.mlp(torch.cat(rows)).unsqueeze(1))

    async def __call__(self, request: Request) -> Response:
        body = await request.body()
        path = request.url.path
        if path in ("/mlp_binary", "/beginning"):
            x = torch.frombuffer(bytearray(body), dtype=torch.float32)
            if path == "/beginning":
                y = self.nets.beginning(x.view(-1, *nets.IMAGE))
            else:
                y = await self.mlp(x.view(-1, nets.MLP_INPUT))
            return Response(y.numpy().tobytes(), media_type="application/octet-stream")
        x = torch.tensor(orjson.loads(body))
        if path == "/train":
            y = self.nets.train(x)
        else:
            y = await (self.xor(x) if path == "/xor" else self.mlp(x))
        return Response(orjson.dumps(y.tolist()), media_type="application/json")


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Serving.bind(), route_prefix="/")
    while True:
        time.sleep(3600)
