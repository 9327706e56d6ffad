"""Builds and runs the fuzzers of the codecs, under AddressSanitizer and UBSan.

Usage: .venv/bin/python tests/tensor/codec/fuzz.py TARGET [OPTIONS]

A target is json, npy, npz, raw, safetensors, torch7, torch, oip, accept or
features; options are libFuzzer's.

What it finds new is kept in build/fuzz/NAME/corpus, and an input that fails beside it.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
SOURCES = ROOT / "ngx_webtorch"

ROOMS = ("api", "tensor", "features")
SHARED = ("tensor/{}tensor", "tensor/{}array", "tensor/{}zip")
CODECS = ("json", "npy", "npz", "raw", "safetensors", "torch7")
TARGETS = {
    **{name: ("fuzz_codec.c", f"-DFUZZ_CODEC=ngx_webtorch_codec_{name}") for name in CODECS},
    "oip": ("fuzz_oip.c", "-D_GNU_SOURCE"),
    "torch": ("fuzz_torch.c",),
    "accept": ("fuzz_accept.c",),
    "features": ("fuzz_features.c",),
}
# a deflated member of an archive: what zlib can make of a byte at most
TARGETS["npz"] += ("-DFUZZ_MAX_FACTOR=1032",)

MUTATORS = {"npz": "fuzz_npz.c"}

FLAGS = (
    "-g",
    "-O1",
    "-fno-omit-frame-pointer",
    "-fsanitize=fuzzer-no-link,address,undefined",
    "-fno-sanitize-recover=all",
    *(f"-I{SOURCES / room}" for room in ROOMS),
)


def build(name: str) -> Path:
    """Compile a fuzzer; return its path."""
    directory = ROOT / "build/fuzz" / name
    directory.mkdir(parents=True, exist_ok=True)
    source, *defines = TARGETS[name]
    codecs = sorted((SOURCES / "tensor").glob("ngx_webtorch_codec*.c*"))
    shared = [SOURCES / f"{part.format('ngx_webtorch_')}.c" for part in SHARED]
    shared += sorted((SOURCES / "features").glob("*.c"))
    mutators = [HERE / MUTATORS[name]] if name in MUTATORS else []
    objects = []
    for path in [HERE / source, *mutators, *shared, *codecs]:
        compiler = ["clang++-14", "-std=c++17"] if path.suffix == ".cpp" else ["clang-14"]
        objects.append(directory / f"{path.stem}.o")
        subprocess.run([*compiler, *FLAGS, *defines, "-c", path, "-o", objects[-1]], check=True)
    fuzzer = directory / "fuzzer"
    sanitizers = "-fsanitize=fuzzer,address,undefined"
    subprocess.run(
        ["clang++-14", sanitizers, *objects, "-lsimdjson", "-lz", "-lm", "-o", fuzzer], check=True
    )
    return fuzzer


def command(fuzzer: Path, name: str, corpus: Path, *options: str) -> list[str]:
    """Return the command that fuzzes, from the seeds and what the corpus holds."""
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
