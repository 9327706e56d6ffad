# The package for Debian's nginx; build.sh sources it.
# shellcheck shell=bash

DEB_TOOLS=(debhelper dpkg-dev fakeroot)

# Builds dist/libnginx-mod-http-webtorch_*.deb.
build_deb() {
    local version tree

    prepare_tools "${DEB_TOOLS[@]}"
    version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' python/webtorch/__init__.py)
    tree=build/deb/webtorch-$version

    say "building the package of nginx $(nginx_version "$NGINX_DEV") in $tree"
    rm -rf build/deb
    mkdir -p "$tree/dist" dist
    cp -r ngx_webtorch python examples LICENSE README.md pyproject.toml "$tree/"
    cp -r packaging/debian "$tree/debian"
    rm -rf "$tree/python/webtorch/_nginx"
    find "$tree/examples" "$tree/python" \( -name __pycache__ -o -name '*.egg-info' \) -prune -exec rm -r {} +
    changelog "$version" >"$tree/debian/changelog"

    .venv/bin/python -m pip --disable-pip-version-check --quiet wheel --no-deps \
        --no-build-isolation --wheel-dir "$tree/dist" "./$tree"
    rm -rf "$tree/build" "$tree"/python/*.egg-info

    (
        cd "$tree" || exit
        DEB_BUILD_OPTIONS="parallel=$JOBS" dpkg-buildpackage -b -us -uc
    ) >build/deb/build.log 2>&1 || die "the package cannot be built:" "$(tail -n 20 build/deb/build.log)"
    rm -f dist/libnginx-mod-http-webtorch*.deb
    cp build/deb/libnginx-mod-http-webtorch_*.deb dist/
    say "built $(echo dist/libnginx-mod-http-webtorch_*.deb)"
    if command -v lintian >/dev/null; then
        lintian --fail-on error,warning dist/libnginx-mod-http-webtorch_*.deb \
            || die 'lintian finds faults in the package, see above.'
    fi
}

# Prints the changelog, whose version becomes that of the package: VERSION
changelog() {
    cat <<END
webtorch ($1) unstable; urgency=medium

  * Release $1, see CHANGES in the sources.

 -- WebTorch maintainers <webtorch@example.org>  $(LC_ALL=C date -R -d "@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}")
END
}
