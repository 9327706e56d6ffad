# Tries the packages of dist/ on a bare Debian; build.sh sources it.
# shellcheck shell=bash

TRY_SUITE=bookworm
TRY_TAG=cp311       # of its Python
TRY_MIRROR=http://deb.debian.org/debian
TRY_PORT=${TRY_PORT:-8099}

# Builds the packages and tries them; as root, who makes the chroots.
build_packages() {
    build_wheel "$@"
    build_deb
    try_wheel
    try_deb
    try_source
}

# A user installs the wheel, makes a project, serves it, and sends a request, by the
# commands of docs/start.md.  PyTorch is that of .venv: its download is left out.
try_wheel() {
    local chroot=$ROOT/build/packages/$TRY_SUITE

    require_chroots
    once "$chroot.made" "$TRY_SUITE" make_chroot "$chroot" python3,python3-venv,python3-pip,curl
    rm -rf "$chroot/home/someone"
    add_site "$chroot"
    cp dist/webtorch-*-"$TRY_TAG"-*.whl "$chroot/opt/dist/"
    cp packaging/try_wheel.sh packaging/follow.sh docs/start.md "$chroot/opt/"

    say "trying $(echo dist/webtorch-*-"$TRY_TAG"-*.whl) on a bare $TRY_SUITE"
    in_chroot "$chroot" "
        useradd --create-home --shell /bin/bash someone
        su - someone -c 'PORT=$TRY_PORT sh /opt/try_wheel.sh'
        userdel someone" | tee build/packages/wheel.txt
    grep -q '^ok' build/packages/wheel.txt || die 'the wheel does not work, see above.'
}

# An administrator installs the package and Debian's nginx by the commands of
# docs/start.md, upgrades it under load, removes and purges it.
try_deb() {
    local chroot=$ROOT/build/packages/$TRY_SUITE-nginx package

    require_chroots
    make_chroot "$chroot" curl,ca-certificates,logrotate
    add_site "$chroot"
    package=$(echo dist/libnginx-mod-http-webtorch_*.deb)
    cp "$package" "$chroot/opt/dist/libnginx-mod-http-webtorch_tried.deb"
    repack "$package" "$chroot/opt/dist/newer.deb"
    cp packaging/try_deb.sh packaging/follow.sh docs/start.md "$chroot/opt/"

    say "trying $package on a bare $TRY_SUITE"
    in_chroot "$chroot" "PORT=$TRY_PORT sh /opt/try_deb.sh" | tee build/packages/deb.txt
    grep -q '^ok' build/packages/deb.txt || die 'the package does not work, see above.'
}

# Somebody builds and runs a clone of the last commit by the commands of
# docs/start.md, where the workers of root's nginx can read it: not below /root.
# PyTorch is downloaded before that.
try_source() {
    local chroot=$ROOT/build/packages/$TRY_SUITE-source torch=build/packages/torch

    require_chroots
    once "$torch.made" "$(pin torch)" download_torch "$torch"
    make_chroot "$chroot"
    git clone --quiet --depth 1 "file://$ROOT" "$chroot/opt/webtorch"
    cp -r "$torch" "$chroot/opt/torch"
    cp packaging/try_source.sh packaging/follow.sh docs/start.md "$chroot/opt/"
    # those of this machine, which may be behind a proxy, and not where Debian puts its own
    [[ ! ${PIP_CERT:-} ]] || cp "$PIP_CERT" "$chroot/opt/certificates.pem"

    say "trying the sources on a bare $TRY_SUITE"
    in_chroot "$chroot" "unset REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
        ${PIP_CERT:+export PIP_CERT=/opt/certificates.pem}
        PIP_FIND_LINKS=/opt/torch PORT=$TRY_PORT sh /opt/try_source.sh" | tee build/packages/source.txt
    grep -q '^ok' build/packages/source.txt || die 'the sources do not work, see above.'
}

download_torch() {
    rm -rf "$1"
    .venv/bin/python -m pip --disable-pip-version-check --quiet download --dest "$1" "$(pin torch)"
}

# Runs commands as root of a chroot; what they leave is killed: CHROOT COMMANDS
in_chroot() {
    unshare --mount --pid --fork --kill-child chroot "$1" sh -c "
        mount -t proc proc /proc
        $2"
}

# Packs a package again as the next version: PACKAGE FILE
repack() {
    local tree=build/packages/newer

    rm -rf "$tree"
    dpkg-deb -R "$1" "$tree"
    sed -i 's/^Version: .*/&+1/' "$tree/DEBIAN/control"
    dpkg-deb --root-owner-group -b "$tree" "$2" >/dev/null
}

require_chroots() {
    ((EUID == 0)) || die 'packages are tried as root, who makes a chroot.'
    command -v debootstrap >/dev/null || die 'packages need debootstrap: apt-get install debootstrap'
}

# The Python packages of .venv, in place of downloads: CHROOT
add_site() {
    rm -rf "$1/opt/site" "$1/opt/dist"
    mkdir -p "$1/opt/dist"
    cp -al .venv/lib/python3.*/site-packages "$1/opt/site"
    rm -rf "$1"/opt/site/*webtorch* "$1"/opt/site/*.pth "$1"/opt/site/pip*
    chmod -R a+rX "$1/opt"
}

# A bare Debian, with some more packages: CHROOT [PACKAGES]
make_chroot() {
    say "making a chroot of $TRY_SUITE ${2:+with }${2:-alone}"
    rm -rf "$1"
    mkdir -p "$(dirname "$1")"
    debootstrap --variant=minbase ${2:+--include="$2"} \
        "$TRY_SUITE" "$1" "$TRY_MIRROR" >"$1.log"
}
