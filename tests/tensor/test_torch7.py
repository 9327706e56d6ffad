"""Torch7's ASCII serialization, both ways."""

import numpy as np
import pytest

from apps import DOUBLE
from apps import ROWS_APP as APP  # noqa: F401 - the server fixture reads them
from apps import ROWS_SERVER as SERVER  # noqa: F401

FLOAT = DOUBLE.replace("18", "17").replace("19", "18").replace("Double", "Float")
LONG = DOUBLE.replace("18", "16").replace("19", "17").replace("Double", "Long")
BYTE = LONG.replace("Long", "Byte")


def parse(text: str) -> tuple[str, np.ndarray]:
    """Read a contiguous tensor as Torch7 would: class and values."""
    lines = text.split("\n")
    assert lines[:4] == ["4", "1", "3", "V 1"] and lines[4] == str(len(lines[5]))
    ndim, sizes, strides, offset = lines[6:10]
    assert offset == "1" and lines[10:14] == ["4", "2", "3", "V 1"]
    assert lines[15] == lines[5].replace("Tensor", "Storage") and lines[14] == str(len(lines[15]))
    shape = [int(size) for size in sizes.split()]
    assert len(shape) == int(ndim)
    expected = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    assert [int(stride) for stride in strides.split()] == expected
    values = [float(word) for word in lines[17].split()]
    assert len(values) == int(lines[16]) and lines[18:] == [""]
    return lines[5], np.array(values).reshape(shape)


@pytest.mark.parametrize(
    ("path", "body", "cls", "values"),
    [
        ("/f32", DOUBLE.format("1|2|1|1", "2|0.25 0.75"), "torch.FloatTensor", [0.25, 0.75]),
        ("/f32", FLOAT.format("2|1 2|2 1|1", "2|1 2"), "torch.FloatTensor", [[1, 2]]),
        ("/f64", DOUBLE.format("2|2 2|2 1|1", "4|1 2 3 4"), "torch.DoubleTensor", [[1, 2], [3, 4]]),
        ("/f64", FLOAT.format("2|2 2|1 2|1", "4|1 2 3 4"), "torch.DoubleTensor", [[1, 3], [2, 4]]),
        ("/f64", DOUBLE.format("2|1 2|2 1|3", "4|1 2 3 4"), "torch.DoubleTensor", [[3, 4]]),
        ("/f64", DOUBLE.format("2|2 2|0 1|1", "4|1 2 3 4"), "torch.DoubleTensor", [[1, 2], [1, 2]]),
        ("/scalars", DOUBLE.format("1|3|1|1", "3|1 2 3"), "torch.FloatTensor", [1, 2, 3]),
        ("/zero_d", DOUBLE.format("1|1|1|1", "1|41"), "torch.FloatTensor", [42]),
        ("/alone", DOUBLE.format("2|2 3|3 1|1", "6|1 2 3 4 5 6"), "torch.FloatTensor", [5, 7, 9]),
        ("/i64", LONG.format("2|1 2|2 1|1", "2|7 -8"), "torch.LongTensor", [[7, -8]]),
        ("/boolean", BYTE.format("2|1 2|2 1|1", "2|1 0"), "torch.ByteTensor", [[0, 1]]),
        (
            "/images",
            DOUBLE.format("4|1 2 2 2|8 4 2 1|1", "8|1 2 3 4 5 6 7 8"),
            "torch.FloatTensor",
            [[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]],
        ),
    ],
)
def test_tensors(server, path, body, cls, values):
    answer = server.post_text(path, body)
    assert answer.headers["Content-Type"] == "text/plain", answer.text
    found, array = parse(answer.text)
    assert found == cls
    np.testing.assert_array_equal(array, np.array(values))


def test_several_outputs_are_answered_in_json(server):
    answer = server.post_text("/pair", DOUBLE.format("1|2|1|1", "2|1 2"))
    assert answer.json() == {"output_0": 3, "output_1": 1}
