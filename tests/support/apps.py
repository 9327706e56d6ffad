"""Applications and locations that several test modules serve."""

import re

from gate import GATE_APP, GATE_SERVER

KINDS = {
    "bool": "Bool", "uint8": "UInt8", "uint16": "UInt16", "uint32": "UInt32", "uint64": "UInt64",
    "int8": "Int8", "int16": "Int16", "int32": "Int32", "int64": "Int64",
    "float16": "Float16", "bfloat16": "BFloat16", "float32": "Float32", "float64": "Float64",
}  # fmt: skip
"""The dtypes, and their names in annotations."""

DOUBLE = "4|1|3|V 1|18|torch.DoubleTensor|{}|4|2|3|V 1|19|torch.DoubleStorage|{}|"
"""A torch.DoubleTensor of Torch7, but for its sizes and its storage; see `body_of`."""

ROWS_APP = """
import torch, webtorch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor
from typing import NamedTuple

@webtorch.infer
def f32(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]: return x
@webtorch.infer
def f64(x: Float64[Tensor, "batch 2"]) -> Float64[Tensor, "batch 2"]: return x
@webtorch.infer
def i64(x: Int64[Tensor, "batch 2"]) -> Int64[Tensor, "batch 2"]: return x
@webtorch.infer
def boolean(x: Bool[Tensor, "batch 2"]) -> Bool[Tensor, "batch 2"]: return ~x
@webtorch.infer
def scalars(x: Float32[Tensor, "batch"]) -> Float32[Tensor, "batch"]: return x
@webtorch.infer
def images(x: Float32[Tensor, "batch 2 2 2"]) -> Float32[Tensor, "batch 2 2 2"]: return x
@webtorch.infer
def alone(x: Float32[Tensor, "2 3"]) -> Float32[Tensor, "3"]: return x.sum(0)
@webtorch.infer
def zero_d(x: Float32[Tensor, ""]) -> Float32[Tensor, ""]: return x + 1
@webtorch.infer
def add(a: Float32[Tensor, "batch 2"], b: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return a + 10 * b
@webtorch.infer
def pair(x: Float32[Tensor, "batch 2"]) -> tuple[Float32[Tensor, "batch"], Int64[Tensor, "batch"]]:
    return x.sum(1), x.argmax(1)

class Best(NamedTuple):
    value: Float32[Tensor, "batch"]
    index: Int64[Tensor, "batch"]

@webtorch.infer
def named(x: Float32[Tensor, "batch 2"]) -> Best:
    return Best(*x.max(1))
@webtorch.infer
def transposed(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return x.t().contiguous().t()
"""

ROWS_SERVER = "".join(
    f"location = /{name} {{ webtorch_handler app:{name}; }}\n"
    for name in re.findall(r"def (\w+)", ROWS_APP)
)

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

LARGE_APP = """
import jaxtyping as j, webtorch
from torch import Tensor

@webtorch.infer
def f(x: j.Float64[Tensor, "batch 1"]) -> j.Float64[Tensor, "batch 1"]:
    return 2 * x + 1

@webtorch.infer
def two(a: j.Float64[Tensor, "batch 2"], b: j.Int64[Tensor, "batch"]) -> tuple[
    j.Float64[Tensor, "batch 2"], j.Int64[Tensor, "batch"]
]:
    return -a, b + 1

@webtorch.train
def train(x: j.Float64[Tensor, "batch 1"]) -> j.Float64[Tensor, "batch 1"]:
    return x
"""

DTYPES_APP = "import jaxtyping, torch, webtorch\nfrom torch import Tensor\n" + "".join(
    f"""
@webtorch.infer
def {name}(x: jaxtyping.{kind}[Tensor, "batch 2"]) -> jaxtyping.{kind}[Tensor, "batch 2"]:
    assert x.dtype is torch.{name}
    return x

@webtorch.train
def train_{name}(x: jaxtyping.{kind}[Tensor, "batch 2"]) -> jaxtyping.{kind}[Tensor, "batch 2"]:
    return x
"""
    for name, kind in KINDS.items()
)

TORCH_APP = (
    GATE_APP
    + """
import time, typing
import jaxtyping
from jaxtyping import Bool, Float32, Int64
"""
    + FUNCTIONS
    + """
@webtorch.infer
def deep(x: Float32[Tensor, "batch 1 1 1 1 1 1 1 2"]) -> Float32[Tensor, "batch"]:
    return x.reshape(-1, 2).sum(1)

@webtorch.train
def train(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return x

@webtorch.handler
def length(request: webtorch.Request) -> webtorch.Response:
    size = torch.tensor([len(request.body)])
    return webtorch.Response(size, content_type="application/x-pytorch")
"""
    + "".join(
        f"""
@webtorch.infer
def {name}(x: jaxtyping.{kind}[Tensor, "batch 2"]) -> jaxtyping.{kind}[Tensor, "batch 2"]:
    assert x.dtype is torch.{name}
    return x
"""
        for name, kind in KINDS.items()
    )
)
TORCH_SERVER = (
    """
webtorch_torch_load on;
location = /two { webtorch_handler app:two; }
location = /half { webtorch_handler app:half; }
location = /alone { webtorch_handler app:alone; }
location = /deep { webtorch_handler app:deep; }
location = /train { webtorch_handler app:train; }
location = /length { webtorch_handler app:length; }
location = /wide { webtorch_handler app:wide; client_max_body_size 8m; }
location = /gated { webtorch_handler app:gated mode=thread max_batch=1 queue=1; }
location = /off { webtorch_torch_load off; webtorch_handler app:half; }
location = /off/length { webtorch_torch_load off; webtorch_handler app:length; }
location = /if {
    webtorch_torch_load off;
    webtorch_handler app:half;
    if ($arg_load) { webtorch_torch_load on; }
}
location /v2 { webtorch_inference_protocol; }
"""
    + GATE_SERVER
    + "".join(f"location = /{name} {{ webtorch_handler app:{name}; }}\n" for name in KINDS)
)

TABLES_APP = """
import torch, webtorch
from jaxtyping import Bool, Float16, Float32, Float64, Int32, Int64, UInt8
from torch import Tensor
from typing import NamedTuple
from webtorch import Missing, Strings

class Both(NamedTuple):
    total: Float64[Tensor, "batch"]
    label: Strings[list[str], "batch"]

@webtorch.infer
def plain(
    age: Float32[Tensor, "batch"], job: Strings[list[str], "batch"], n: Int64[Tensor, "batch"]
) -> Both:
    return Both(age.double() + n, [text.upper() for text in job])

@webtorch.infer
def pairs(x: Float32[Tensor, "batch 2"], n: UInt8[Tensor, "batch"]) -> Float32[Tensor, "batch 2"]:
    return x * n[:, None]

calls = []

@webtorch.infer
def optional(
    x: Float32[Tensor, "batch"], y: Float32[Tensor, "batch"] | None
) -> Float32[Tensor, "batch"]:
    return -x if y is None else x + y

@webtorch.infer
def missing(
    x: Missing[Float32[Tensor, "batch"]],
    n: Missing[Int64[Tensor, "batch"]],
    b: Missing[Bool[Tensor, "batch"]],
    s: Missing[Strings[list[str], "batch"]],
) -> tuple[Float32[Tensor, "batch"], Int64[Tensor, "batch"], Strings[list[str], "batch"]]:
    assert isinstance(n, webtorch.Masked) and b.mask.dtype == torch.bool
    bits = x.isnan() + 2 * n.mask + 4 * b.mask + 8 * s.mask
    return x, bits, [f"{v}{t}" for v, t in zip(n.values.tolist(), s.values)]

@webtorch.infer
def filled(
    x: Float32[Tensor, "batch"],
    y: Float32[Tensor, "batch 2"] = torch.tensor([1.5, 2.5]),
    n: Int32[Tensor, "batch"] = 7,
    s: Strings[list[str], "batch"] = "none",
) -> tuple[Float32[Tensor, "batch"], Strings[list[str], "batch"]]:
    return x + y.sum(dim=1) + n, s

@webtorch.infer
def texts(
    x: Float32[Tensor, "batch"],
    job: Strings[list[str], "batch"] | None = "unknown",
    city: Missing[Strings[list[str], "batch"]] = "nowhere",
    tags: Missing[Strings[list[list[str]], "batch 2"]] = "none",
) -> Strings[list[str], "batch"]:
    return [
        ":".join([*row, *(tag if tag else "" for tag in two)])
        for *row, two in zip(job, city.values, tags.values)
    ]

@webtorch.infer
def wide(
    x: Float32[Tensor, "batch"],
    image: Missing[Int64[Tensor, "batch 3 224 224"]] | None = None,
    text: Strings[list[list[str]], "batch 1000"] | None = None,
) -> Float32[Tensor, "batch"]:
    return -x if image is None else x + image.values.sum((1, 2, 3)) + image.mask.sum((1, 2, 3))

@webtorch.infer
def widening(
    x: Float32[Tensor, "batch n"],
    y: Float32[Tensor, "batch m"],
    product: Float32[Tensor, "batch n m"] | None,
) -> Float32[Tensor, "batch"]:
    return -x.sum(1) if product is None else product.sum((1, 2)) + y.sum(1)

@webtorch.infer
def wide_default(
    x: Float32[Tensor, "batch"], y: Float32[Tensor, "batch 3 224 224"] = 1.0
) -> Float32[Tensor, "batch"]:
    return x + y.mean((1, 2, 3))

@webtorch.infer
def widening_default(
    x: Float32[Tensor, "batch n"],
    y: Float32[Tensor, "batch m"],
    product: Float32[Tensor, "batch n m"] = 1.0,
) -> Float32[Tensor, "batch"]:
    return product.sum((1, 2))

@webtorch.train
def train_wide(
    x: Float32[Tensor, "batch"], y: Float32[Tensor, "batch 1000"] | None
) -> Float32[Tensor, "batch"]:
    return x if y is None else x + y.sum(1)

@webtorch.train
def train(x: Missing[Float32[Tensor, "batch"]]) -> Float32[Tensor, "batch"]:
    return x.nan_to_num(-1.0)

@webtorch.infer
def double(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return 2 * x

@webtorch.infer
def whole(x: Int32[Tensor, "batch"]) -> Int32[Tensor, "batch"]:
    return x

@webtorch.infer
def half(x: Float16[Tensor, "batch"]) -> Float16[Tensor, "batch"]:
    return x

@webtorch.infer
def flag(x: Bool[Tensor, "batch"]) -> Bool[Tensor, "batch"]:
    return ~x
"""
_TABLES = [
    "plain",
    "pairs",
    "optional",
    "missing",
    "filled",
    "texts",
    "widening",
    "wide_default",
    "widening_default",
    "train_wide",
    "train",
    "double",
    "whole",
    "half",
    "flag",
]
TABLES_SERVER = "client_max_body_size 16m;" + "".join(
    f"location = /{name} {{ webtorch_handler app:{name}; }}\n" for name in _TABLES
)
TABLES_SERVER += "location = /wide { webtorch_handler app:wide queue_size=32m; }\n"
TABLES_SERVER += "location = /large { client_max_body_size 32m; webtorch_handler app:whole; }\n"
TABLES_SERVER += "location = /slow { webtorch_handler app:optional max_delay=300ms; }\n"
