"""Builds and runs the fuzzers of the codecs, under AddressSanitizer and UBSan.

Usage: .venv/bin/python tests/tensor/codec/fuzz.py TARGET [OPTIONS]

A target is arrow, csv, json, npy, npz, raw, safetensors, torch7, torch, oip, accept, features,
fields, scored, multipart, lines, rows or websocket; options are libFuzzer's.

New inputs are kept in build/fuzz/TARGET/corpus, inputs that fail in build/fuzz/TARGET.
"""

import functools
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
SOURCES = ROOT / "ngx_webtorch"

ROOMS = ("api", "tensor", "frame", "features")  # the includes
FUZZED = ("tensor", "frame", "features")  # their sources are linked to each target
CODECS = ("arrow", "csv", "json", "npy", "npz", "raw", "safetensors", "torch7")
FRAMES = ("lines", "rows", "websocket")
TARGETS = {
    **{name: ("fuzz_codec.c", f"-DFUZZ_CODEC=ngx_webtorch_codec_{name}") for name in CODECS},
    "oip": ("fuzz_oip.c", "-D_GNU_SOURCE"),
    "torch": ("fuzz_torch.c",),
    "accept": ("fuzz_accept.c",),
    "features": ("fuzz_features.c",),
    "fields": ("fuzz_fields.c",),
    "scored": ("fuzz_scored.c",),
    "multipart": ("fuzz_multipart.c", "-D_GNU_SOURCE"),
    **{name: ("fuzz_frame.c", f"-DFUZZ_FRAME=fuzz_{name}") for name in FRAMES},
}
# a line of CSV with a gap has one byte, its row has defaults of several inputs
TARGETS["csv"] += ("-DFUZZ_MAX_FACTOR=16",)
# a bit of Arrow's bool becomes a number of 8 bytes
TARGETS["arrow"] += ("-DFUZZ_MAX_FACTOR=80",)
# zlib inflates one byte of a deflated member to 1032 bytes at most
TARGETS["npz"] += ("-DFUZZ_MAX_FACTOR=1032",)

MUTATORS = {"npz": "fuzz_npz.c"}

FLAGS = (
    "-gline-tables-only",
    "-O1",
    "-fno-omit-frame-pointer",
    "-fsanitize=fuzzer-no-link,address,undefined",
    "-fno-sanitize-recover=all",
    *(f"-I{SOURCES / room}" for room in ROOMS),
)


def compile_source(source: Path, directory: Path, *defines: str) -> Path:
    """Compile a source of C or C++ into a directory; return the object's path."""
    compiler = ["clang++-14", "-std=c++17"] if source.suffix == ".cpp" else ["clang-14"]
    target = directory / f"{source.stem}.o"
    subprocess.run([*compiler, *FLAGS, *defines, "-c", source, "-o", target], check=True)
    return target


@functools.cache
def compile_rooms() -> tuple[Path, ...]:
    """Compile all sources of the fuzzed rooms, once in a process; return the objects' paths."""
    directory = ROOT / "build/fuzz/rooms"
    directory.mkdir(parents=True, exist_ok=True)
    sources = [path for room in FUZZED for path in sorted((SOURCES / room).glob("*.c*"))]
    return tuple(compile_source(path, directory) for path in sources)


def build(name: str) -> Path:
    """Compile a fuzzer; return its path."""
    directory = ROOT / "build/fuzz" / name
    directory.mkdir(parents=True, exist_ok=True)
    source, *defines = TARGETS[name]
    mutators = [HERE / MUTATORS[name]] if name in MUTATORS else []
    objects = [compile_source(path, directory, *defines) for path in (HERE / source, *mutators)]
    fuzzer = directory / "fuzzer"
    sanitizers = "-fsanitize=fuzzer,address,undefined"
    libraries = ("-lsimdjson", "-lz", "-lm")
    subprocess.run(
        ["clang++-14", sanitizers, *objects, *compile_rooms(), *libraries, "-o", fuzzer], check=True
    )
    return fuzzer


def command(fuzzer: Path, name: str, corpus: Path, *options: str) -> list[str]:
    """Return the command that fuzzes, from the seeds and the corpus."""
    return [
        str(fuzzer),
        "-max_len=4096",
        f"-dict={HERE / 'dictionaries' / name}",
        f"-artifact_prefix={corpus.parent}/",
        *options,
        str(corpus),
        str(HERE / "seeds" / name),
    ]


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit((__doc__ or "").strip())
    name, *options = sys.argv[1:]
    fuzzer = build(name)
    corpus = fuzzer.parent / "corpus"
    corpus.mkdir(exist_ok=True)
    os.execv(fuzzer, command(fuzzer, name, corpus, *options))


if __name__ == "__main__":
    main()
