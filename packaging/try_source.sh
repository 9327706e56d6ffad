# What somebody does with a clone of the repository, on a machine with Debian alone; as root.
# shellcheck shell=sh

set -eu

export DEBIAN_FRONTEND=noninteractive

fail() {
    echo "failed: $1"
    cat /tmp/out 2>/dev/null || true
    exit 1
}

! command -v cc >/dev/null || fail 'there is a compiler'

# shellcheck source=packaging/follow.sh
. /opt/follow.sh

instead() {
    case $1 in
        './build.sh run')
            # a port that no other server of this machine has
            sed -i "s/3000/$PORT/" nginx-conf/xor.conf
            eval "exec $1" >/tmp/out 2>&1 &
            server=$!
            tries=0
            until curl -s -o /dev/null "http://127.0.0.1:$PORT/"; do
                kill -0 "$server" || fail 'nginx has ended'
                tries=$((tries + 1))
                [ $tries -lt 600 ] || fail 'nginx does not listen'
                sleep 0.1
            done
            ;;
        'curl '*)
            answer=$(eval "$(echo "$1" | sed "s/3000/$PORT/") -s --fail-with-body") || fail "$1: $answer"
            echo "$answer"
            answers="${answers:-}$answer "
            ;;
        *) return 1 ;;
    esac
}

# nginx is not started by apt-get, as other servers of this machine may have port 80
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d

cd /opt/webtorch
begin=$(date +%s)
follow 'From the sources' 1
follow 'From the sources' 2
end=$(date +%s)

# a label, and what the network says
case $answers in
    '[[1]] [['*']] ') ;;
    *) fail "the answers are $answers" ;;
esac

kill -INT "$server"
wait "$server" || fail "nginx has exited with $?"

times
echo "ok: two answers $((end - begin)) seconds after the clone, PyTorch had been downloaded"
