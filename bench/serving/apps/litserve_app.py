"""The networks in LitServe, which reads JSON and forms alone.

Its batches are not used: with them it answered fewer requests.
"""

import sys
from typing import Any

import litserve
import torch

import nets


class Api(litserve.LitAPI):
    """A function of `Nets` at a path."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(api_path=f"/{name}", **options)
        self.name = name

    def setup(self, device: str) -> None:
        torch.set_num_threads(1)
        self.function = getattr(nets.Nets(), self.name)

    # without a type it is the body in JSON
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return torch.tensor(request)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)

    def encode_response(self, output: torch.Tensor) -> list[list[float]]:
        return output.tolist()


if __name__ == "__main__":
    server = litserve.LitServer(
        [Api("xor"), Api("mlp"), Api("train")],
        accelerator="cpu",
        workers_per_device=1,
        track_requests=False,
    )
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, log_level="warning",
        generate_client_file=False, access_log=False,
    )  # fmt: skip
