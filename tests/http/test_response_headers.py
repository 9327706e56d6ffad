"""Headers of a handler's answer: what is checked, merged, refused, and left to nginx."""

import pytest

import webtorch
from answers import check_error
from nginx import wait_for

APP = r"""
import torch, webtorch

def answer(body, *headers, **options):
    response = webtorch.Response(body, headers=[], **options)
    response.headers.extend(headers)
    return response

@webtorch.handler
def add(request):
    '''Answer with the header that the arguments have.'''
    query = request.query()
    name, value = query["n"], query["v"]
    return answer("x", ("X-Before", "1"), (name, value))

@webtorch.handler
def twice(request):
    '''Answer with a header of this name in two lines.'''
    return webtorch.Response("x", headers=[(request.args, "a"), (request.args.lower(), "b")])

@webtorch.handler
def number(request): return answer("x", ("X-Count", 3))

@webtorch.handler
def png(request): return webtorch.Response(b"\x89PNG", headers=[("content-type", "image/png")])

@webtorch.handler
def torch7(request): return answer(torch.tensor([1, 2]), ("Content-Type", "text/plain"))

@webtorch.handler
def two_types(request):
    return webtorch.Response("x", headers=[("Content-Type", "a/b")], content_type="c/d")
"""
NAMES = ("add", "twice", "number", "png", "torch7", "two_types")
SERVER = "".join(f"location = /{name} {{ webtorch_handler app:{name}; }}\n" for name in NAMES)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/add?n=X-One&v=a%0d%0aSet-Cookie:%20evil=1", "the header X-One has control characters"),
        ("/add?n=X-One&v=a%0aSet-Cookie:%20evil=1", "the header X-One has control characters"),
        ("/add?n=X-One&v=a%00b", "the header X-One has control characters"),
        ("/add?n=X:%201%0d%0aSet-Cookie&v=evil=1", "is not a name of a header"),
        ("/add?n=&v=a", "'' is not a name of a header"),
        ("/add?n=Content-Type&v=a%0d%0aSet-Cookie:b", "the header Content-Type has control char"),
        ("/add?n=Content-Length&v=100", "the header Content-Length is written by nginx"),
        ("/add?n=transfer-Encoding&v=chunked", "the header transfer-Encoding is written by nginx"),
        ("/add?n=Connection&v=upgrade", "the header Connection is written by nginx"),
        ("/add?n=Upgrade&v=h2c", "the header Upgrade is written by nginx"),
        ("/twice?Location", "the header location is sent twice"),
        ("/twice?ETag", "the header etag is sent twice"),
        ("/twice?Content-Type", "the header content-type is sent twice"),
        ("/number", "the value of the header X-Count is of type int"),
        ("/two_types", "the header Content-Type is sent twice"),
    ],
)
def test_refused_header(server, path, text):
    def is_logged() -> bool:
        # one failure of a kind is logged in a second
        answer = server.get(path)
        check_error(answer, 500, "handler_failed")
        assert not {"Set-Cookie", "X-Before"} & set(answer.headers)
        return text in server.log()

    wait_for(is_logged, text)


def test_added_header(server):
    answer = server.get("/add?n=X-One&v=gr%C3%BC%C3%9Fe")
    assert answer.headers["X-Before"] == "1"
    assert answer.headers["X-One"].encode("latin-1").decode() == "grüße"


@pytest.mark.parametrize("name", ["Cache-Control", "Vary", "Set-Cookie", "Link", "X-One"])
def test_header_in_two_lines(server, name):
    assert server.get(f"/twice?{name}").headers[name] == "a, b"


@pytest.mark.parametrize(("path", "type_"), [("/png", "image/png"), ("/torch7", "text/plain")])
def test_content_type_among_headers(server, path, type_):
    # several lines of one name would be joined
    assert server.get(path).headers["Content-Type"] == type_


def test_headers_refused_early():
    with pytest.raises(ValueError, match="sent twice"):
        webtorch.Response("", headers=[("ETag", '"a"'), ("ETag", '"b"')])
