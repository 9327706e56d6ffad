"""Handlers of tensors that several tests serve."""

FUNCTIONS = """
class Two(typing.NamedTuple):
    total: Float32[Tensor, "batch"]
    größe: Int64[Tensor, "batch"]

@webtorch.infer
def two(a: Float32[Tensor, "batch 2"], ß: Bool[Tensor, "batch"]) -> Two:
    return Two(a.sum(1), torch.where(ß, 2, 0))

@webtorch.infer
def half(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return x / 2

@webtorch.infer
def wide(x: Float32[Tensor, "batch 100000"]) -> Float32[Tensor, "batch 100000"]:
    return x + 1

@webtorch.infer
def alone(x: Float64[Tensor, "2 3"]) -> Float64[Tensor, "3 2"]:
    return x.T
"""
