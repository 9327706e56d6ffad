"""Measures proxying through webtorch_balancer against nginx's least_conn; see bench/README.md.

Usage: .venv/bin/python bench/proxy.py [--only NAME] [--repeat 3] [--seconds 5] [--json PATH]
"""

from server import Backend, Server
from table import Measure, Row, Settings, at_least, compare, main

PORTS = tuple(range(3911, 3919))
ANSWER = "x" * 1024

SERVERS = " ".join(f"server 127.0.0.1:{port};" for port in PORTS)
HTTP = f"""
upstream least_conn {{ zone least_conn 512k; least_conn; {SERVERS} keepalive 128; }}
upstream balancer {{ zone balancer 512k; webtorch_balancer; {SERVERS} keepalive 128; }}
upstream keys {{ zone keys 512k; webtorch_balancer key=$arg_k; {SERVERS} keepalive 128; }}
"""
LOCATIONS = """
location = /probe { webtorch_handler xor_app:output; }
location = /least_conn { proxy_pass http://least_conn/; }
location = /balancer { proxy_pass http://balancer/; }
location = /keys { proxy_pass http://keys/; }
proxy_http_version 1.1;
proxy_set_header Connection "";
"""
GET = 'wrk.method = "GET"\n'


def row(name: str, path: str, target: float) -> Measure:
    """Make the measurement of a balancer to least_conn, with eight servers."""

    def measure(settings: Settings) -> Row:
        with Backend(*PORTS, body=ANSWER), Server(LOCATIONS, "/probe", http=HTTP) as server:
            ratios = compare(server, path, settings, "/least_conn", script=GET)
            return at_least(name, target, ratios)

    return measure


ROWS: dict[str, Measure] = {
    "balancer": row("webtorch_balancer, answers of 1 KB", "/balancer", 0.95),
    "keys": row("with a key", "/keys?k=1", 0.90),
}


if __name__ == "__main__":
    main(__doc__, "proxy", ROWS)
