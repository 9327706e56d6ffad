"""npz: archives as NumPy writes them, of tensors by name, both ways."""

import io
import zipfile

import numpy as np
import pytest

from answers import check_error
from apps import FUNCTIONS, KINDS
from files import npy, npz, patched
from webtorch._schema.schema import DTYPES

NPZ = "application/x-npz"

APP = (
    """
import jaxtyping, torch, typing, webtorch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor
"""
    + FUNCTIONS
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
SERVER = """
location = /two { webtorch_handler app:two; }
location = /half { webtorch_handler app:half; }
location = /wide { webtorch_handler app:wide; client_max_body_size 8m; }
location = /unlimited { webtorch_handler app:wide; client_max_body_size 0; }
location = /alone { webtorch_handler app:alone; }
""" + "".join(f"location = /{name} {{ webtorch_handler app:{name}; }}\n" for name in KINDS)

SAVE = {"stored": np.savez, "deflated": np.savez_compressed}
ROW = np.array([[0.5, -2]], "f4")


def archive(*members, method=zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as opened:
        for name, text in members:
            opened.writestr(zipfile.ZipInfo(name), text, method)
    return file.getvalue()


def post(server, path, body, **headers):
    return server.post(path, data=body, headers={"Content-Type": NPZ, **headers})


def arrays_of(answer):
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == NPZ
    assert zipfile.ZipFile(io.BytesIO(answer.content)).testzip() is None
    return dict(np.load(io.BytesIO(answer.content), allow_pickle=False))


def test_every_dtype_is_tried():
    assert list(KINDS) == list(DTYPES)


@pytest.mark.parametrize("save", SAVE)
@pytest.mark.parametrize("name", KINDS)
def test_dtypes(server, name, save):
    dtype = "V2" if name == "bfloat16" else name  # NumPy has none
    x = np.array([[0, 1], [1, 0], [1, 1]], "u2" if name == "bfloat16" else name).view(dtype)
    arrays = arrays_of(post(server, f"/{name}", npz(SAVE[save], x=x)))
    assert list(arrays) == ["output"]
    assert arrays["output"].dtype == np.dtype(dtype)
    assert arrays["output"].tobytes() == x.tobytes() and arrays["output"].shape == x.shape


@pytest.mark.parametrize("save", SAVE)
def test_several_tensors_by_name(server, save):
    a, b = np.array([[1, 2], [3, 4.5]], "f4"), np.array([True, False])
    for arrays in ({"a": a, "ß": b}, {"ß": b, "a": a}):
        found = arrays_of(post(server, "/two", npz(SAVE[save], **arrays)))
        assert list(found) == ["total", "größe"]
        assert found["total"].tolist() == [3, 7.5] and found["größe"].tolist() == [2, 0]


def test_row_without_batch_axis(server):
    assert arrays_of(post(server, "/half", npz(x=ROW[0])))["output"].tolist() == [0.25, -1]


def test_function_without_batch(server):
    x = np.arange(6.0).reshape(2, 3)
    assert np.array_equal(arrays_of(post(server, "/alone", npz(x=x)))["output"], x.T)


def test_from_json_and_back(server):
    document = {"a": [[1, 2]], "ß": [True]}
    found = arrays_of(server.post("/two", document, headers={"Accept": NPZ}))
    assert found["total"].tolist() == [3] and found["größe"].tolist() == [2]
    arrays = {"a": np.array([[1, 2]], "f4"), "ß": np.array([True])}
    answer = post(server, "/two", npz(**arrays), Accept="application/json")
    assert answer.json() == {"total": [3.0], "größe": [2]}
    assert post(server, "/two", npz(**arrays), **{"Content-Type": "application/npz"}).ok


def test_answers_are_reproducible(server):
    answers = {post(server, "/half", npz(x=ROW)).content for _ in range(3)}
    assert len(answers) == 1


@pytest.mark.parametrize("save", SAVE)
def test_large_answer(server, save):
    x = np.arange(700000, dtype="f4").reshape(7, 100000)
    answer = post(server, "/wide", npz(SAVE[save], x=x))
    assert len(answer.content) > 1 << 20
    assert np.array_equal(arrays_of(answer)["output"], x + 1)


def test_archive_written_to_a_pipe(server):
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def tell(self):
            raise io.UnsupportedOperation

    pipe = Pipe()
    np.savez_compressed(pipe, x=ROW)  # sizes are after the members, not in front
    assert arrays_of(post(server, "/half", pipe.getvalue()))["output"].tolist() == [[0.25, -1]]


def test_inflated_size_is_limited(server):
    x = np.zeros((30, 100000), "f4")  # 12 MB, in 12 kB
    bomb = npz(np.savez_compressed, x=x)
    assert len(bomb) < 1 << 16
    check_error(post(server, "/wide", bomb), 413, "too_large", "inflate to more")
    assert arrays_of(post(server, "/unlimited", bomb))["output"].shape == x.shape
    both = npz(np.savez_compressed, a=np.zeros((99999, 2), "f4"), ß=np.zeros(99999, "?"))
    assert post(server, "/two", both).ok
    both = npz(np.savez_compressed, a=np.zeros((120000, 2), "f4"), ß=np.zeros(120000, "?"))
    check_error(post(server, "/two", both), 413, "too_large", "inflate to more")


GOOD = npz(x=ROW)
DEFLATED = npz(np.savez_compressed, x=ROW)
LOCAL, CENTRAL, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"


@pytest.mark.parametrize("length", [1, 21, 22, 100, len(GOOD) // 2, len(GOOD) - 1])
def test_npz_truncated(server, length):
    check_error(post(server, "/half", GOOD[:length]), 400, "malformed_body", "does not end like")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"x" * 100, "it does not end like an archive"),
        (b"text" + GOOD, "the directory is not in front of the end"),
        (patched(GOOD, (END, 20, "<H", 4)) + b"text", "it does not end like an archive"),
        (patched(GOOD, (END, 4, "<H", 1)), "it has several parts"),
        (patched(GOOD, (END, 8, "<H", 2), (END, 10, "<H", 2)), "an entry of the directory is miss"),
        (patched(GOOD, (END, 8, "<H", 9), (END, 10, "<H", 1)), "it has several parts"),
        (patched(GOOD, (END, 16, "<I", 2**32 - 1)), "it needs zip64"),
        (patched(GOOD, (CENTRAL, 20, "<I", 2**32 - 1)), "it needs zip64"),
        (patched(GOOD, (CENTRAL, 24, "<I", 2**32 - 1)), "it needs zip64"),
        (patched(DEFLATED, (CENTRAL, 24, "<I", 2**32 - 1)), "it needs zip64"),
        (patched(GOOD, (CENTRAL, 42, "<I", 2**32 - 1)), "it needs zip64"),
        (patched(GOOD, (CENTRAL, 30, "<H", 9)), "an entry of the directory is cut off"),
        (patched(GOOD, (CENTRAL, 0, "<I", 0)), "an entry of the directory is missing"),
        (patched(GOOD, (CENTRAL, 8, "<H", 1)), 'member "x.npy": it is encrypted'),
        (patched(GOOD, (CENTRAL, 16, "<I", 1)), 'member "x.npy": its checksum is wrong'),
        (patched(DEFLATED, (CENTRAL, 16, "<I", 1)), 'member "x.npy": its checksum is wrong'),
        (patched(GOOD, (CENTRAL, 24, "<I", 9)), "it is stored, its sizes differ"),
        (patched(GOOD, (CENTRAL, 20, "<I", 999), (CENTRAL, 24, "<I", 999)), "it is cut off"),
        (patched(GOOD, (CENTRAL, 42, "<I", 10**6)), "it is beyond the archive"),
        (patched(GOOD, (CENTRAL, 42, "<I", 1)), "it has no header"),
        (patched(GOOD, (LOCAL, 26, "<H", 2)), "its two names differ"),
        (patched(GOOD, (LOCAL, 28, "<H", 65535)), "it is cut off"),
        (patched(DEFLATED, (CENTRAL, 20, "<I", 20)), "it is cut off"),
        (patched(DEFLATED, (CENTRAL, 24, "<I", 9)), "it exceeds its size"),
        (patched(DEFLATED, (CENTRAL, 24, "<I", 9999)), "it does not inflate to its size"),
        (patched(GOOD, (CENTRAL, 10, "<H", 8)), "more data after its end"),
        (patched(DEFLATED, (LOCAL, 55, "<B", 255)), 'member "x.npy": invalid block type'),
        (archive(("x.npy", npy(ROW)), method=zipfile.ZIP_BZIP2), "compression is not deflate"),
        (archive(("x.npy", npy(ROW)), method=zipfile.ZIP_LZMA), "compression is not deflate"),
        (archive(("x.npy", b"x" * 100)), "invalid .npy: it has no magic string"),
        (archive(("x.npy", npy(ROW)[:-1])), 'tensor "x": its data, 7 bytes'),
    ],
)
def test_npz_malformed(server, body, text):
    check_error(post(server, "/half", body), 400, "malformed_body", text)
    assert post(server, "/half", GOOD).ok


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names(server):
    twice = archive(("x.npy", npy(ROW)), ("x.npy", npy(ROW)))
    check_error(post(server, "/half", twice), 400, "malformed_body", 'tensor "x" is given twice')
    for name in ("y.npy", "x.txt", ".npy", "", "d/x.npy", "x" * 200 + ".npy"):
        answer = post(server, "/half", archive((name, npy(ROW))))
        text = f'no tensor is named "{name.removesuffix(".npy")[:64]}"'
        check_error(answer, 422, "unknown_tensor", text)
    answer = post(server, "/two", npz(a=ROW))
    check_error(answer, 422, "missing_tensor", 'tensor "ß" is missing')
    check_error(post(server, "/half", archive()), 422, "missing_tensor", 'tensor "x" is missing')


def test_members_that_share_their_bytes(server):
    body = npz(a=ROW, ß=np.array([True]))
    check_error(
        post(server, "/two", patched(body, (CENTRAL, 42, "<I", 0))),
        400,
        "malformed_body",
        'member "ß.npy": it is not after the others',
    )


@pytest.mark.parametrize("save", SAVE)
def test_npz_mismatches(server, save):
    def send(path, **arrays):
        return post(server, path, npz(SAVE[save], **arrays))

    expected = 'tensor "x": expected float32 [batch, 2], found '
    assert send("/half", x=ROW.astype("f8")).ok
    check_error(send("/half", x=ROW[:, :1]), 422, "wrong_shape", expected + "float32 [1, 1]")
    check_error(send("/half", x=ROW.astype(">f4")), 422, "wrong_dtype", 'tensor "x"')
    check_error(send("/half", x=np.array(["text"])), 422, "wrong_dtype", 'tensor "x"')
    fortran = np.asfortranarray(np.ones((2, 2), "f4"))
    check_error(send("/half", x=fortran), 422, "wrong_shape", "ascontiguousarray")
    answer = send("/two", a=ROW, ß=np.array([True, False]))
    check_error(answer, 422, "wrong_shape", 'tensors "a" and "ß" differ in rows: 1 and 2')
    answer = send("/two", a=ROW, ß=np.array(True))
    check_error(answer, 422, "wrong_shape", 'tensor "a" has a batch axis, "ß" has none')
    answer = send("/two", a=ROW, ß=np.array([2], "u1").view("?"))
    check_error(answer, 422, "out_of_range", 'tensor "ß"')
