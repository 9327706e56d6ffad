"""The networks in mosec, each a process; with batches but training."""

from typing import Any

import msgspec
import torch
from mosec import Runtime, Server, Worker

import nets


class Json(Worker):
    """A function of `Nets` with bodies in JSON."""

    name = ""

    def __init__(self) -> None:
        super().__init__()
        torch.set_num_threads(1)
        self.function = getattr(nets.Nets(), self.name)

    def deserialize(self, data: bytes) -> Any:
        return torch.tensor(msgspec.json.decode(data))

    def serialize(self, data: torch.Tensor) -> bytes:
        return msgspec.json.encode(data.tolist())

    def forward(self, data: Any) -> Any:
        if isinstance(data, list):
            return list(self.function(torch.cat(data)).unsqueeze(1))
        return self.function(data)


class Raw(Json):
    """The same with raw float32."""

    resp_mime_type = "application/octet-stream"
    shape: tuple[int, ...] = ()

    def deserialize(self, data: bytes) -> Any:
        return torch.frombuffer(bytearray(data), dtype=torch.float32).view(-1, *self.shape)

    def serialize(self, data: torch.Tensor) -> bytes:
        return data.numpy().tobytes()


class Xor(Json):
    name = "xor"


class Mlp(Json):
    name = "mlp"


class MlpBinary(Raw):
    name = "mlp"
    shape = (nets.MLP_INPUT,)


class Train(Json):
    name = "train"


class Beginning(Raw):
    name = "beginning"
    shape = nets.IMAGE


if __name__ == "__main__":
    server = Server()
    server.register_runtime(
        {
            "/xor": [Runtime(Xor, max_batch_size=64, max_wait_time=1)],
            "/mlp": [Runtime(Mlp, max_batch_size=64, max_wait_time=1)],
            "/mlp_binary": [Runtime(MlpBinary, max_batch_size=64, max_wait_time=1)],
            "/train": [Runtime(Train)],
            "/beginning": [Runtime(Beginning)],
        }
    )
    server.run()
