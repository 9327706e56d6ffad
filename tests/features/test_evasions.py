"""Requests that parsers read differently: what any of them takes from one is in its fields.

The parsers are those of Starlette and so of FastAPI, of Python's libraries, and short ones that
read parameters as PHP and Express do.
"""

import asyncio
import importlib.util
import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from email import message_from_bytes
from email.policy import HTTP
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, unquote_to_bytes
from xml.etree import ElementTree

import pytest
from starlette.datastructures import Headers, QueryParams
from starlette.requests import cookie_parser

from fields import read

ATTACK = b"' or 1=1 -- <script>alert(1)</script>"
TEXT = ATTACK.decode()
SENT = b"%27+or+1%3D1+--+%3Cscript%3Ealert%281%29%3C%2Fscript%3E"
FORM = b"application/x-www-form-urlencoded"
MULTIPART = b"multipart/form-data; boundary=x1"


def missing(request, taken: list[str]) -> list[str]:
    """Return what parsers have taken that no field has.

    Case, blanks and the letters that stand for them do not matter. Long values are read in pieces,
    and JSON in a value as JSON.
    """
    plain = [plainly(value.decode("latin-1")) for value in request.values()]
    wanted = [plainly(each)[-60:].strip('{}"') for each in taken if "script" in each.lower()]
    return [
        each for each in wanted if not any(each.rpartition('":"')[2] in value for value in plain)
    ]


def plainly(text: str) -> str:
    return re.sub(r"[\s_]", "", text).lower()


# --- parameters ---


def as_starlette(query: bytes) -> Iterator[str]:
    for pair in QueryParams(query).multi_items():
        yield from pair


def as_python(query: bytes) -> Iterator[str]:
    for pair in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        yield from pair


def as_php(query: bytes) -> Iterator[str]:
    """The last one of a name counts; names have "_" for dots and blanks, and may be arrays."""
    found = {}
    for pair in query.split(b"&"):
        name, _, value = (
            unquote_to_bytes(each.replace(b"+", b" ")) for each in pair.partition(b"=")
        )
        name = re.sub(rb"[. ]", b"_", name.lstrip(b" ").split(b"\0")[0])
        found[name] = value
    for name, value in found.items():
        yield name.decode("latin-1")
        yield value.decode("latin-1")


def as_express(query: bytes) -> Iterator[str]:
    """Values of one name are an array, and are joined where a text is expected."""
    found: dict[str, list[str]] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        found.setdefault(name.removesuffix("[]"), []).append(value)
    for name, values in found.items():
        yield name
        yield from values


PARAMETER_PARSERS = (as_starlette, as_python, as_php, as_express)


@pytest.mark.parametrize(
    "query",
    [
        b"id=" + SENT,
        b"id=1&id=" + SENT,
        b"id=" + SENT + b"&id=1",
        b"id[]=1&id[]=" + SENT,
        b"id[a][b]=" + SENT,
        SENT + b"=1",
        b"a[" + SENT + b"]=1",
        b"id=1&&&=" + SENT,
        b"=" + SENT,
        SENT,
        b"id%00=1&id=" + SENT,
        b"id=%00" + SENT,
        b"id=%zz" + SENT,
        b"id=%" + SENT,
        b"id=1;x=" + SENT,
        b"?id=" + SENT,
        b"id==" + SENT,
        b"%69%64=" + SENT,
        b"&" * 500 + b"id=" + SENT,
        b"id=" + ATTACK.replace(b" ", b"%20").replace(b"=", b"%3d"),
        b"id=" + ATTACK.replace(b" ", b"+"),
        b"id=" + b"".join(b"%%%02x" % byte for byte in ATTACK),
        b"a=1#&id=" + SENT,
    ],
    ids=range(23),
)
def test_parameters(library, query):
    for request in (
        read(library, query=query),
        read(library, body=query, type=FORM),
        read(library, body=query, type=b"Application/X-WWW-Form-URLencoded ; charset=UTF-8"),
    ):
        taken = [each for parser in PARAMETER_PARSERS for each in parser(query)]
        assert any("script" in each for each in taken)
        assert not missing(request, taken)
        assert not request.unread


# --- cookies ---


def as_simple_cookie(text: str) -> Iterator[str]:
    try:
        for name, morsel in SimpleCookie(text).items():
            yield name
            yield morsel.value
    except CookieError:
        return


@pytest.mark.parametrize(
    "cookie",
    [
        "a=1; b=" + TEXT,
        "a=1;b=" + TEXT,
        'b="' + TEXT + '"',
        r'b="\047 or 1=1 -- <script>"',
        "b=1; b=" + TEXT,
        TEXT,
        "=" + TEXT,
        "$Version=1; b=" + TEXT + '; $Path="/"',
        ";;; b = " + TEXT,
        TEXT + "=1",
        "a=1, b=" + TEXT,
    ],
    ids=range(11),
)
def test_cookies(library, cookie):
    request = read(library, headers=((b"Cookie", cookie.encode()),))
    taken = [*as_simple_cookie(cookie), *cookie_parser(cookie), *cookie_parser(cookie).values()]
    assert any("script" in each for each in taken)
    assert not missing(request, taken)


# --- JSON and XML ---


def texts(value: object) -> Iterator[str]:
    """Return strings and names of a value of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)
    elif isinstance(value, dict):
        for name, each in value.items():
            yield name
            yield from texts(each)


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(each):04X}" for each in text)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"a": "b", "c": TEXT}),
        f'{{"a": "{TEXT}", "a": "b"}}',
        f'{{"a": "b", "a": "{TEXT}"}}',
        f'{{"{TEXT}": 1}}',
        f'{{"a": "{escaped(TEXT)}"}}',
        f'{{"\\u0061": "{TEXT}", "a": 1}}',
        f'"{TEXT}"',
        f'  \t\r\n[[["{TEXT}"]]]  ',
        "[" * 60 + f'"{TEXT}"' + "]" * 60,
        f'{{"a": NaN, "b": "{TEXT}"}}',
        f'{{"a": 1e999, "b": "{TEXT}"}}',
        json.dumps({"a": json.dumps({"b": TEXT})}),
        json.dumps({"a": b64encode(ATTACK).decode()}),
        json.dumps({"": TEXT}),
        json.dumps({"a": "x" * 20000 + TEXT}),
        json.dumps({"a\0b": "\0" + TEXT}),
        json.dumps([0.5] * 5000 + [TEXT]),
    ],
    ids=range(17),
)
@pytest.mark.parametrize(
    "kind",
    [b"application/json", b"Application/JSON;charset=utf-8", b"text/plain", b"", FORM],
    ids=["json", "case", "text", "none", "form"],
)
def test_evasions_in_json(library, body, kind):
    request = read(library, body=body.encode(), type=kind)
    taken = [*texts(json.loads(body))]
    if "script" not in "".join(taken):  # base64
        taken = [TEXT]
    assert not missing(request, taken)
    assert not request.unread


@pytest.mark.parametrize(
    "body",
    [
        f"{{'a': '{TEXT.replace(chr(39), '')}'}}",
        f'{{/* "a": 1 */ "b": "{TEXT}"}}',
        f'{{// x\n"b": "{TEXT}"}}',
        f'{{"a": 1, "b": "{TEXT}",}}',
        f'{{b: "{TEXT}"}}',
        f'{{"b": "{TEXT}"',
        f'{{"a": 1}} trailing "{TEXT}"',
        f'\ufeff{{"a": "{TEXT}"}}',
        f')]}}\',\n{{"a": "{TEXT}"}}',
        f'{{"a": 1}}\n{{"b": "{TEXT}"}}\n',
        f'{{"a": "x\ny{TEXT}"}}',
        f'{{"a": "\\x{TEXT}"}}',
    ],
    ids=range(12),
)
def test_json_that_only_lenient_parsers_read(library, body):
    request = read(library, body=body.encode(), type=b"application/json")
    assert not missing(request, ["<script>alert(1)</script>"])
    assert not request.unread


@pytest.mark.parametrize(
    "inner",
    [
        "<a>{}</a>",
        '<a b="{}"/>',
        "<a b='{}'/>",
        "<a>x<b/>{}</a>",
        "<x:a xmlns:x='u'>{}</x:a>",
        "<a><!-- x -->{}</a>",
        "<a\n>{}</a\n>",
    ],
    ids=range(7),
)
@pytest.mark.parametrize("kind", [b"text/xml", b"application/soap+xml", b"", b"text/plain"])
def test_xml(library, inner, kind):
    as_entities = TEXT.replace("&", "&amp;").replace("<", "&lt;").replace("'", "&#39;")
    numbers = "".join(f"&#x{ord(each):x};" for each in TEXT)
    values = [as_entities, numbers]
    if "=" not in inner.replace("xmlns:x=", ""):
        values.append(f"<![CDATA[{TEXT}]]>")
    for value in values:
        body = "<?xml version='1.0'?>\n<r>" + inner.format(value) + "</r>"
        taken = []
        for element in ElementTree.fromstring(body).iter():
            taken += [element.text or "", element.tail or "", *element.attrib.values()]
        assert any("script" in each for each in taken)
        assert not missing(read(library, body=body.encode(), type=kind), taken)


# --- multipart ---


def as_email(kind: bytes, body: bytes) -> list[str]:
    message = message_from_bytes(b"Content-Type: " + kind + b"\r\n\r\n" + body, policy=HTTP)
    taken = []
    for part in message.walk():
        if not part.is_multipart():
            taken.append((part.get_payload(decode=True) or b"").decode("latin-1"))
            taken.append(part.get_filename() or "")
    return taken


def as_starlette_form(kind: bytes, body: bytes) -> list[str]:
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def stream() -> AsyncIterator[bytes]:
        yield body

    async def parse() -> list[str]:
        parser = MultiPartParser(Headers({"content-type": kind.decode()}), stream())
        taken = []
        for name, value in (await parser.parse()).multi_items():
            taken.append(name)
            if isinstance(value, str):
                taken.append(value)
            else:
                taken += [value.filename or "", (await value.read()).decode("latin-1")]
        return taken

    try:
        return asyncio.run(parse())
    except (MultiPartException, KeyError):
        return []


FORM_PARSERS: list[Callable[[bytes, bytes], list[str]]] = [as_email]
if importlib.util.find_spec("python_multipart"):
    FORM_PARSERS.append(as_starlette_form)


DISPOSITION = b'Content-Disposition: form-data; name="a"'


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        (MULTIPART, DISPOSITION),
        (MULTIPART, DISPOSITION.lower()),
        (MULTIPART, DISPOSITION + b'; filename="x.txt"'),
        (MULTIPART, DISPOSITION + b'; filename="x.txt"; filename="y.png"'),
        (MULTIPART, DISPOSITION + b"; filename*=utf-8''x.png"),
        (MULTIPART, DISPOSITION + b'; filename="x.png"\r\nContent-Type: image/png'),
        (MULTIPART, DISPOSITION + b"\r\n" + DISPOSITION.replace(b'"a"', b'"b"')),
        (MULTIPART, b"Content-Type: application/json\r\n" + DISPOSITION),
        (MULTIPART, b"X-Long: " + b"y" * 3000 + b"\r\n" + DISPOSITION),
        (b'multipart/form-data; boundary="x1"', DISPOSITION),
        (b"multipart/form-data; charset=utf-8; boundary=x1", DISPOSITION),
        (b"Multipart/Form-Data; Boundary=x1", DISPOSITION),
        (b"multipart/mixed; boundary=x1", DISPOSITION),
        (b"multipart/related; boundary=x1", b"Content-ID: <a>"),
        (MULTIPART, DISPOSITION.replace(b'"a"', b"a")),
        (MULTIPART, b"Content-Disposition: form-data"),
    ],
    ids=range(16),
)
def test_multipart(library, kind, head):
    for body in (
        b"--x1\r\n" + head + b"\r\n\r\n" + ATTACK + b"\r\n--x1--\r\n",
        b"--x1\r\n" + head + b"\r\n\r\n" + ATTACK + b"\r\n",
        b"preamble\r\n--x1\r\n" + head + b"\r\n\r\n" + ATTACK + b"\r\n--x1--\r\nepilogue",
        b"--x1  \r\n" + head + b"\r\n\r\n" + ATTACK + b"\r\n--x1--",
    ):
        request = read(library, body=body, type=kind)
        taken = [each for parser in FORM_PARSERS for each in parser(kind, body)]
        assert any("script" in each for each in taken)
        assert not missing(request, taken)
        assert not request.unread


LOOSE = [
    b"x\r\n--x1' or 1=1 -- <script>\r\n--x1--\r\n",
    b"x\n--x1' or 1=1 -- <script>\r\n--x1--\r\n",
    b"x\r--x1 ' or 1=1 -- <script>\r\n--x1--\r\n",
    b"x\n--x1\n' or 1=1 -- <script>: y\r\n--x1--\r\n",
    b"x\n--x1\n' or 1=1 -- <script>\r\n--x1--\r\n",
    b"x\n--x1\nX: y\n\n' or 1=1 -- <script>\r\n--x1--\r\n",
    b"x\n--x1\nContent-Disposition: ' or 1=1 -- <script>;name=q\r\n--x1--\r\n",
    b"x\n--x1\nContent-Disposition: form-data; ' or 1=1 -- <script>=q\r\n--x1--\r\n",
    b'x\n--x1\nContent-Disposition: form-data; name="q"\' or 1=1 -- <script>\r\n--x1--\r\n',
    b"x\n--x1\nContent-Disposition: form-data; name=q; filename=a\n\n\x89PNG\r\n' or 1=1 -- "
    b"<script>" + bytes(range(128, 256)) + b"\r\n--x1--\r\n",
]


@pytest.mark.parametrize("content", LOOSE, ids=range(len(LOOSE)))
def test_multipart_boundary_that_is_content(library, content):
    """It ends with a line feed alone, or its line goes on: strict parsers take it as text."""
    body = b"--x1\r\n" + DISPOSITION + b"\r\n\r\n" + content
    assert not missing(read(library, body=body, type=MULTIPART), ["' or 1=1 -- <script>"])


@pytest.mark.parametrize(
    "head",
    [
        b"X' or 1=1 -- <script>: y",
        b"Content-Disposition: ' or 1=1 -- <script>; name=a",
        b"Content-Disposition: form-data; name=a; ' or 1=1 -- <script>",
        b"Content-Disposition: form-data; name=a; ' or 1=1 -- <script>=b",
        b'Content-Disposition: form-data; name="a" \' or 1=1 -- <script>; x=y',
        b"Content-Disposition: form-data; name=a; filename' or 1=1 -- <script>=b",
    ],
    ids=range(6),
)
def test_multipart_text_without_a_place_in_a_header(library, head):
    body = b"--x1\r\n" + head + b"\r\n\r\nb\r\n--x1--\r\n"
    request = read(library, body=body, type=MULTIPART)
    assert "part" in request.flaws
    # an equals sign is the end of a name
    assert any(b"' or 1" in value for value in request.values())


def test_multipart_names_and_files(library):
    head = f'Content-Disposition: form-data; name="{TEXT}"; filename="../{TEXT}.php"'.encode()
    body = b"--x1\r\n" + head + b"\r\n\r\nx\r\n--x1--\r\n"
    taken = [each for parser in FORM_PARSERS for each in parser(MULTIPART, body)]
    assert any("script" in each for each in taken)
    assert not missing(read(library, body=body, type=MULTIPART), taken)
