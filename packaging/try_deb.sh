# What an administrator does with the Debian package, on a machine with Debian alone; as root.
# shellcheck shell=sh

set -eu

NEWER=/opt/dist/newer.deb
export DEBIAN_FRONTEND=noninteractive

fail() {
    echo "failed: $1"
    tail -n 20 /var/log/nginx/error.log /var/log/webtorch/error.log 2>/dev/null || true
    exit 1
}

answers() {
    tries=0
    until [ "$(curl -s -o /dev/null -w '%{http_code}' --json '[[1, 2, 3, 4]]' \
            "http://127.0.0.1:$PORT/classify")" = 200 ]; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || fail "$1"
        sleep 0.1
    done
}

# nginx is started below, not by apt-get
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d

! command -v cc >/dev/null || fail 'there is a compiler'

# shellcheck source=packaging/follow.sh
. /opt/follow.sh

instead() {
    case $1 in
        'python3 -m venv'*)
            eval "$1"
            add_packages /opt/webtorch/bin/python
            ;;
        'service nginx restart')
            # ports that other servers of this machine may have
            rm -f /etc/nginx/sites-enabled/default
            sed -i "s/8000/$PORT/" /etc/nginx/conf.d/webtorch.conf
            nginx -t -q || fail 'the configuration is refused'
            eval "$1" >/dev/null
            ;;
        'curl '*) ;;    # below, when the first worker serves
        *) return 1 ;;
    esac
}

echo 'APT::Get::Assume-Yes "true";' >/etc/apt/apt.conf.d/yes
cd /opt
follow "With Debian's nginx" 1
answers 'there is no answer after the installation'
curl -s "http://127.0.0.1:$PORT/openapi.json" | grep -q /classify || fail 'there is no document'
(cd /srv/app && /opt/webtorch/bin/python -c '
import app
from webtorch.testing import Client
assert Client(app).post("/classify", json=[[1, 2, 3, 4]]).status_code == 200
') || fail 'webtorch.testing does not work'

# upgrade under load: each request on a new connection
(
    while [ ! -e /tmp/stop ]; do
        curl -s -o /dev/null -w '%{http_code}\n' --json '[[1, 2, 3, 4]]' \
            "http://127.0.0.1:$PORT/classify"
    done >/tmp/statuses
) &
load=$!
before=$(cat /run/nginx.pid)
dpkg -i "$NEWER" >/dev/null
service nginx upgrade >/dev/null || true
tries=0
until [ -s /run/nginx.pid ] && [ "$(cat /run/nginx.pid)" != "$before" ] \
    && ! kill -0 "$before" 2>/dev/null; do
    # Debian's script gives up after ten seconds, see README.Debian
    if [ -s /run/nginx.pid ] && [ -s /run/nginx.pid.oldbin ]; then
        answers 'the new nginx does not answer'
        # it may just have ended
        kill -QUIT "$(cat /run/nginx.pid.oldbin)" 2>/dev/null || true
    fi
    tries=$((tries + 1))
    [ $tries -lt 900 ] || fail 'the new nginx has not taken over'
    sleep 0.1
done
answers 'there is no answer after the upgrade'
touch /tmp/stop
wait $load
requests=$(wc -l </tmp/statuses)
[ "$(grep -c '^200$' /tmp/statuses)" = "$requests" ] \
    || fail "an upgrade lost requests: $(sort /tmp/statuses | uniq -c | tr '\n' ' ')"

# logs
logrotate --force /etc/logrotate.d/libnginx-mod-http-webtorch || fail 'logs are not rotated'
[ "$(stat -c %U:%a /var/log/webtorch)" = root:755 ] || fail 'workers can put links to /var/log/webtorch'
[ -e /var/log/webtorch/access.log.1 ] || fail 'there is no rotated log'
answers 'there is no answer after the rotation'
tries=0
until [ -s /var/log/webtorch/access.log ]; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || fail 'the new log is not written to'
    curl -s -o /dev/null "http://127.0.0.1:$PORT/openapi.json"
    sleep 0.1
done

# removal
rm /etc/nginx/conf.d/webtorch.conf
apt-get remove -qq -y libnginx-mod-http-webtorch >/dev/null
nginx -t -q || fail 'nginx does not work without the package'
[ ! -e /etc/nginx/modules-enabled/50-mod-http-webtorch.conf ] || fail 'the module is still enabled'
apt-get purge -qq -y libnginx-mod-http-webtorch >/dev/null
for path in /var/log/webtorch /etc/logrotate.d/libnginx-mod-http-webtorch \
    /usr/lib/nginx/modules/ngx_http_webtorch_module.so /etc/nginx/modules-enabled/*webtorch*; do
    [ ! -e "$path" ] || fail "$path is left"
done
service nginx stop >/dev/null

echo "ok: the commands of docs/start.md, an upgrade under $requests requests, none of them lost, removal and purge"
