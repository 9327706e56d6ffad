#!/usr/bin/env bash
#
# Prepares, runs and tests WebTorch; `./build.sh help` says how.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PYTHON=${PYTHON:-/usr/bin/python3}
NGINX=/usr/sbin/nginx               # not in the PATH of every user
NGINX_DEV=/usr/share/nginx/src      # where nginx-dev keeps headers and configure
MODULE=ngx_http_webtorch_module.so
FORMATS=libwebtorch_formats.so      # what webtorch.testing loads
JOBS=$(nproc)
WORKERS=$((JOBS * 2))               # tests at once

BUILD_PACKAGES=(nginx nginx-dev g++ make libsimdjson-dev libflatbuffers-dev zlib1g-dev wrk curl)
TEST_PACKAGES=(chromium cppcheck shellcheck clang-14 libclang-rt-14-dev nghttp2-client openssl
               espeak-ng prometheus)
STATIC_PACKAGES=(libpcre2-dev libssl-dev)

declare -A WHY=(
    [nginx]='the server that loads the module (Debian also starts it, on port 80)'
    [nginx-dev]='headers and build options of exactly this nginx'
    [g++]='compiles the module'
    [make]='drives the compilation'
    [libsimdjson-dev]='parses JSON bodies'
    [libflatbuffers-dev]='reads the metadata of Arrow streams'
    [zlib1g-dev]='inflates compressed bodies'
    [wrk]='makes the load for bench/'
    [curl]='sends the requests of the examples'
    [chromium]='loads pages that use fetch()'
    [cppcheck]='lints the C sources'
    [shellcheck]='lints this script'
    [clang-14]='compiles the codecs for the sanitizers and the fuzzer'
    [libclang-rt-14-dev]='the sanitizers and the fuzzer themselves'
    [nghttp2-client]='HTTP/2 clients for the tests'
    [openssl]='makes certificates for the tests of TLS'
    [espeak-ng]='speaks in the tests of streams of audio'
    [debhelper]='builds the Debian package'
    [dpkg-dev]='builds the Debian package'
    [fakeroot]='builds the Debian package as any user'
    [prometheus]='checks the rules of alerts (Debian also starts the server, on port 9090)'
    [libpcre2-dev]='regular expressions of nginx'
    [libssl-dev]='TLS of nginx'
)

say() { printf '%s\n' "build.sh: $*"; }

die() {
    printf '%s\n' "build.sh: error: $1" "${@:2}" >&2
    exit 1
}

help() {
    cat <<'END'
./build.sh                prepare: Debian packages, .venv, the module in build/modules/
./build.sh run [CONF]     prepare, then run nginx in the foreground with CONF (nginx-conf/xor.conf);
                          Ctrl-C stops it
./build.sh test [ARGS]    prepare, lint, and run the tests; ARGS go to pytest
./build.sh static SOURCE [OPTIONS]
                          compile the module into the nginx of the source tree SOURCE;
                          OPTIONS go to its configure
./build.sh wheel [SOURCE] build dist/webtorch-*.whl with an nginx inside, of the tree SOURCE or of
                          the release that packaging/wheel.sh names
./build.sh deb            build dist/libnginx-mod-http-webtorch_*.deb for Debian's nginx
./build.sh packages       build what dist/ has, try it and the sources on a bare Debian (as root)
./build.sh site           build the documentation as a site in build/site/
./build.sh lock           write the versions of Python packages to requirements.lock: those in .venv, and
                          what bench/ adds to them
./build.sh help           this text

Each does only what is not yet done, so repeat them at any time. From the environment:

PYTHON=/path/to/python3   the interpreter to embed: 3.11 or newer with a shared library
                          (/usr/bin/python3). A change of it rebuilds .venv and the module.
                          A wheel is for its version, and needs no shared library and no .venv.
SITE_PACKAGES=1           take PyTorch and other packages that PYTHON has, whatever their version,
                          as those of Debian's python3-torch, instead of the pinned ones
CC=clang-14               the C and C++ compiler (cc)
PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
                          an option of pip: PyTorch without CUDA, a much smaller download
END
}

# --- Debian packages ---------------------------------------------------------

require_packages() {
    local missing

    command -v dpkg-query >/dev/null \
        || die 'this system has no dpkg; WebTorch is built on Debian 12.' "Needed: $*"

    mapfile -t missing < <(missing_packages "$@")
    if ((${#missing[@]})); then
        install_packages "${missing[@]}"
    fi
}

missing_packages() {
    local installed package

    # shellcheck disable=SC2016  # dpkg-query expands it; it fails when it does not know a package
    installed=" $(dpkg-query -W -f '${Package}:${db:Status-Status} ' "$@" 2>/dev/null || true)"

    for package; do
        [[ $installed == *" $package:installed "* ]] || echo "$package"
    done
}

install_packages() {
    local package as_root=()

    if ((EUID != 0)); then
        command -v sudo >/dev/null || die "installing packages needs root or sudo; have it done by:" \
            "    apt-get update && apt-get install --no-install-recommends $*"
        as_root=(sudo)
    fi

    for package; do
        say "installing $package: ${WHY[$package]}"
    done
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

# --- Python ------------------------------------------------------------------

# Debian splits its Python; any other brings its own headers and venv.
require_python() {
    local name=${PYTHON##*/}

    if [[ $PYTHON == /usr/bin/python3* ]]; then
        WHY[$name-dev]='libpython and its headers, which the module embeds'
        WHY[$name-venv]='makes .venv'
        require_packages "$name-dev" "$name-venv"
    fi

    command -v "$PYTHON" >/dev/null || die "PYTHON=$PYTHON is not an interpreter."
    PYTHON=$(command -v "$PYTHON")
    PYTHON_IDENTITY=$(python_identity "$PYTHON")
}

# The same for an interpreter and the virtual environments made from it.
python_identity() {
    local facts
    facts=$("$1" ngx_webtorch/config_python.py) || return
    grep -v '^ngx_webtorch_python_exe=' <<<"$facts"
}

make_venv() {
    # pip comes last, so without it the making was interrupted
    if [[ ! -e .venv/bin/pip || $(python_identity .venv/bin/python) != "$PYTHON_IDENTITY" ]]; then
        say "making .venv with $PYTHON"
        rm -rf .venv
        "$PYTHON" -m venv ${SITE_PACKAGES:+--system-site-packages} .venv
    fi

    # The path matters as the package is installed as a link to it.
    once .venv/.installed "$ROOT $(sha256sum pyproject.toml requirements.lock)" install_python_packages
}

install_python_packages() {
    local pip=(.venv/bin/python -m pip --disable-pip-version-check --quiet install)
    local lock=(--constraint requirements.lock)

    if [[ ${SITE_PACKAGES:-} ]]; then
        .venv/bin/python packaging/missing.py >build/missing.txt
        .venv/bin/python -m pip freeze | sed -n '/^torch==/p' >build/torch.txt
        say "installing $(tr '\n' ' ' <build/missing.txt)and, as a link, webtorch"
        "${pip[@]}" --constraint build/torch.txt --requirement build/missing.txt "$(pin setuptools)"
        "${pip[@]}" --no-build-isolation --no-deps --editable .
        return
    fi

    # torch comes first and alone: no other package then gets to choose its build.
    say "installing $(pin torch) into .venv (this can take minutes)"
    "${pip[@]}" "$(pin torch)"
    say 'installing the other Python packages and, as a link, webtorch'
    "${pip[@]}" "$(pin setuptools)"
    "${pip[@]}" "${lock[@]}" --no-build-isolation --editable '.[test]'
}

# Workers run as a user who cannot write bytecode beside the sources, so each would compile them.
compile_package() { .venv/bin/python -m compileall -q python/webtorch; }

# The version of a package that is tested: NAME -> NAME==VERSION
pin() { grep -m1 "^$1==" requirements.lock; }

# Writes down the versions of what .venv has, for the next one, and of what bench/ adds to it.
lock_python_packages() {
    prepare_tools
    .venv/bin/python packaging/lock.py >build/requirements.lock
    mv build/requirements.lock requirements.lock
}

# --- nginx and the module ----------------------------------------------------

build_module() {
    local tree=build/nginx

    # shellcheck source=/dev/null
    source "$NGINX_DEV/conf_flags"
    configure_nginx "$NGINX_DEV" "$tree" "${NGX_CONF_FLAGS[@]}" \
        --with-ld-opt='-Wl,-z,relro -Wl,-z,now' --add-dynamic-module="$ROOT/ngx_webtorch"

    make -s -j "$JOBS" -C "$tree" -f objs/Makefile modules

    if [[ $tree/objs/$MODULE -nt build/modules/$MODULE || ! -e build/modules/$FORMATS ]]; then
        # renamed, not overwritten: a running nginx may have the old file mapped.
        # The module comes last, as its time says that both are new.
        mkdir -p build/modules
        link_formats "$tree" "build/modules/$FORMATS"
        cp "$tree/objs/$MODULE" "build/modules/$MODULE.new"
        mv "build/modules/$MODULE.new" "build/modules/$MODULE"
        say "built build/modules/$MODULE for nginx $(nginx_version "$NGINX_DEV")"
    fi
}

# Links the formats of tensors and the fields of requests, which need no nginx,
# as a library: TREE FILE
link_formats() {
    "${CC:-cc}" -shared -o "$2.new" "$1"/objs/addon/{tensor,exchange,features}/*.o -Wl,-z,relro -Wl,-z,now \
        -Wl,-z,defs -Wl,--version-script="$ROOT/ngx_webtorch/exchange/formats.map" \
        -lsimdjson -lz -lstdc++ -lm
    mv "$2.new" "$2"
}

# Configures the nginx of a source tree in a directory of ours, unless that is
# done: SOURCE TREE OPTION...
configure_nginx() {
    local source=$1 tree=$2 options=("${@:3}")
    options+=(--with-cc="${CC:-cc}"
              --with-cc-opt="-O2 -g -fstack-protector-strong -D_FORTIFY_SOURCE=2${CC_OPT:+ $CC_OPT}")

    # The time of change (%Z) shows an upgrade: the package's files keep their old dates.
    once "$tree/.configured" "$source $(stat -c %Z "$source/src/core/nginx.h") ${options[*]}
$PYTHON $PYTHON_IDENTITY $(sha256sum ngx_webtorch/config*)
$(grep '^__version__' python/webtorch/__init__.py)" \
        configure_anew "$source" "$tree" "${options[@]}"
}

configure_anew() {
    local source=$1 tree=$2 configure=./configure log=$ROOT/$2/configure.log

    say "configuring nginx $(nginx_version "$source") in $tree"
    link_tree "$source" "$tree"
    [[ -e $source/configure ]] || configure=auto/configure      # not in git

    (
        cd "$tree" || exit
        WEBTORCH_PYTHON=$PYTHON WEBTORCH_VENV=$ROOT/.venv "$configure" "${@:3}"
    ) >"$log" 2>&1 || die "configuring nginx failed, $log ends with:" "$(tail -n 20 "$log")"
}

# nginx writes its objects and Makefile where it is configured, so give it a
# place with links to the sources and leave theirs alone.
link_tree() {
    local entry

    rm -rf "$2"
    mkdir -p "$2"
    for entry in "$1"/*; do
        case ${entry##*/} in
            objs | Makefile) ;;
            *) ln -s "$entry" "$2/" ;;
        esac
    done
}

nginx_version() { sed -n 's/^#define NGINX_VERSION *"\(.*\)"/\1/p' "$1/src/core/nginx.h"; }

# Runs a command unless it has succeeded with the same key before: STAMP KEY COMMAND...
once() {
    local stamp=$1 key=$2

    if [[ ! -e $stamp || $(<"$stamp") != "$key" ]]; then
        rm -f "$stamp"
        "${@:3}"
        printf '%s\n' "$key" >"$stamp"
    fi
}

# --- lint --------------------------------------------------------------------

# Python is linted beside C, and reports afterwards.
lint() {
    local python status=0

    say 'linting the shell scripts'
    shellcheck -x build.sh .ci/run tests/platforms.sh packaging/*.sh

    mkdir -p build
    lint_python >build/lint_python.log 2>&1 &
    python=$!
    say 'linting C and C++'
    lint_c || status=$?
    say 'linting Python'
    wait "$python" || status=$?
    cat build/lint_python.log
    return "$status"
}

# Functions called before "||" do not stop at the first failure, hence "&&".
lint_python() {
    .venv/bin/ruff check && .venv/bin/ruff format --check && .venv/bin/mypy
}

# ngx_webtorch_bridge.c is generated by cffi, so it is not ours to lint.
lint_c() {
    local c cpp
    mapfile -t c < <(find ngx_webtorch packaging -name '*.c' ! -name ngx_webtorch_bridge.c)
    mapfile -t cpp < <(find ngx_webtorch -name '*.cpp')

    compile_strictly gnu11 "${c[@]}" \
        && compile_strictly c++17 "${cpp[@]}" \
        && cppcheck --quiet --error-exitcode=1 --inline-suppr -j "$JOBS" \
            --enable=warning,performance,portability "${c[@]}" "${cpp[@]}"
}

# Headers that are not ours are system headers here: they need not live up to
# our warnings. -O2 as some warnings come out of the optimizer; nginx's callbacks
# have parameters that not all of them use.
compile_strictly() {
    local includes ngx_webtorch_python_include
    eval "$PYTHON_IDENTITY"
    mapfile -t includes < <(find -L build/nginx/src -type d -printf '-isystem\n%p\n')
    includes+=(-isystem build/nginx/objs -isystem "$ngx_webtorch_python_include")
    mapfile -t -O "${#includes[@]}" includes < <(find ngx_webtorch -type d -printf '-I%p\n')

    printf '%s\0' "${@:2}" | xargs -0 -n 1 -P "$JOBS" \
        "${CC:-cc}" "-std=$1" -O2 -Wall -Wextra -Wno-unused-parameter -Werror "${includes[@]}" -c -o /dev/null
}

# --- packages ----------------------------------------------------------------

# shellcheck source=packaging/wheel.sh
source "$ROOT/packaging/wheel.sh"
# shellcheck source=packaging/deb.sh
source "$ROOT/packaging/deb.sh"
# shellcheck source=packaging/try.sh
source "$ROOT/packaging/try.sh"

# --- commands ----------------------------------------------------------------

# What all builds need. A second build.sh waits until the first one is done.
prepare_tools() {
    prepare_system "$@"
    make_venv
}

prepare_system() {
    cd "$ROOT"
    mkdir -p build
    if [[ ! ${LOCK:-} ]]; then      # one command may build several things
        exec {LOCK}>build/lock
        flock "$LOCK"
    fi

    require_packages "${BUILD_PACKAGES[@]}" "$@"
    require_python
}

prepare() {
    prepare_tools "$@"
    build_module
    compile_package
    exec {LOCK}>&-
    LOCK=
}

run() {
    local conf address
    conf=$(realpath -m "${1:-$ROOT/nginx-conf/xor.conf}")
    [[ -f $conf ]] || die "there is no $conf."

    prepare
    mkdir -p build/run      # for the pid and the temporary files

    address=$(listen_address "$conf")
    if [[ -n $address ]]; then
        say "nginx listens on http://$address; Ctrl-C stops it"
    fi
    if [[ $conf == "$ROOT/nginx-conf/xor.conf" ]]; then
        say "try: curl --json '[[0.5,0.5]]' http://$address/v1/output"
    fi
    exec "$NGINX" -p "$ROOT/" -c "$conf" -g 'daemon off;'
}

# The first TCP address that a configuration names, for a client on this host.
listen_address() {
    local address
    address=$(sed -nE '/^\s*listen\s+([^ ;]+).*/ { s//\1/p; q }' "$1")
    case $address in
        '' | unix:*) ;;
        *:*) echo "${address/#\*:/127.0.0.1:}" ;;
        *[!0-9]*) echo "$address" ;;
        *) echo "127.0.0.1:$address" ;;
    esac
}

# Tests of servers wait much of the time, so there are more at once than cores.
# ARGS come last, so that they can change that (./build.sh test -n 0).
run_tests() {
    local status=0

    prepare "${TEST_PACKAGES[@]}"
    lint
    say "testing, $WORKERS tests at once"
    .venv/bin/python -m pytest -n "$WORKERS" --dist worksteal "$@" || status=$?

    # A machine that stands still for seconds fails a test of the whole suite now and
    # then: one that fails by itself, too, is a fault.  1 is pytest's for failed tests.
    if ((status == 1 && $# == 0)); then
        say 'testing what failed once more, one at a time'
        exec .venv/bin/python -m pytest --last-failed --maxfail=5
    fi
    exit "$status"
}

build_static() {
    local source tree
    (($#)) || die 'static needs the path of an nginx source tree.'
    source=$(realpath -m "$1")
    [[ -f $source/src/core/nginx.h ]] || die "$1 is not an nginx source tree."

    tree=build/static/nginx-$(nginx_version "$source")
    prepare_tools "${STATIC_PACKAGES[@]}"
    configure_nginx "$source" "$tree" --error-log-path=stderr --with-debug --with-threads \
        --with-http_ssl_module --with-http_v2_module "${@:2}" --add-module="$ROOT/ngx_webtorch"
    make -s -j "$JOBS" -C "$tree" -f objs/Makefile binary
    say "nginx $(nginx_version "$source") with WebTorch inside: $tree/objs/nginx"
}

# Warnings are errors, see mkdocs.yml; mkdocs's successors are announced in any case.
build_site() {
    prepare_tools
    NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet
    say 'built build/site/index.html'
}

main() {
    local command=${1:-prepare}

    [[ $ROOT != *[[:space:]]* ]] \
        || die "$ROOT has a space in its path, which nginx's build cannot handle."

    case $command in
        prepare)
            prepare
            say 'ready; next: ./build.sh run'
            ;;
        run) run "${@:2}" ;;
        test) run_tests "${@:2}" ;;
        static) build_static "${@:2}" ;;
        wheel) build_wheel "${@:2}" ;;
        deb) build_deb ;;
        packages) build_packages "${@:2}" ;;
        site) build_site ;;
        lock) lock_python_packages ;;
        help | -h | --help) help ;;
        *) die "unknown command '$command'; ./build.sh help lists them." ;;
    esac
}

main "$@"
