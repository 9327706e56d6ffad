#!/usr/bin/env bash
#
# Builds and tests the last commit on other platforms than the one that CI has:
#
#   tests/platforms.sh python /opt/python3.13/bin/python3 DIRECTORY [ARGS]
#   tests/platforms.sh debian trixie DIRECTORY [ARGS]
#
# The first takes another Python, which the user "nobody" must be able to read.
# The second, as root, takes another release of Debian in a chroot, with its
# nginx, Python and PyTorch.  DIRECTORY is made, and is kept for the next time.
# ARGS go to pytest, which runs the tests of the rooms that depend on nginx and
# Python unless they say otherwise.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
MIRROR=http://deb.debian.org/debian
TESTS=(tests/core tests/batch tests/module tests/shared tests/http)

# clang of Debian 12 compiles the tests with sanitizers
TESTS_OPTIONS=(-n 4 --dist worksteal -k 'not sanitize and not fuzz')

DEBIAN_PACKAGES=(
    nginx nginx-dev g++ make libsimdjson-dev libflatbuffers-dev zlib1g-dev wrk curl git
    ca-certificates openssl nghttp2-client
    libtorch-dev python3-dev python3-venv python3-torch python3-numpy python3-cffi python3-safetensors
    python3-requests python3-httpx python3-h2 python3-hypothesis python3-pil python3-pytest
    python3-pytest-xdist
)

checkout() {
    if [[ -e $1/.git ]]; then
        git -C "$1" fetch --quiet "$ROOT" HEAD
        git -C "$1" checkout --quiet --detach FETCH_HEAD
    else
        git clone --quiet "$ROOT" "$1"
    fi
}

test_python() {
    local python=$1 directory=$2

    checkout "$directory"
    cd "$directory"
    PYTHON=$python ./build.sh
    exec .venv/bin/python -m pytest "${TESTS_OPTIONS[@]}" "${@:3}"
}

test_debian() {
    local suite=$1 directory=$2

    command -v debootstrap >/dev/null || { echo "apt-get install debootstrap" >&2; exit 1; }

    if [[ ! -e $directory/usr/bin/apt-get ]]; then
        debootstrap --variant=minbase "$suite" "$directory" "$MIRROR"
    fi

    # no server is started there
    printf '#!/bin/sh\nexit 101\n' >"$directory/usr/sbin/policy-rc.d"
    chmod +x "$directory/usr/sbin/policy-rc.d"
    cp /etc/resolv.conf "$directory/etc/"

    # in a namespace of this script, so they end with it
    mount --bind /dev "$directory/dev"
    mount -t devpts -o newinstance,ptmxmode=0666 none "$directory/dev/pts"
    mount -t tmpfs none "$directory/dev/shm"
    mount -t proc none "$directory/proc"

    # a mirror's copy may be older than its index says that it stays valid
    chroot "$directory" apt-get update -qq -o Acquire::Check-Valid-Until=false
    chroot "$directory" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "${DEBIAN_PACKAGES[@]}" >/dev/null

    # those of this host, which may be behind a proxy
    cp /etc/ssl/certs/ca-certificates.crt "$directory/etc/ssl/certs/"

    checkout "$directory/srv/webtorch"
    # shellcheck disable=SC2016    # expanded by the shell in the chroot
    chroot "$directory" env SITE_PACKAGES=1 LC_ALL=C.UTF-8 \
        PIP_CERT=/etc/ssl/certs/ca-certificates.crt bash -c '
        cd /srv/webtorch && ./build.sh && .venv/bin/python -m pytest "$@"
    ' bash "${TESTS_OPTIONS[@]}" "${@:3}"
}

(($# >= 3)) || { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 2; }

if (($# == 3)); then
    set -- "$@" "${TESTS[@]}"
fi

case $1 in
    python) test_python "${@:2}" ;;
    debian)
        if [[ ! ${PLATFORMS_MOUNTS:-} ]]; then
            PLATFORMS_MOUNTS=1 exec unshare --mount "$0" "$@"
        fi
        test_debian "${@:2}"
        ;;
    *) "$0" ;;
esac
