# What a user does with the wheel, on a machine with Python and pip alone.
# shellcheck shell=sh

set -eu

now() { date +%s.%N; }
fail() {
    echo "failed: $1"
    cat out err 2>/dev/null || true
    exit 1
}

for tool in cc gcc g++ nginx make; do
    ! command -v $tool >/dev/null || fail "there is a $tool"
done
[ "$(id -u)" != 0 ] || fail 'this is root'

# shellcheck source=packaging/follow.sh
. /opt/follow.sh

instead() {
    case $1 in
        'python3 -m venv'*)
            eval "$1"
            add_packages env/bin/python
            begin=$(now)
            ;;
        'webtorch serve'*)
            # the process itself gets the signal below
            eval "exec $1 --port $PORT" >out 2>err &
            server=$!
            ;;
        *) return 1 ;;
    esac
}

ln -s /opt/dist dist
follow 'With pip' 1

tries=0
until grep -q '^  curl' out; do
    kill -0 "$server" || fail 'serve has ended'
    tries=$((tries + 1))
    [ $tries -lt 1200 ] || fail 'nothing is served'
    sleep 0.1
done
command=$(block 'With pip' 2 | sed "s/8000/$PORT/")
echo "$ $command"
status=$(eval "$command -s -o answer -w '%{http_code}'")
end=$(now)
[ "$status" = 200 ] || fail "the answer is $status"
cat answer

kill -INT "$server"
wait "$server" || fail "serve has exited with $?"
[ ! -s err ] || fail 'there are messages'

echo
webtorch nginx -V 2>&1 | head -3
echo "ok: an answer $(python3 -c "print(round($end - $begin, 1))") seconds after the wheel was there"
