"""What torch.save() writes, both ways, where webtorch_torch_load allows it."""

import gzip
import io
import pickletools
import struct
import threading
import warnings
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

import answers
from apps import KINDS
from apps import TORCH_APP as APP
from apps import TORCH_SERVER as SERVER
from files import load_torch as load
from files import patched
from files import save_torch as save
from gate import GATE_SERVER, Gate
from nginx import wait_for
from webtorch._core.errors import HTTPError
from webtorch._handlers.torch_files import _check_pickle, _read_archive
from webtorch._schema.schema import DTYPES
from wire import connections, request, settle

TORCH = "application/x-pytorch"

ROW = torch.tensor([[0.5, -2]])


def post(server, path, value, **headers):
    body = value if isinstance(value, bytes) else save(value)
    return server.post(path, data=body, headers={"Content-Type": TORCH, **headers})


def loaded(answer):
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == TORCH
    assert zipfile.ZipFile(io.BytesIO(answer.content)).testzip() is None
    return load(answer.content)


def check_error(answer, status, code, text):
    answers.check_error(answer, status, code, text)
    error = answer.json()["error"]
    assert "weights_only" not in error and "Traceback" not in error


def same(found, expected) -> bool:
    return found.dtype == expected.dtype and torch.equal(
        found.contiguous().view(torch.uint8), expected.contiguous().view(torch.uint8)
    )


# --- what is taken ---


def test_every_dtype_is_tried():
    assert list(KINDS) == list(DTYPES)


@pytest.mark.parametrize("name", KINDS)
def test_dtypes(server, name):
    x = torch.tensor([[0, 1], [1, 0], [1, 1]]).to(getattr(torch, name))
    assert same(loaded(post(server, f"/{name}", x)), x)
    found = loaded(post(server, f"/{name}", {"x": x}))
    assert list(found) == ["output"] and same(found["output"], x)
    assert same(loaded(post(server, f"/{name}", x[0])), x[0])


def test_several_tensors_by_name(server):
    a, b = torch.tensor([[1, 2], [3, 4.5]]), torch.tensor([True, False])
    for value in ({"a": a, "ß": b}, OrderedDict({"ß": b, "a": a})):
        found = loaded(post(server, "/two", value))
        assert list(found) == ["total", "größe"]
        assert found["total"].tolist() == [3, 7.5] and found["größe"].tolist() == [2, 0]
        assert found["größe"].dtype is torch.int64


@pytest.mark.parametrize("kind", ["transposed", "strided", "offset", "negated", "parameter"])
def test_torch_files_of_views(server, kind):
    x = {
        "transposed": torch.arange(6.0, dtype=torch.float32).reshape(2, 3).T,
        "strided": torch.arange(12.0).reshape(2, 6)[:, ::3],
        "offset": torch.arange(100.0).reshape(50, 2)[30:33],
        "negated": torch.imag(torch.complex(ROW, ROW).conj()),
        "parameter": torch.nn.Parameter(ROW),
    }[kind]
    assert torch.equal(loaded(post(server, "/half", x)), x.detach() / 2)
    assert torch.equal(loaded(post(server, "/half", {"x": x}))["output"], x.detach() / 2)


def test_tensor_of_two_names(start):
    app = """
import webtorch
from jaxtyping import Float32
from torch import Tensor

@webtorch.infer
def dot(x: Float32[Tensor, "batch 9999"], y: Float32[Tensor, "batch 9999"]) -> Float32[
    Tensor, "batch"
]:
    return (x * y).sum(1)
"""
    server = start("location / { webtorch_torch_load on; webtorch_handler app:dot; }", app)
    x = torch.ones(2, 9999)
    assert loaded(post(server, "/", {"x": x, "y": x}))["output"].tolist() == [9999, 9999]


def test_functions_without_rows_and_of_many_axes(server):
    x = torch.arange(6.0, dtype=torch.float64).reshape(2, 3)
    assert torch.equal(loaded(post(server, "/alone", x)), x.T)
    x = torch.arange(6.0).reshape(3, 1, 1, 1, 1, 1, 1, 1, 2)
    assert loaded(post(server, "/deep", x)).tolist() == [1, 5, 9]


def test_big_endian_files(server):
    body = bytearray(save(ROW))
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            data = b"big" if name.endswith("byteorder") else data
            data = ROW.numpy().astype(">f4").tobytes() if name.endswith("data/0") else data
            archive.writestr(name, data)
    assert torch.equal(loaded(post(server, "/half", file.getvalue())), ROW / 2)


@pytest.mark.parametrize("rows", [1, 10])
def test_large_files_go_through_a_file(server, rows):
    x = torch.arange(100_000.0 * rows).reshape(rows, 100_000)
    assert torch.equal(loaded(post(server, "/wide", x)), x + 1)
    assert torch.equal(loaded(post(server, "/wide", {"x": x}))["output"], x + 1)


def test_compressed_files(server):
    x = torch.arange(100_000.0)
    answer = post(server, "/wide", gzip.compress(save(x)), **{"Content-Encoding": "gzip"})
    assert torch.equal(loaded(answer), x + 1)


def test_formats_are_mixed(server):
    answer = post(server, "/half", ROW, Accept="application/json")
    assert answer.json() == [[0.25, -1]]
    answer = post(server, "/half", {"x": ROW}, Accept="application/json")
    assert answer.json() == {"output": [[0.25, -1]]}
    headers = {"Accept": "application/vnd.pytorch"}
    assert loaded(server.post("/half", [[0.5, -2]], headers=headers)).tolist() == [[0.25, -1]]
    answer = server.post("/off", {"x": [0.5, -2]}, headers=headers)
    assert loaded(answer)["output"].tolist() == [0.25, -1]
    answer = server.post("/two", {"a": [[1, 2]], "ß": [True]}, headers=headers)
    assert loaded(answer)["total"].tolist() == [3]


def test_answer_can_be_mapped(server, tmp_path):
    path = tmp_path / "answer.pt"
    for value in (torch.ones(1, 100_000), {"x": torch.ones(1, 100_000)}):
        path.write_bytes(post(server, "/wide", value).content)
        found = torch.load(path, weights_only=True, mmap=True)
        tensor = found["output"] if isinstance(found, dict) else found
        assert torch.equal(tensor, torch.full((1, 100_000), 2.0))
        assert tensor.data_ptr() % 64 == 0


def test_answers_are_always_the_same(server):
    assert post(server, "/half", ROW).content == post(server, "/half", ROW).content


def test_functions_of_requests_get_the_file_itself(server):
    body = save(ROW)
    for path in ("/length", "/off/length"):
        assert loaded(post(server, path, body)).tolist() == [len(body)]


def test_concurrent_requests_get_their_own_answers(server):
    failures = []

    def send(number: int) -> None:
        for size in range(1, 6):
            x = torch.full((size, 2), float(number))
            if not torch.equal(loaded(post(server, "/half", x)), x / 2):
                failures.append(number)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# --- what is refused ---


def test_refused_where_not_allowed(server):
    for path in ("/off", "/if"):
        answer = post(server, path, ROW)
        check_error(answer, 415, "unsupported_media_type", '"webtorch_torch_load"')
    assert torch.equal(loaded(post(server, "/if?load=1", ROW)), ROW / 2)


def test_off_by_default(start):
    server = start("location / { webtorch_handler app:half; }", APP)
    check_error(post(server, "/", ROW), 415, "unsupported_media_type", '"webtorch_torch_load"')
    answer = server.post("/v2/models/half/infer", data=save(ROW), headers={"Content-Type": TORCH})
    assert answer.status_code >= 400


def test_inference_protocol_does_not_list_the_loader(server):
    models = {model["name"] for model in server.post("/v2/repository/index").json()}
    assert "half" in models and not any("load" in name for name in models)
    answer = server.post("/v2/models/half/infer", data=save(ROW), headers={"Content-Type": TORCH})
    check_error(answer, 400, "malformed_body", "JSON")


def test_empty_body(server):
    check_error(post(server, "/half", b""), 400, "empty_body", "the body is empty")


def test_torch_files_mismatches(server):
    expected = 'tensor "x": expected float32 [batch, 2], found '
    assert post(server, "/half", ROW.double()).ok
    check_error(post(server, "/half", ROW[:, :1]), 422, "wrong_shape", f"{expected}float32 [1, 1]")
    check_error(post(server, "/half", {"y": ROW}), 422, "unknown_tensor", '"y"')
    check_error(post(server, "/half", {}), 422, "missing_tensor", '"x"')
    check_error(post(server, "/half", ROW[:0]), 422, "wrong_shape", "found float32 [0, 2]")
    assert post(server, "/two", ROW).status_code == 415
    answer = post(server, "/two", {"a": ROW, "ß": torch.tensor([True, False])})
    check_error(answer, 422, "wrong_shape", 'tensors "a" and "ß" differ in rows')
    assert post(server, "/alone", torch.ones(2, 3)).ok


def test_not_finite_not_trained_on(server):
    x = torch.tensor([[1, float("nan")]])
    for value in (x, {"x": x}):
        check_error(post(server, "/train", value), 422, "not_finite", '"x"')
    assert torch.equal(loaded(post(server, "/train", ROW)), ROW)


@pytest.mark.parametrize(
    "value",
    [
        [ROW],
        {"x": [1.0]},
        {"x": 1},
        {1: ROW},
        {"": ROW},
        {"\ud800": ROW},
        {"x": {"x": ROW}},
        "text",
        None,
        {f"x{number}": ROW for number in range(33)},
    ],
)
def test_other_values_are_refused(server, value):
    check_error(post(server, "/half", value), 400, "malformed_body", "invalid torch.save() file:")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "make",
    [
        lambda: ROW.to_sparse(),
        lambda: torch.quantize_per_tensor(ROW, 0.1, 0, torch.qint8),
        lambda: torch.ones(1, 2, device="meta"),
        lambda: torch.complex(ROW, ROW),
        lambda: ROW.to(torch.float8_e5m2),
    ],
    ids=["sparse", "quantized", "meta", "complex", "float8"],
)
def test_tensors_of_other_kinds(server, make):
    answer = post(server, "/half", {"x": make()})
    check_error(answer, 422, "wrong_dtype", "send dense tensors of bool, uint8,")


def test_expanded_tensors_take_no_memory(server):
    x = torch.ones(1).expand(10**9, 2)
    for value in (x, {"x": x}):
        body = save(value)
        assert len(body) < 3000
        check_error(post(server, "/half", body), 413, "too_large", "as x.clone()")
    small = torch.ones(1, 2).expand(3, 2)
    assert torch.equal(loaded(post(server, "/half", small)), small / 2)


def test_limit_of_a_body(server):
    answer = post(server, "/half", torch.ones(200_000, 2))
    check_error(answer, 413, "too_large", "")


class Reduced:
    """Pickles as a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("module", ["os", "posix", "builtins", "torch.hub", "app"])
def test_nothing_is_executed(server, tmp_path, module):
    mark = tmp_path / "executed"
    command = f"touch {mark}"
    body = save({"x": ROW, "y": "@"})
    program = f"c{module}\nsystem\n(X".encode() + struct.pack("<I", len(command))
    program += command.encode() + b"tR."
    for pickle in (program, b"\x80\x02" + program, b"(X\1\0\0\0x" + program[:-1] + b"d."):
        answer = post(server, "/half", with_pickle(body, pickle))
        assert answer.status_code in (400, 422)
        check_error(answer, answer.status_code, answer.json()["code"], "torch.save() file")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (print, ("x",)),
        (bytearray, (10**9,)),
        (torch.Tensor, (1000,)),
        (torch.FloatTensor, (1000,)),
        (torch.UntypedStorage, (10**9,)),
        (OrderedDict.fromkeys, ("x",)),
        (eval, ("1",)),
    ],
)
def test_calls_unknown_to_torch_save(server, function, args):
    answer = post(server, "/half", {"x": Reduced(function, *args)})
    assert answer.status_code in (400, 422), answer.text
    check_error(answer, answer.status_code, answer.json()["code"], "torch.save() file")


def with_pickle(body: bytes, pickle: bytes) -> bytes:
    """Replace the program of a file."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(body)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, pickle if name.endswith("data.pkl") else old.read(name))
    return file.getvalue()


def program(body: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        return archive.read("archive/data.pkl")


BODY = save(ROW)
PROGRAM = program(BODY)
TWO_AXES = b"K\1K\2\x86"
NUMEL = b"cpuq\4K\2"


@pytest.mark.parametrize(
    "pickle",
    [
        b"",
        b".",
        b"\x80\2",
        PROGRAM[:-1],
        PROGRAM[:50],
        PROGRAM[10:],
        b"\x80\2K\1.",
        b"\x80\2X\xff\xff\xff\xffx.",
        b"\x80\2" + b"(" * 60_000 + b".",
        b"\x80\2})q\0h\0h\0\x86q\1h\1h\1\x86s.",
        b"\x80\2ctorch.storage\nUntypedStorage\nJ\0\0\0\x40\x85R.",
        b"\x80\2X\1\0\0\0xq\0ctorch.storage\nUntypedStorage\nq\1h\1K\1\x85R.",
        PROGRAM.replace(NUMEL, b"cpuq\4J\0\0\0\x40"),
        PROGRAM.replace(NUMEL, b"cpuq\4\x8a\x08\0\0\0\0\0\0\0\x40"),
        PROGRAM.replace(TWO_AXES, b"K\1J\0\0\0\x40\x86", 1),
        PROGRAM.replace(TWO_AXES, b"K\1J\xff\xff\xff\xff\x86", 1),
        PROGRAM.replace(b"FloatStorage", b"DoubleStorage"),
        PROGRAM.replace(b"X\1\0\0\x000", b"X\1\0\0\x009"),
        PROGRAM[:-1] + b"}b.",
        PROGRAM[:-1] + b"0.",
    ],
)
def test_programs_that_torch_save_does_not_write(server, pickle):
    assert pickle != PROGRAM
    answer = post(server, "/half", with_pickle(BODY, pickle))
    check_error(answer, 400, "malformed_body", "invalid torch.save() file:")
    assert torch.equal(loaded(post(server, "/half", ROW)), ROW / 2)


def longer(number: int) -> bytes:
    """Return a file whose tensor has another number of elements, and bytes for as many."""
    file = io.BytesIO(
        with_pickle(BODY, PROGRAM.replace(NUMEL, b"cpuq\4M" + struct.pack("<H", number)))
    )
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("archive/data/1", bytes(4 * number))
    return file.getvalue()


def test_storage_that_is_larger_than_its_file():
    """Older versions of PyTorch read what is behind it in memory."""
    for number in (0, 1, 3, 2000):
        with pytest.raises(HTTPError, match='"data/0" is not as large as its tensors say'):
            _check_pickle(*_read_archive(memoryview(longer(number))))
    program, sizes = _read_archive(memoryview(longer(2)))
    assert sizes == {"0": 8, "1": 8}
    _check_pickle(program, sizes)
    for other in ({}, {"0": 7}, {"0": 9}, {"1": 8}):
        with pytest.raises(HTTPError, match="is not as large"):
            _check_pickle(program, other)


@pytest.mark.parametrize(
    "program",
    [
        PROGRAM.replace(NUMEL, b"cpuq\4X\1\0\0\x002"),
        PROGRAM.replace(NUMEL, b"cpuq\4K\2K\2"),
        PROGRAM.replace(b"X\7\0\0\0storage", b"K\1"),
    ],
)
def test_storage_that_torch_save_does_not_describe_so(program):
    assert program != PROGRAM
    with pytest.raises(HTTPError, match="not described as torch"):
        _check_pickle(program, {"0": 8})


def test_files_of_all_kinds_pass():
    """Of all storages, of tensors that share one, and of parameters."""
    x = torch.ones(3, 2)
    values = [*(torch.ones(3).to(getattr(torch, name)) for name in KINDS), x[1:]]
    for value in (*values, {"a": x, "b": x[0], "c": torch.nn.Parameter(x)}, torch.empty(0)):
        _check_pickle(*_read_archive(memoryview(save(value))))


def test_pickle_programs_are_complete():
    *_, (opcode, _, position) = pickletools.genops(PROGRAM)
    assert opcode.name == "STOP" and position == len(PROGRAM) - 1
    assert PROGRAM.count(NUMEL) == 1 and TWO_AXES in PROGRAM


def renamed(*names: str, compression=zipfile.ZIP_STORED) -> bytes:
    """Write the file again, with other names for its members."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(BODY)) as old,
        zipfile.ZipFile(file, "w", compression) as new,
        warnings.catch_warnings(action="ignore", category=UserWarning),  # of names given twice
    ):
        for name, member in zip(names, old.namelist(), strict=False):
            new.writestr(name, old.read(member))
    return file.getvalue()


with zipfile.ZipFile(io.BytesIO(BODY)) as members:
    NAMES = members.namelist()
CENTRAL, END = b"PK\1\2", b"PK\5\6"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"x" * 100, "it does not end like an archive"),
        (BODY[:-1], "it does not end like an archive"),
        (BODY + b"x", "it does not end like an archive"),
        (b"x" + BODY, "its two ends differ"),
        (patched(BODY, (END, -12, "<Q", 0)), "its two ends differ"),
        (patched(BODY, (END, -20, "<I", 0)), "the directory is not in front of the end"),
        (patched(BODY, (END, 10, "<H", 3), (END, 8, "<H", 3)), "its two ends differ"),
        (patched(BODY, (CENTRAL, 24, "<I", 9)), "it is stored, its sizes differ"),
        (patched(BODY, (CENTRAL, 24, "<I", 2**32 - 1)), "it needs zip64"),
        (renamed(*NAMES, compression=zipfile.ZIP_DEFLATED), 'pkl": it is compressed'),
        (renamed("data.pkl", *NAMES[1:]), "it is not in the same directory"),
        (renamed("other/data.pkl", *NAMES[1:]), "it is not in the same directory"),
        (renamed(*NAMES[:-1], "archive/ARCHIVE"), "torch.save() writes no file"),
        (
            renamed(*(name.replace("data/0", "data/a") for name in NAMES)),
            "torch.save() writes no file",
        ),
        (renamed(*(name.upper() for name in NAMES)), "torch.save() writes no file"),
        (renamed(*NAMES[:-1], "archive/constants.pkl"), "torch.save() writes no file"),
        (renamed("archive/version", *NAMES[1:]), 'it must have one "data.pkl"'),
        (renamed(*NAMES[:-1], "archive/data.pkl"), 'it must have one "data.pkl"'),
        (with_pickle(BODY, PROGRAM + bytes(65536)), "it is larger than tensors need"),
        (save(ROW, _use_new_zipfile_serialization=False), "it does not end like an archive"),
        (BODY.replace(b"little", b"medium"), "torch.load() cannot read it"),
    ],
)
def test_malformed_archives(server, body, text):
    answer = post(server, "/half", body)
    check_error(answer, 400, "malformed_body", "invalid torch.save() file: ")
    assert text in answer.json()["error"]


@pytest.mark.parametrize("length", [1, 21, 22, 98, 100, len(BODY) // 2])
def test_torch_files_truncated(server, length):
    check_error(post(server, "/half", BODY[:length]), 400, "malformed_body", "does not end like")


def test_noise(server):
    random = np.random.default_rng(0)
    for _ in range(200):
        body = bytearray(BODY)
        for place in random.integers(0, len(body), 3):
            body[place] = random.integers(256)
        answer = post(server, "/half", bytes(body))
        assert answer.status_code in (200, 400, 413, 422), answer.text
    assert torch.equal(loaded(post(server, "/half", ROW)), ROW / 2)


# --- queues, timeouts, clients that leave ---


def test_queue_is_bounded(server):
    x = torch.ones(1, 1, dtype=torch.float64)
    gate = Gate(server)
    with gate, connections(server, 1) as (wire,):
        wire.send(request("/gated", save(x), content_type=TORCH))
        gate.wait_for_calls(1)
        answer = post(server, "/gated", x)
        check_error(answer, 503, "queue_full", "too many requests")
        assert answer.headers["Retry-After"] == "1"
        gate.open()
        assert load(wire.answer().body).tolist() == [[3]]


LOADS_AT_THE_GATE = (
    APP
    + """
ungated = torch.load

def load(file, **options):
    calls.append([])
    gate.wait()
    return ungated(file, **options)

torch.load = load
"""
)
LOADING = f"""
{GATE_SERVER}
webtorch_torch_load on;
location = /half {{ webtorch_handler app:half; }}
location = /soon {{ webtorch_handler app:half timeout=100ms; }}
location = /few {{ webtorch_handler app:half queue=2; }}
"""


def test_timeout_of_loading(start):
    server = start(LOADING, LOADS_AT_THE_GATE)
    with Gate(server):
        check_error(post(server, "/soon", ROW), 504, "timeout", "in time")
        assert server.post("/soon", [[1, 2]]).json() == [[0.5, 1]]
    assert torch.equal(loaded(post(server, "/soon", ROW)), ROW / 2)


def test_files_that_wait_are_counted(start):
    server = start(LOADING, LOADS_AT_THE_GATE)
    gate = Gate(server)
    with gate, connections(server, 2) as wires:
        for wire in wires:
            wire.send(request("/few", BODY, content_type=TORCH))
        gate.wait_for_calls(1)
        settle(server)
        check_error(post(server, "/few", ROW), 503, "queue_full", "too many requests")
        assert server.post("/few", [[1, 2]]).json() == [[0.5, 1]]
        gate.open()
        for wire in wires:
            assert torch.equal(load(wire.answer().body), ROW / 2)


def test_files_of_clients_that_leave_are_not_loaded(start):
    server = start(LOADING, LOADS_AT_THE_GATE)
    gate = Gate(server)
    with gate, connections(server, 4) as wires:
        for wire in wires:
            wire.send(request("/half", BODY, content_type=TORCH))
            gate.wait_for_calls(1)
        for wire in wires[:3]:
            wire.reset()
        settle(server)
        gate.open()
        assert torch.equal(load(wires[3].answer().body), ROW / 2)
        assert len(gate.calls()) == 2


def test_clients_may_leave(server):
    x = torch.ones(2, 100_000)
    body = save(x)
    for _ in range(5):
        with connections(server, 10) as wires:
            for wire in wires:
                wire.send(request("/wide", body, content_type=TORCH))
            for wire in wires[:5]:
                wire.reset()
            assert torch.equal(load(wires[9].answer().body), x + 1)
    assert torch.equal(loaded(post(server, "/half", ROW)), ROW / 2)


def test_shutdown_answers_first(start):
    server = start(SERVER, APP)
    x = torch.ones(10, 100_000)
    with connections(server, 4) as wires:
        for wire in wires:
            wire.send(request("/wide", save(x), content_type=TORCH))
        wait_for(lambda: server.get("/alive").ok, "the worker to have read them")
        server.reload()
        for wire in wires:
            assert torch.equal(load(wire.answer().body), x + 1)


@pytest.mark.parametrize(
    ("directive", "message"),
    [
        ("webtorch_torch_load;", "invalid number of arguments"),
        ("webtorch_torch_load yes;", 'invalid value "yes" in "webtorch_torch_load" directive'),
        ("webtorch_torch_load on; webtorch_torch_load on;", "directive is duplicate"),
    ],
)
def test_invalid_directives(configured, directive, message):
    status, output = configured(directive, APP).check()
    assert status == 1 and message in output
