"""Signatures of custom handlers that cannot be served are refused with their lines."""

import pytest

HEAD = """
from dataclasses import dataclass
import webtorch

class Other:
    name: str

@dataclass
class Flower:
    name: str

"""
LINE = 1 + HEAD.count("\n")


def refused(server) -> str:
    return next(line for line in server.refuse().splitlines() if "[emerg]" in line)


@pytest.mark.parametrize(
    ("decorator", "signature", "message"),
    [
        ("handler", "(request, name)", 'nothing fills its parameter "name"'),
        ("handler", "(flower: Other)", "nothing can be converted to Other"),
        ("handler", "() -> Other", "it returns Other, which cannot be answered"),
        ('handler(methods=["GET"])', "(flower: Flower)", "the methods of the handler, GET, have"),
        ("handler", "(request=None)", 'the default of its parameter "request"'),
    ],
)
def test_signatures_that_cannot_be_served(reconfigured, decorator, signature, message):
    app = f"{HEAD}@webtorch.{decorator}\ndef f{signature}: return 1\n"
    server = reconfigured(r"location ~ ^/(?<id>\d+)$ { webtorch_handler app:f; }", app)
    line = refused(server)
    assert 'webtorch handler "app:f": SignatureError: ' in line and message in line
    assert f"app.py, line {LINE})" in line
    number = 1 + server.conf.read_text().split("webtorch_handler")[0].count("\n")
    assert line.endswith(f"in {server.conf}:{number}")


def test_argument_of_one_location_only(reconfigured):
    app = f"{HEAD}@webtorch.handler\ndef f(request, id): return id\n"
    locations = r"""
    location ~ ^/(?<id>\d+)$ { webtorch_handler app:f; }
    location = /f {
        webtorch_handler app:f;
    }
    """
    server = reconfigured(locations, app)
    line = refused(server)
    number = 1 + server.conf.read_text().rpartition("webtorch_handler")[0].count("\n")
    assert 'nothing fills its parameter "id"' in line
    assert line.endswith(f"in {server.conf}:{number}")


def test_more_captures_than_arguments_can_have(configured):
    # PCRE sorts them by name
    app = f"{HEAD}@webtorch.handler\ndef f(request, c9): return 1\n"
    groups = "".join(rf"(?<c{number}>\d)" for number in range(17))
    server = configured(f'location ~ "^/{groups}$" {{ webtorch_handler app:f; }}', app)
    status, output = server.check()
    assert status == 1 and 'nothing fills its parameter "c9"' in output
    assert "[warn]" in output and 'the named capture "c9" cannot be an argument' in output
