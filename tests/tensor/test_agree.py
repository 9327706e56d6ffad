"""Whether answers of two functions agree, in C, under AddressSanitizer and UBSan."""

import subprocess

from nginx import ROOT

ROOM = ROOT / "ngx_webtorch/tensor"


def test_agree(tmp_path):
    program = tmp_path / "agree"
    sources = [
        ROOT / "tests/tensor/test_agree.c",
        *(ROOM / f"ngx_webtorch_{name}.c" for name in ("agree", "dtype", "tensor")),
    ]
    flags = ("-g", "-O1", "-Wall", "-Wextra", "-fsanitize=address,undefined")
    includes = (f"-I{ROOT / 'ngx_webtorch/api'}", f"-I{ROOM}")
    command = ["clang-14", *flags, "-fno-sanitize-recover=all", *includes, *sources]
    subprocess.run([*command, "-lm", "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
