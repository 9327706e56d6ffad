"""Arrow IPC streams, as pyarrow and polars write and read them."""

import io
import struct

import numpy as np
import polars
import pyarrow as pa
import pytest

from answers import check_error
from apps import TABLES_APP as APP  # noqa: F401 - the server fixture reads them
from apps import TABLES_SERVER as SERVER  # noqa: F401

ARROW = "application/vnd.apache.arrow.stream"


def stream(table, rows=None, **options):
    file = io.BytesIO()
    with pa.ipc.new_stream(file, table.schema, **options) as out:
        for batch in table.to_batches(max_chunksize=rows):
            out.write_batch(batch)
    return file.getvalue()


def post(server, path, table, **headers):
    body = table if isinstance(table, bytes) else stream(table)
    return server.post(path, data=body, headers={"Content-Type": ARROW, **headers})


def table(answer):
    assert answer.ok, answer.text
    assert answer.headers["Content-Type"] == ARROW
    found = pa.ipc.open_stream(answer.content).read_all()
    found.validate(full=True)
    return found.to_pydict()


PEOPLE = pa.table(
    {"age": pa.array([31, 0.5], pa.float32()), "job": ["cook", "clerk"], "n": [1, -2]}
)


def test_columns(server):
    expected = {"total": [32.0, -1.5], "label": ["COOK", "CLERK"]}
    assert table(post(server, "/plain", PEOPLE)) == expected
    assert post(server, "/plain", PEOPLE, Accept="application/json").json() == expected
    answer = server.post("/plain", {"age": [1], "job": ["a"], "n": [2]}, headers={"Accept": ARROW})
    assert table(answer) == {"total": [3], "label": ["A"]}


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_several_record_batches(server, rows):
    n = 5000 if rows > 1 else 50
    body = pa.table({"age": np.arange(n), "job": [f"j{k}" for k in range(n)], "n": [1] * n})
    found = table(post(server, "/plain", stream(body, rows)))
    assert found["total"] == [k + 1 for k in range(n)]
    assert found["label"] == [f"J{k}" for k in range(n)]


def test_slices(server):
    body = PEOPLE.slice(1)
    assert table(post(server, "/plain", body)) == {"total": [-1.5], "label": ["CLERK"]}


@pytest.mark.parametrize(
    "kind", ["string", "large_string", "string_view", "binary", "large_binary"]
)
def test_types_of_strings(server, kind):
    jobs = ["", "a string that is longer than a view", "ä"]
    column = pa.array(jobs).cast(getattr(pa, kind)())
    body = pa.table({"age": [1.0, 2, 3], "job": column, "n": [0, 0, 0]})
    assert table(post(server, "/plain", body))["label"] == [job.upper() for job in jobs]


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u1", "?"])
def test_numbers_are_converted(server, dtype):
    x = np.arange(300).astype(dtype)
    body = pa.table({"age": x, "job": ["a"] * 300, "n": np.zeros(300, "i2")})
    assert table(post(server, "/plain", body))["total"] == x.astype("f4").tolist()


def test_rows_of_a_shape(server):
    for kind in (pa.list_(pa.float32(), 2), pa.list_(pa.float64()), pa.large_list(pa.int32())):
        body = pa.table({"x": pa.array([[1, 2], [4, 5]], kind), "n": pa.array([3, 6], pa.uint8())})
        assert table(post(server, "/pairs", body)) == {"output": [[3, 6], [24, 30]]}
    body = pa.table({"x": pa.array([[9, 9], [1, 2], [4, 5]], pa.list_(pa.float32()))}).slice(1)
    assert table(post(server, "/double", body)) == {"output": [[2, 4], [8, 10]]}


def test_gaps(server):
    body = pa.table({"x": [1, None], "n": [None, 5], "b": [True, None], "s": pa.array([None, "t"])})
    found = table(post(server, "/missing", body))
    assert found["output_1"] == [10, 5] and found["output_2"] == ["0", "5t"]
    assert found["output_0"][0] == 1 and np.isnan(found["output_0"][1])
    nulls = pa.table({name: pa.nulls(3) for name in ("x", "n", "b", "s")})
    assert table(post(server, "/missing", nulls))["output_1"] == [15] * 3
    assert table(post(server, "/optional", pa.table({"x": [1.0]}))) == {"output": [-1]}
    assert table(post(server, "/filled", pa.table({"x": [1.0]})))["output_0"] == [12]
    check_error(post(server, "/optional", pa.table({"x": [1.0, None]})), 422, "wrong_dtype", "null")


def test_arrow_value_under_null_is_not_read(server):
    hidden = np.array([1, 2**40], "i8")
    column = pa.Array.from_buffers(
        pa.int64(), 2, [pa.py_buffer(b"\x01"), pa.py_buffer(hidden)], null_count=1
    )
    body = pa.table({"x": [1.0, 2], "n": column, "b": [True, True], "s": ["a", "b"]})
    assert table(post(server, "/missing", body))["output_1"] == [0, 2]


def test_streams_of_polars(server):
    frame = polars.DataFrame({"age": [1.5, 2], "job": ["a", "b" * 20], "n": [1, 2]})
    for level in (polars.CompatLevel.oldest(), polars.CompatLevel.newest()):
        file = io.BytesIO()
        frame.write_ipc_stream(file, compat_level=level)
        answer = post(server, "/plain", file.getvalue())
        found = polars.read_ipc_stream(io.BytesIO(answer.content))
        assert found["label"].to_list() == ["A", "B" * 20]


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "texts"),
    [
        ("/double", pa.table({"x": [1.0]}), 422, "wrong_shape", ('"x"', "[]")),
        ("/whole", pa.table({"x": [1.5]}), 422, "wrong_dtype", ("float64 to int32", "fractions")),
        ("/whole", pa.table({"x": [2**31]}), 422, "out_of_range", ("int64 to int32",)),
        ("/whole", pa.table({"x": ["a"]}), 422, "wrong_dtype", ("column of utf8",)),
        ("/plain", PEOPLE.set_column(1, "job", pa.array([1, 2])), 422, "wrong_dtype", ("str",)),
        ("/plain", PEOPLE.drop_columns("n"), 422, "missing_tensor", ('"n"',)),
        ("/plain", PEOPLE.append_column("z", pa.array([1, 2])), 422, "unknown_tensor", ('"z"',)),
        ("/whole", pa.table({"x": pa.array([1]).dictionary_encode()}), 422, "wrong_dtype",
         ("dictionary", "dictionary_decode")),
        ("/whole", pa.table({"x": pa.RunEndEncodedArray.from_arrays([2], [1])}), 422, "wrong_dtype",
         ("run_end_encoded",)),
        ("/whole", pa.table({"x": pa.array([1], pa.date32())}), 422, "wrong_dtype", ("date",)),
        ("/whole", pa.table({"x": pa.array([], pa.int32())}), 422, "wrong_shape", ("0 rows",)),
        ("/double", pa.table({"x": [[1.0], [1.0, 2.0]]}), 422, "wrong_shape", ("differ",)),
        ("/double", pa.table({"x": [[1.0, 2.0], None]}), 422, "wrong_dtype", ("null",)),
        ("/double", pa.table({"x": [[1.0, 2.0, 3.0]]}), 422, "wrong_shape", ("[3]",)),
        ("/plain", PEOPLE.set_column(1, "job", pa.array([b"\xff", b""])), 422, "wrong_dtype",
         ("UTF-8",)),
        ("/whole", b"ARROW1\0\0" + bytes(50), 400, "malformed_body", ("not a stream",)),
    ],
    ids=[*map(str, range(16))],
)  # fmt: skip
def test_malformed_tables(server, path, body, status, code, texts):
    check_error(post(server, path, body), status, code, *texts)


def test_compressed_buffers(server):
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    body = stream(pa.table({"x": np.zeros(1000, "i4")}), options=options)
    check_error(post(server, "/whole", body), 415, "unsupported_media_type", "compressed")


def test_streams_cut_anywhere(server):
    body = stream(PEOPLE, 1)
    whole = table(post(server, "/plain", body))
    assert whole["total"] == [32.0, -1.5]
    for size in range(0, len(body), 7):
        answer = post(server, "/plain", body[:size])
        # between two batches it is a shorter stream
        assert (
            answer.status_code in (400, 422)
            or len(table(answer)["total"]) < 2
            or (table(answer) == whole and size >= len(body) - 8)
        )


def shared_views(n, size):
    views = struct.pack("<i4sii", size, b"aaaa", 0, 0) * n
    return pa.Array.from_buffers(
        pa.string_view(), n, [None, pa.py_buffer(views), pa.py_buffer(b"a" * size)]
    )


def shared_offsets(n, size):
    """Return an array whose strings are all of the data, with an empty null after each."""
    offsets = struct.pack(f"<{n + 1}i", *[size * (k % 2) for k in range(n + 1)])
    buffers = (b"\x55" * (n // 8 + 1), offsets, b"a" * size)
    return pa.Array.from_buffers(pa.string(), n, [*map(pa.py_buffer, buffers)])


def test_strings_that_share_bytes(server):
    others = {"x": np.ones(2001), "n": np.ones(2001, "i8"), "b": np.ones(2001, "?")}
    for strings in (shared_views, shared_offsets):
        body = pa.table({**others, "s": strings(2001, 100_000)})
        answer = post(server, "/missing", body)
        check_error(answer, 413, "too_large", '"s"', "8 times the bytes")
        body = pa.table({**others, "s": strings(2001, 50)})
        assert table(post(server, "/missing", body))["output_2"][0] == "1" + "a" * 50


def test_many_batches_of_nulls(server):
    nulls = pa.table({name: pa.nulls(5000) for name in ("x", "n", "b", "s")})
    body = stream(pa.concat_tables([nulls] * 200))
    check_error(post(server, "/missing", body), 400, "malformed_body", "nulls", "bits")
    assert table(post(server, "/missing", stream(nulls, 500)))["output_1"] == [15] * 5000


def test_sizes_of_metadata(server):
    few, many = (pa.table({f"c{k}": [1] for k in range(n)}) for n in (500, 3000))
    check_error(post(server, "/whole", few), 422, "unknown_tensor", '"c0"')
    check_error(post(server, "/whole", many), 400, "malformed_body", "too many fields")
    size = 16 * 1024**2 + 8
    body = struct.pack("<2I", 0xFFFFFFFF, size) + bytes(size)
    check_error(post(server, "/large", body), 400, "malformed_body", "too long")


def test_wrong_numbers_of_nulls(server):
    body = pa.table({"x": pa.array([1, None, 3], pa.int32())})
    data = stream(body)
    batch = body.to_batches()[0]
    at = data.rindex(len(batch).to_bytes(8, "little") + (1).to_bytes(8, "little"))
    for number in (0, 2, 4, 2**63):
        wrong = data[: at + 8] + number.to_bytes(8, "little") + data[at + 16 :]
        check_error(post(server, "/whole", wrong), 400, "malformed_body", "nulls")
