# Tries the packages of dist/ on a bare Debian; build.sh sources it.
# shellcheck shell=bash

TRY_SUITE=bookworm
TRY_MIRROR=http://deb.debian.org/debian
TRY_PORT=${TRY_PORT:-8099}

# Builds the packages and tries them; as root, who makes the chroot.
build_packages() {
    build_wheel "$@"
    try_wheel
}

# A user installs the wheel, makes a project, serves it, and sends the first line
# of curl that is printed.  PyTorch is that of .venv: its download is left out.
try_wheel() {
    local chroot=$ROOT/build/packages/$TRY_SUITE

    ((EUID == 0)) || die 'packages are tried as root, who makes a chroot.'
    command -v debootstrap >/dev/null || die 'packages need debootstrap: apt-get install debootstrap'

    once "$chroot.made" "$TRY_SUITE" make_chroot "$chroot"
    rm -rf "$chroot/opt/site" "$chroot/opt/dist" "$chroot/home/someone"
    mkdir -p "$chroot/opt/dist"
    cp -al .venv/lib/python3.*/site-packages "$chroot/opt/site"
    rm -rf "$chroot"/opt/site/*webtorch* "$chroot"/opt/site/*.pth "$chroot"/opt/site/pip*
    cp dist/webtorch-*.whl "$chroot/opt/dist/"
    cp packaging/try_wheel.sh "$chroot/opt/"

    say "trying $(echo dist/webtorch-*.whl) on a bare $TRY_SUITE"
    unshare --mount --pid --fork --kill-child chroot "$chroot" sh -c "
        mount -t proc proc /proc
        useradd --create-home --shell /bin/bash someone
        chmod -R a+rX /opt
        su - someone -c 'PORT=$TRY_PORT sh /opt/try_wheel.sh'
        userdel someone" | tee build/packages/wheel.txt
    grep -q '^ok' build/packages/wheel.txt || die 'the wheel does not work, see above.'
}

make_chroot() {
    say "making a chroot of $TRY_SUITE with Python and pip alone"
    rm -rf "$1"
    mkdir -p "$(dirname "$1")"
    debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,curl \
        "$TRY_SUITE" "$1" "$TRY_MIRROR" >"$1.log"
}
