"""The networks in Triton, by PyTriton."""

import sys

import numpy as np
import torch
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

import nets

all_nets = nets.Nets()


@batch
def xor(x: np.ndarray) -> list[np.ndarray]:
    return [all_nets.xor(torch.from_numpy(x.copy())).numpy()]


@batch
def mlp(x: np.ndarray) -> list[np.ndarray]:
    return [all_nets.mlp(torch.from_numpy(x.copy())).numpy()]


@batch
def train(x: np.ndarray) -> list[np.ndarray]:
    return [all_nets.train(torch.from_numpy(x.copy())).numpy()]


@batch
def beginning(x: np.ndarray) -> list[np.ndarray]:
    return [all_nets.beginning(torch.from_numpy(x)).numpy().copy()]


if __name__ == "__main__":
    config = TritonConfig(
        http_address="127.0.0.1", http_port=int(sys.argv[1]), allow_grpc=False, allow_metrics=False,
        log_verbose=0, http_thread_count=2,
    )  # fmt: skip
    with Triton(config=config) as triton:
        for function, shape, size, largest in (
            (xor, (2,), 1, 64),
            (mlp, (nets.MLP_INPUT,), 10, 64),
            (train, (2,), 1, 1),
            (beginning, nets.IMAGE, nets.BEGINNING, 8),
        ):
            triton.bind(
                model_name=function.__name__,
                infer_func=function,
                inputs=[Tensor(name="x", dtype=np.float32, shape=shape)],
                outputs=[Tensor(name="y", dtype=np.float32, shape=(size,))],
                config=ModelConfig(max_batch_size=largest, batcher=DynamicBatcher()),
                strict=False,
            )
        triton.serve()
