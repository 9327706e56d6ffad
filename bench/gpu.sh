#!/bin/bash
#
# Tests and measures WebTorch on a bare machine with a GPU: Python 3.12 with PyTorch, a C and a C++
# compiler, but no nginx, no libraries and no registries.
#
#   bench/gpu.sh pack NGINX_SOURCE   on another machine: puts what is needed into build/gpu (60 MB at
#                                    most), which is to be copied with the sources
#   bench/gpu.sh [DIRECTORY]         on the machine with the GPU: builds nginx with the module, runs
#                                    the tests marked "gpu", measures, and writes DIRECTORY/gpu.json
#                                    and logs (build/gpu/results)
#
# PYTHON chooses the interpreter that has PyTorch (python3).

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CARRIED=$ROOT/build/gpu
PYTHON=${PYTHON:-python3}

# the packages that the tests and the benchmarks import
PACKAGES=(
    cffi pycparser click jaxtyping wadler_lindig msgspec safetensors numpy
    requests urllib3 charset-normalizer idna certifi
    pytest iniconfig pluggy packaging Pygments pillow websockets
)

cd "$ROOT"

pack() {
    local source=$1 library header package

    [[ -f $source/src/core/nginx.h ]] || { echo "$source is no source of nginx" >&2; exit 1; }
    rm -rf "$CARRIED"
    mkdir -p "$CARRIED"/{include,lib,wheels}

    tar -C "$source" --exclude=.git --exclude=objs --exclude=.github -czf "$CARRIED/nginx.tar.gz" .

    for header in simdjson.h zlib.h zconf.h pcre2.h; do
        cp "$(find /usr/include -name "$header" | head -n 1)" "$CARRIED/include/"
    done
    cp -r /usr/include/flatbuffers "$CARRIED/include/"
    for library in simdjson z pcre2-8; do
        cp -L "$(find /usr/lib -name "lib$library.so" | head -n 1)" "$CARRIED/lib/lib$library.so"
        # the name that programs look for
        ln -s "lib$library.so" "$CARRIED/lib/$(soname "$CARRIED/lib/lib$library.so")" 2>/dev/null || true
    done

    for package in "${PACKAGES[@]}"; do
        grep -i -m1 "^${package//[-_]/[-_]}==" requirements.lock
    done >"$CARRIED/requirements.txt"
    .venv/bin/python -m pip --disable-pip-version-check --quiet download --no-deps \
        --only-binary=:all: --python-version 3.12 --implementation cp \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
        -d "$CARRIED/wheels" -r "$CARRIED/requirements.txt"
    du -sm "$CARRIED"
}

soname() { objdump -p "$1" | sed -n 's/^ *SONAME *//p'; }

# An environment that sees the PyTorch of the interpreter, and the wheels.
make_environment() {
    local site

    rm -rf "$CARRIED/venv"
    "$PYTHON" -m venv --without-pip "$CARRIED/venv"
    site=$("$CARRIED/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    "$PYTHON" -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parents[1])' \
        >"$site/torch.pth"
    "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" \
        "$CARRIED"/wheels/*.whl
    echo "$ROOT/python" >"$site/webtorch.pth"
}

build() {
    local tree=$CARRIED/nginx

    rm -rf "$tree"
    mkdir -p "$tree"
    tar -C "$tree" -xzf "$CARRIED/nginx.tar.gz"
    (
        cd "$tree"
        configure=./configure
        [[ -e $configure ]] || configure=auto/configure
        WEBTORCH_PYTHON=$CARRIED/venv/bin/python WEBTORCH_VENV=$CARRIED/venv "$configure" \
            --error-log-path=stderr --with-threads \
            --with-cc-opt="-O2 -I$CARRIED/include" \
            --with-ld-opt="-L$CARRIED/lib -Wl,-rpath,$CARRIED/lib" \
            --add-module="$ROOT/ngx_webtorch"
        make -s -j "$(nproc)" -f objs/Makefile binary
    )
}

run() {
    local results=$1 status=0 only=() tests=()

    mkdir -p "$results"
    make_environment
    build >"$results/build.log" 2>&1 || { tail -n 40 "$results/build.log"; exit 1; }
    # others import what is not there
    mapfile -t tests < <(grep -rl --include='test_*.py' 'pytest\.mark\.gpu' tests)
    "$CARRIED/venv/bin/python" -m pytest -p no:cacheprovider -ra -m gpu "${tests[@]}" \
        --nginx="$CARRIED/nginx/objs/nginx" 2>&1 | tee "$results/tests.log" || status=1

    if "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
        only=(--only graphs --only pinned)
    else
        echo 'PyTorch finds no GPU: only the simulated device is measured' >&2
    fi
    WEBTORCH_NGINX=$CARRIED/nginx/objs/nginx "$CARRIED/venv/bin/python" bench/devices.py \
        --seconds 2 --only stall --only overlap "${only[@]}" \
        --json "$results/gpu.json" 2>&1 | tee "$results/bench.log" || status=1
    return "$status"
}

case ${1:-} in
    pack) pack "${2:?the path of a source of nginx}" ;;
    *) run "${1:-$CARRIED/results}" ;;
esac
