"""Measures models in the phases of a request against the same location without one.

Usage: .venv/bin/python bench/phases.py [--only NAME] [--repeat 3] [--seconds 5] [--json PATH]
"""

from server import Backend, Server
from table import Measure, Row, Settings, at_least, compare, main

LOCATIONS = """
location = /probe { webtorch_handler xor_app:output; }
location = /set {
    webtorch_set $score phases_app:request;
    add_header X-Score $score;
    return 200 "ok";
}
location = /set_lazy {
    webtorch_set $score phases_app:request mode=inline lazy;
    return 200 "$score";
}
location = /log { webtorch_log phases_app:outcome; return 200 "ok"; }
location = /bare { proxy_pass http://backend/ok; }
location = /access { webtorch_access phases_app:request; proxy_pass http://backend/ok; }
location = /access_client { webtorch_access phases_app:client; proxy_pass http://backend/ok; }
location = /access_ngrams { webtorch_access phases_app:ngrams; proxy_pass http://backend/ok; }
proxy_http_version 1.1;
proxy_set_header Connection "";
"""

# a text of about 200 bytes
QUERY = "?id=17&name=some%20text+here&q=select+%2A+from+users&lang=en-us&page=3" * 3

BACKEND = 3904
HTTP = f"upstream backend {{ server 127.0.0.1:{BACKEND}; keepalive 128; }}"


def ratio_row(name: str, path: str, target: float, reference: str = "/ok") -> Measure:
    """Make the measurement of a ratio to the location without a model."""

    def measure(settings: Settings) -> Row:
        with Backend(BACKEND), Server(LOCATIONS, "/probe", http=HTTP) as server:
            return at_least(name, target, compare(server, path, settings, reference))

    return measure


ROWS: dict[str, Measure] = {
    "set": ratio_row("webtorch_set, add_header, return 200", "/set", 0.75),
    "set-lazy": ratio_row("webtorch_set lazy, return 200", "/set_lazy", 0.10),
    "log": ratio_row("webtorch_log, return 200", "/log", 0.95),
    "access": ratio_row("webtorch_access, proxied", "/access", 0.80, "/bare"),
    "access-client": ratio_row("webtorch_access, client, proxied", "/access_client", 0.80, "/bare"),
    "access-ngrams": ratio_row(
        "webtorch_access, 1024 n-grams, proxied", f"/access_ngrams{QUERY}", 0.80, f"/bare{QUERY}"
    ),
}


if __name__ == "__main__":
    main(__doc__, "phases", ROWS)
