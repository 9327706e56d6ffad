"""Parsers of frames, in C and without nginx, under AddressSanitizer and UBSan."""

import functools
import os
import random
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from nginx import ROOT

C = ROOT / "ngx_webtorch"
CUTS = (1, 2, 3, 7, 1 << 20)


@functools.cache
def program() -> Path:
    path = ROOT / "build/test_frames"
    path.parent.mkdir(exist_ok=True)
    built = path.with_name(f"{path.name}.{os.getpid()}")
    sources = [ROOT / "tests/frame/frames.c", C / "tensor/ngx_webtorch_buffer.c"]
    sources += sorted((C / "frame").glob("*.c"))
    includes = [f"-I{C / room}" for room in ("api", "tensor", "frame")]
    flags = ("-g", "-O1", "-Wall", "-Wextra", "-fsanitize=address,undefined")
    command = ["clang-14", *flags, "-fno-sanitize-recover=all", *includes, *sources]
    subprocess.run([*command, "-o", built, "-lz"], check=True)
    built.rename(path)  # another process may run the old one
    return path


def events(mode: str, data: bytes, limit: int = 0) -> list[tuple[str, bytes]]:
    """Parse bytes in pieces of several sizes, which all give the same; return the events."""
    found = []
    for cut in CUTS:
        command = [program(), mode, str(limit), str(cut)]
        done = subprocess.run(command, input=data, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        found.append(done.stdout.decode())
    assert len(set(found)) == 1, found
    lines = [line.split(" ") for line in found[0].splitlines()]
    return [(event, bytes.fromhex(text)) for event, text in lines]


# --- lines ---


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b"", [], id="empty"),
        pytest.param(b"[1]\n[2]\n", [b"[1]", b"[2]"], id="two"),
        pytest.param(b"[1]\n[2]", [b"[1]", b"[2]"], id="no_newline_at_the_end"),
        pytest.param(b"[1]\r\n[2]\r\n", [b"[1]", b"[2]"], id="crlf"),
        pytest.param(b"\n \t\r\n[1]\n\n", [b"[1]"], id="blank_lines"),
        pytest.param(b"  [1] \n", [b"[1] "], id="spaces_around"),
        pytest.param(b" " * 5000 + b"[1]\n", [b"[1]"], id="many_spaces"),
        pytest.param(b'{"a":\0}\n', [b'{"a":\0}'], id="nul"),
    ],
)
def test_lines_of_json(body, expected):
    ends = [("ok", line) for line in expected]
    if body and not body.endswith(b"\n"):
        assert events("l", body, 16) == ends  # the last of them at the end
    else:
        assert events("l", body, 16) == [*ends, ("done", b"")]


def test_lines_of_text_keep_blank_ones():
    assert events("t", b"a\n\n b \r\nc") == [
        ("ok", b"a"),
        ("ok", b""),
        ("ok", b" b "),
        ("ok", b"c"),
    ]


def test_line_is_bounded():
    assert events("l", b"[1]\n[123456]\n", 5)[0] == ("ok", b"[1]")
    assert events("l", b"[1]\n[123456]\n", 5)[1][0] == "too_large"
    assert events("l", b"[123]\n", 5)[0] == ("ok", b"[123]")


# --- rows ---


def test_rows_are_cut_anywhere():
    rows = [bytes(range(i, i + 8)) for i in range(5)]
    assert events("r8", b"".join(rows)) == [*(("ok", row) for row in rows), ("done", b"")]


def test_row_is_truncated():
    assert events("r8", bytes(11)) == [("ok", bytes(8)), ("truncated", bytes(3))]


# --- WebSocket ---

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(opcode: int, data: bytes = b"", fin: bool = True, size: int | None = None) -> bytes:
    """Write a frame of a client; `size` is that of its length in bytes, 0, 2 or 8."""
    mask = random.Random(len(data)).randbytes(4)
    if size is None:
        size = 0 if len(data) < 126 else 2 if len(data) < 65536 else 8
    first = {0: len(data), 2: 126, 8: 127}[size] | 0x80
    length = b"" if size == 0 else struct.pack(">H" if size == 2 else ">Q", len(data))
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
    return bytes([opcode | (0x80 if fin else 0), first]) + length + mask + masked


@pytest.mark.parametrize("size", [0, 1, 7, 8, 125, 126, 127, 65535, 65536, 70001])
def test_websocket_sizes(size):
    data = random.Random(size).randbytes(size)
    stream = frame(BINARY, data) + frame(TEXT, b"after")
    assert events("w", stream) == [("binary", data), ("text", b"after")]


def test_websocket_fragments_around_control_frames():
    stream = (
        frame(TEXT, "hä".encode()[:2], fin=False)
        + frame(PING, b"?")
        + frame(0, "hä".encode()[2:], fin=False)
        + frame(PONG)
        + frame(0)
    )
    assert events("w", stream) == [("ping", b"?"), ("pong", b""), ("text", "hä".encode())]


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        pytest.param(b"\xc1\x80", 1002, id="reserved_bit"),
        pytest.param(b"\x83\x80", 1002, id="unknown_opcode"),
        pytest.param(b"\x8b\x80", 1002, id="unknown_control_frame"),
        pytest.param(b"\x81\x01a", 1002, id="not_masked"),
        pytest.param(frame(PING, fin=False), 1002, id="control_frame_in_parts"),
        pytest.param(frame(PING, bytes(126)), 1002, id="long_control_frame"),
        pytest.param(frame(0, b"a"), 1002, id="nothing_to_continue"),
        pytest.param(frame(TEXT, b"a", fin=False) + frame(TEXT), 1002, id="message_in_message"),
        pytest.param(frame(BINARY, bytes(3), size=2), 1002, id="long_length_2"),
        pytest.param(frame(BINARY, bytes(300), size=8), 1002, id="long_length_8"),
        pytest.param(b"\x82\xff\x80" + bytes(11), 1002, id="negative_length"),
        pytest.param(frame(BINARY, bytes(1001)), 1009, id="too_large"),
        pytest.param(
            frame(BINARY, bytes(600), fin=False) + frame(0, bytes(600)), 1009, id="too_large_sum"
        ),
        pytest.param(frame(TEXT, b"a\xff"), 1007, id="not_utf8"),
        pytest.param(frame(TEXT, b"\xed\xa0\x80"), 1007, id="surrogate"),
        pytest.param(frame(TEXT, b"\xc0\xaf"), 1007, id="overlong"),
        pytest.param(frame(TEXT, b"\xf4\x90\x80\x80"), 1007, id="above_unicode"),
        pytest.param(frame(TEXT, "ä".encode()[:1]), 1007, id="half_a_character"),
        pytest.param(frame(CLOSE, b"\x03"), 1002, id="close_of_a_byte"),
        pytest.param(frame(CLOSE, struct.pack(">H", 1005)), 1002, id="close_1005"),
        pytest.param(frame(CLOSE, struct.pack(">H", 999)), 1002, id="close_999"),
        pytest.param(frame(CLOSE, struct.pack(">H", 2999)), 1002, id="close_2999"),
        pytest.param(frame(CLOSE, struct.pack(">H", 1000) + b"\xff"), 1007, id="close_not_utf8"),
    ],
)
def test_websocket_error(stream, code):
    found = events("w", frame(BINARY, b"before") + stream + frame(BINARY, b"after"), 1000)
    assert found[0] == ("binary", b"before")
    assert found[-1] == (f"error:{code}", b"")
    assert ("binary", b"after") not in found


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999])
def test_websocket_close(code):
    payload = struct.pack(">H", code) + "bye ä".encode()
    assert events("w", frame(CLOSE, payload) + frame(TEXT, b"x")) == [(f"close:{code}", payload)]


def test_websocket_close_without_code():
    assert events("w", frame(CLOSE)) == [("close:1005", b"")]


def test_websocket_random_text():
    """Python decides which texts are valid."""
    rng = random.Random(1)
    for _ in range(12):
        text = "".join(chr(rng.choice([0x41, 0xE9, 0x7FF, 0x800, 0xFFFF, 0x10FFFF])) for _ in "abc")
        data = bytearray(text.encode())
        if rng.random() < 0.7:
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            data.decode()
            expected = ("text", bytes(data))
        except UnicodeDecodeError:
            expected = ("error:1007", b"")
        assert events("w", frame(TEXT, bytes(data))) == [expected]


# --- permessage-deflate ---

DEFLATED = 0x40


def deflated(data: bytes, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    packer = zlib.compressobj(9, wbits=-15)
    return (packer.compress(data) + packer.flush(flush)).removesuffix(b"\0\0\xff\xff")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(deflated(b"a" * 999), ("ok", b"a" * 999), id="fits"),
        pytest.param(deflated(b"a" * 1000), ("again", b"a" * 1000), id="full"),
        pytest.param(deflated(b"a" * 10**7), ("again", b"a" * 1000), id="bomb"),
        pytest.param(deflated(b""), ("ok", b""), id="empty"),
        pytest.param(deflated(b"ab", zlib.Z_FINISH) + b"\0", ("ok", b"ab"), id="last_block"),
        pytest.param(deflated(b"ab", zlib.Z_FINISH) * 9 + b"\0", ("ok", b"ab" * 9), id="blocks"),
        pytest.param(deflated(b"a\xff"), ("ok", b"a\xff"), id="not_utf8"),
        pytest.param(b"", ("truncated", b""), id="nothing"),
        pytest.param(b"\xff", ("truncated", b""), id="unknown_block"),
    ],
)
def test_websocket_deflated_message(data, expected):
    first = frame(TEXT | DEFLATED, data[:3], fin=len(data) <= 3)
    rest = frame(0, data[3:]) if len(data) > 3 else b""
    after = [("text", b"plain"), ("ping", b"")]
    found = events("d", first + rest + frame(TEXT, b"plain") + frame(PING))
    assert found == [("text", data), expected, *after]


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(frame(PING | DEFLATED), id="control_frame"),
        pytest.param(frame(TEXT, fin=False) + frame(DEFLATED), id="not_the_first_frame"),
        pytest.param(frame(TEXT | 0x20), id="another_bit"),
        pytest.param(frame(TEXT | DEFLATED | 0x10), id="two_bits"),
    ],
)
def test_websocket_deflated_bit_is_wrong(stream):
    assert events("d", stream) == [("error:1002", b"")]
