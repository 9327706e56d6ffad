"""Requests as fields: each value with its place, name and decodings, as applications read it."""

import gzip
import json
import random
import struct
import zlib
from base64 import b64encode
from urllib.parse import quote_plus

import pytest

from fields import read

ATTACK = b"' or 1=1 -- <script>alert(1)</script>"
FORM = b"application/x-www-form-urlencoded"


def multipart(*parts: bytes, boundary: bytes = b"x1", end: bytes = b"--x1--\r\n") -> bytes:
    return b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + end


def part(disposition: bytes, content: bytes, *headers: bytes) -> bytes:
    lines = [b"Content-Disposition: form-data; " + disposition, *headers, b"", content]
    return b"\r\n".join(lines)


def test_fields_of_target(library):
    request = read(library, path=b"/shop/a%20b/item", query=b"id=1&q=red+shoes&x=%3Cb%3E&flag")
    assert [(each.place, each.name, each.value) for each in request.fields] == [
        ("path", "path", b"/shop/a b/item"),
        ("path", "path.1", b"a b"),
        ("query", "query.q", b"red shoes"),
        ("query", "query.x", b"<b>"),
        ("query", "query", b"flag"),
    ]
    assert request.numbers == 1


def test_unusual_names_are_fields(library):
    request = read(library, query=b"user[$ne]=&a'or'1=1&plain[0].x-y_z=v")
    keys = [each.value for each in request.fields if "key" in each.flags]
    assert keys == [b"user[$ne]", b"a'or'1"]


def test_headers(library):
    request = read(
        library,
        headers=(
            (b"Cookie", b'a=1; theme="dark blue"; t=%27x%27;bare'),
            (b"Authorization", b"Basic " + b64encode(b"admin:' or 1")),
            (b"Referer", b"https://example.com/a?q=one+two&r=%3Ci%3E"),
            (b"X-Forwarded-For", b"${jndi:ldap://x}"),
            (b"Content-Length", b"5"),
        ),
    )
    assert [(each.place, each.name, each.value) for each in request.fields] == [
        ("cookie", "cookie.theme", b"dark blue"),
        ("cookie", "cookie.t", b"'x'"),
        ("cookie", "cookie", b"bare"),
        ("header", "header.authorization", b"admin"),
        ("header", "header.authorization", b"' or 1"),
        ("header", "header.referer", b"https://example.com/a"),
        ("header", "header.referer.q", b"one two"),
        ("header", "header.referer.r", b"<i>"),
        ("header", "header.x-forwarded-for", b"${jndi:ldap://x}"),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"Connection", b"keep-alive, Upgrade"),
        (b"Content-Length", b"12"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Keep-Alive", b"timeout=5, max=100"),
        (b"Upgrade", b"h2c, HTTP/2.0"),
        (b"TE", b"trailers, deflate;q=0.5"),
        (b"Content-Encoding", b"gzip"),
        (b"Proxy-Connection", b"Keep-Alive"),
        (b"Sec-WebSocket-Key", b"/HhsIHNhbXBsZSBub25jZQ+="),
        (b"Date", b"Mon, 30 Nov 2026 06:52:05 GMT"),
        (b"If-Modified-Since", b"Monday, 30-Nov-26 06:52:05 GMT"),
        (b"If-Modified-Since", b"Mon Nov  3 06:52:05 2026"),
        (b"If-Modified-Since", b"Mon, 30 Nov 2026 06:52:05 +0000"),
    ],
)
def test_headers_of_the_connection(library, name, value):
    assert read(library, headers=((name, value),)).values() == []
    for attack in (b"${jndi:ldap://x/a}", b"../../etc/passwd", b"union select 1", b"' or 1=1"):
        assert read(library, headers=((name, attack),)).values() == [attack]
        assert read(library, headers=((name, value + b" " + attack),)).values()


def test_json_paths(library):
    body = json.dumps(
        {"user": {"name": "O'Neil", "tags": ["a", {"b": "c"}]}, "n": [1, -2.5e3, True, None]}
    ).encode()
    request = read(library, body=body, type=b"application/json")
    assert [(each.place, each.name, each.value) for each in request.fields] == [
        ("json", "body.user.name", b"O'Neil"),
        ("json", "body.user.tags", b"a"),
        ("json", "body.user.tags.b", b"c"),
    ]
    assert request.numbers == 4
    assert not request.flaws


def test_ndjson(library):
    request = read(library, body=b'{"a":"x"}\n{"a":"y"}\n', type=b"application/x-ndjson")
    assert request.values() == [b"x", b"y"]
    assert not request.flaws


def test_json_before_tensors(library):
    """The inference protocol has them, and says so; otherwise another document may follow."""
    tensors = struct.pack("<6f", *range(6)) + b"\x09\0\0\0red shoes"
    kind, header = b"application/json", b"Inference-Header-Content-Length"
    for size in 1, 60:
        head = json.dumps({"inputs": [{"name": "x", "shape": [*range(size)]}]}).encode()
        length = header, str(len(head)).encode()
        request = read(library, headers=(length,), body=head + tensors, type=kind)
        assert request.values() == [b"x"]
        assert not request.flaws

    attack = b'\n{"x":"\xff\xff\xff\xff\xff","q":"<script>"}'
    for headers in (), ((header, b"7"),), ((header, b"+7"),):
        request = read(library, headers=headers, body=head + attack, type=kind)
        assert b"<script>" in request.values()
    text = b'{"a":"x"} {"b":"<script>"}'
    request = read(library, headers=((header, b"9"),), body=text, type=kind)
    assert request.values() == [b"x", b"<script>"]


def test_json_duplicate_keys_are_all_read(library):
    request = read(library, body=b'{"a":"x","a":"y"}', type=b"application/json")
    assert request.values() == [b"x", b"y"]


@pytest.mark.parametrize(
    "body",
    [
        b"{'a':'%s'}",
        b'{a:"%s"}',
        b'{"a":"%s"',
        b'{"a":"%s"} trailing',
        b'{"b":1 "a":"%s"}',
        b'// comment\n{"a":"%s"}',
        b'{"a":/**/"%s"}',
        b"{'b':0,'a':'%s',}",
    ],
    ids=["quotes", "bare_key", "end", "after", "comma", "line", "comment", "trailing_comma"],
)
def test_json_of_lenient_parsers(library, body):
    request = read(library, body=body % b"attack<x>", type=b"application/json")
    assert b"attack<x>" in request.values()
    assert request.flaws


def test_json_comments_are_fields(library):
    request = read(library, body=b'{"a":1,/* <script> */"b":2}', type=b"application/json")
    assert request.fields[0].value == b"/* <script> */"


def test_json_deep_is_read_and_marked(library):
    body = b'{"a":' * 100 + b'"<x>"' + b"}" * 100
    request = read(library, body=body, type=b"application/json")
    assert request.values() == [b"<x>"]
    assert request.unread == {"depth"}


def test_json_in_json_in_a_parameter(library):
    inner = json.dumps({"where": {"$gt": "<i>"}})
    value = quote_plus(json.dumps({"filter": inner})).encode()
    request = read(library, query=b"q=" + value)
    assert [(each.name, each.value) for each in request.fields] == [
        ("query.q.filter.where.$gt", b"$gt"),
        ("query.q.filter.where.$gt", b"<i>"),
    ]


@pytest.mark.parametrize("is_json", [True, False])
def test_graphql(library, is_json):
    query = 'query Q($id: ID!) { user(id: $id, name: "x\' or 1") { name # note\n } }'
    body = json.dumps({"query": query, "variables": {"id": "<b>"}}).encode()
    if not is_json:
        body = query.encode()
    request = read(
        library, body=body, type=b"application/json" if is_json else b"application/graphql"
    )
    name = "body.query" if is_json else "body"
    assert request.fields[0][:3] == ("graphql", f"{name}.name", b"x' or 1")
    assert request.fields[1].value == b" note"
    assert request.values()[2:] == ([b"<b>"] if is_json else [])


@pytest.mark.parametrize(
    "query",
    [
        "{ a } ; drop table x",
        "{{config}}",
        "{ {config} }",
        "{{self.__init__.__globals__.__builtins__}}",
        '{{request.application.__globals__.__import__("os").popen("id").read()}}',
        "{x 1} union select password from users",
        "{ a } union select password from users",
        "query union select password from users { a }",
        "{ a.b }",
        "{ a(b: 1-1) }",
        "{ a | b }",
        "#{7*7}",
        "${7*7}",
        "{ $where: 1 }",
        "{ 7 }",
        "{ a(7) }",
        "{ a",
        "{ a ] }",
        "{ (a) }",
    ],
)
def test_graphql_that_is_none(library, query):
    body = json.dumps({"query": query}).encode()
    assert read(library, body=body).values() == [query.encode()]


@pytest.mark.parametrize(
    "query",
    [
        "{ a { b c } d: e }",
        "query Q { a(b: 1, c: -2.5e3, d: [1 2], e: {f: $g, h: {}}) @include(if: $x) { i } }",
        "query Q($a: [ID!]! = [1], $b: I = {c: 1} $d: J) @x(y: 1) { a ...F ... on T { b } }",
        "fragment F on T @x { a } mutation { b(c: ENUM) { d } }",
        "subscription S($x: Int = -1) { a(b: true, c: null) }",
        "query($a:ID!){a(b:$a){...{c}...@skip(if:true){d}}}",
        "{a(x: [[$b, $c], []])}",
    ],
)
def test_graphql_documents(library, query):
    for body, kind in (
        (json.dumps({"query": query}), b"application/json"),
        (json.dumps([{"query": query}]), b"application/json"),
        (query, b"application/graphql"),
        (query.replace(" ", "\n"), b"application/graphql"),
    ):
        assert read(library, body=body.encode(), type=kind).values() == []


@pytest.mark.parametrize("body", [{"search_query": "{a}"}, {"x": {"query": "{a}"}}])
def test_graphql_is_the_query_of_a_body(library, body):
    assert read(library, body=json.dumps(body).encode()).values() == [b"{a}"]


def test_xml(library):
    body = (
        b'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        b'<s:r xmlns:s="urn:x"><!-- note --><item id="7&lt;">A &amp; B</item>'
        b"<c><![CDATA[<b>]]></c><empty/></s:r>"
    )
    request = read(library, body=body, type=b"text/xml; charset=utf-8")
    assert [(each.name, each.value) for each in request.fields] == [
        ("body", b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]'),
        ("body.r.xmlns:s", b"urn:x"),
        ("body.r", b" note "),
        ("body.r.item.id", b"7<"),
        ("body.r.item", b"A & B"),
        ("body.r.c", b"<b>"),
    ]
    assert not request.flaws


@pytest.mark.parametrize(
    "body", [b"<a><b>%s", b"<a b=%s>", b"<a %s>", b"<a><!-- %s", b"< %s>", b"<a><![CDATA[%s"]
)
def test_xml_malformed_is_read(library, body):
    request = read(library, body=b"<x/>" + body % b"'attack'", type=b"application/xml")
    assert any(b"attack" in value for value in request.values())
    assert request.flaws


def test_multipart(library):
    body = multipart(
        part(b'name="title"', b"It's"),
        part(b'name="doc"; filename="a.txt"', b"<b>text</b>", b"Content-Type: text/plain"),
        part(b'name="pic"; filename="a.png"', b"\x89PNG\r\n\x1a\n" + bytes(100)),
        part(b'name="meta"', b'{"k": "v"}'),
    )
    request = read(library, body=body, type=b'multipart/form-data; boundary="x1"')
    assert [(each.place, each.name, each.value) for each in request.fields] == [
        ("multipart", "body.title", b"It's"),
        ("multipart", "body.doc", b"a.txt"),
        ("multipart", "body.doc", b"text/plain"),
        ("file", "body.doc", b"<b>text</b>"),
        ("multipart", "body.pic", b"a.png"),
        ("json", "body.meta.k", b"v"),
    ]
    assert not request.flaws


@pytest.mark.parametrize(
    ("type", "body"),
    [
        (b"multipart/form-data; boundary=x1", multipart(part(b'name="a"', ATTACK), end=b"")),
        (b"multipart/form-data", multipart(part(b'name="a"', ATTACK))),
        (b"multipart/form-data; boundary=other", multipart(part(b'name="a"', ATTACK))),
        (b"MULTIPART/Form-Data ;BOUNDARY = x1", multipart(part(b'name="a"', ATTACK))),
        (b"multipart/form-data; boundary=x1,y", multipart(part(b'name="a"', ATTACK))),
        (b"multipart/form-data; boundary=y; boundary=x1", multipart(part(b'name="a"', ATTACK))),
        (
            b"multipart/form-data; boundary=x1",
            multipart(part(b'name="a"; name="b"', ATTACK)),
        ),
        (
            b"multipart/form-data; boundary=x1",
            multipart(part(b"name=a; filename=b; filename*=UTF-8''c", ATTACK)),
        ),
        (b"multipart/form-data; boundary=x1", multipart(b"X: y\r\n\r\n" + ATTACK)),
        (b"multipart/form-data; boundary=x1", multipart(b"\r\n" + ATTACK)),
        (b"multipart/form-data; boundary=x1", multipart(part(b'name="a', ATTACK))),
        (b"multipart/form-data; boundary=x1", ATTACK + b"\r\n" + multipart(part(b"name=a", b"x"))),
        (b"multipart/form-data; boundary=x1", multipart(part(b"name=a", b"x")) + ATTACK),
        (
            b"multipart/form-data; boundary=x1",
            multipart(part(b"name=a", ATTACK)).replace(b"\r\n", b"\n"),
        ),
        (
            b"multipart/form-data; boundary=x1",
            multipart(part(b"name=a", ATTACK).replace(b"form-data; ", b"form-data;\r\n ")),
        ),
        (
            b"multipart/form-data; boundary=x1",
            multipart(part(b"name=a", ATTACK).replace(b"-Disposition:", b"-Disposition :")),
        ),
        (b"text/plain", multipart(part(b'name="a"', ATTACK))),
        (b"", multipart(part(b'name="a"', ATTACK))),
    ],
    ids=[
        "no_end",
        "no_boundary",
        "other_boundary",
        "case_and_blanks",
        "comma",
        "two_boundaries",
        "two_names",
        "two_filenames",
        "no_disposition",
        "no_headers",
        "quote_without_end",
        "before_the_first",
        "after_the_last",
        "line_feeds",
        "folded",
        "blank_before_colon",
        "type_text",
        "type_none",
    ],
)
def test_multipart_evasions(library, type, body):
    request = read(library, type=type, body=body)
    assert any(ATTACK in value for value in request.values())


def test_multipart_names_and_types_are_read(library):
    disposition = b'name="a\'b<x>"; filename="../../x.php"'
    body = multipart(part(disposition, b"<?php", b"Content-Type: text/x-<y>"))
    values = read(library, type=b"multipart/form-data; boundary=x1", body=body).values()
    assert values == [b"a'b<x>", b"../../x.php", b"text/x-<y>", b"<?php"]


def test_picture_with_text_is_no_text(library):
    body = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4 + ATTACK
    assert read(library, body=body, type=b"image/png").values() == []


@pytest.mark.parametrize("junk", [b"\xff" * 600, b"\0" * 600, bytes(range(128, 256)) * 5])
@pytest.mark.parametrize(
    ("type", "body"),
    [
        (FORM, b"x=%s&a=" + quote_plus(ATTACK).encode()),
        (FORM, b"\x89PNG\r\n\x1a\n%s&%61=" + quote_plus(ATTACK).encode() + b"\xff\xff"),
        (b"application/json", b'{"a":"%s","b":"' + ATTACK + b'"}'),
        (b"text/xml", b"<a><b>%s</b><c><![CDATA[" + ATTACK + b"]]></c></a>"),
        (b"application/graphql", b'{ a(b: "%s", c: "' + ATTACK + b'") }'),
        (b"text/plain", b"%s" + ATTACK),
        (b"", b'{"a":"%s","b":"' + ATTACK + b'"}'),
        (b"application/octet-stream", b'[{"a":"%s","b":"' + ATTACK + b'"}]'),
        (b"", b"<?xml version='1.0'?><a>%s<c><![CDATA[" + ATTACK + b"]]></c></a>"),
    ],
    ids=range(9),
)
def test_bytes_that_are_no_text_hide_nothing(library, type, body, junk):
    request = read(library, body=body.replace(b"%s", junk), type=type)
    assert any(ATTACK in value for value in request.values())


@pytest.mark.parametrize("type", [FORM, b"application/json", b"", b"application/octet-stream"])
def test_file_of_another_type_is_no_text(library, type):
    """A client that is given no type sends a file as a form."""
    body = b"\x89PNG\r\n\x1a\n" + random.Random(5).randbytes(4096)
    assert read(library, body=body, type=type).values() == []


def test_text_with_the_magic_of_a_picture_is_text(library):
    body = b"GIF89a" + ATTACK
    request = read(library, body=body, type=b"image/gif")
    assert request.values() == [body]
    assert request.flaws == {"type"}


@pytest.mark.parametrize(
    ("type", "body"),
    [
        (b"application/json", b"a=" + quote_plus(ATTACK).encode()),
        (FORM, json.dumps({"a": ATTACK.decode()}).encode()),
        (b"text/plain", json.dumps({"a": ATTACK.decode()}).encode()),
        (b"", json.dumps([ATTACK.decode()]).encode()),
        (b"Application/JSON ; Charset=UTF-8", json.dumps({"a": ATTACK.decode()}).encode()),
        (b"image/png", json.dumps({"a": ATTACK.decode()}).encode()),
        (b"application/json", b"\xef\xbb\xbf" + json.dumps({"a": ATTACK.decode()}).encode()),
        (b"application/json", json.dumps({"a": ATTACK.decode()}).encode("utf-16")),
        (b"text/xml; charset=utf-16be", f"<a><![CDATA[{ATTACK.decode()}]]></a>".encode("utf-16be")),
        (b"text/xml", f"<a><![CDATA[{ATTACK.decode()}]]></a>".encode("utf-16le")),
    ],
    ids=[
        "form_as_json",
        "json_as_form",
        "json_as_text",
        "no_type",
        "case",
        "json_as_picture",
        "utf8_mark",
        "utf16_mark",
        "utf16_charset",
        "utf16_zeros",
    ],
)
def test_type_is_believed_after_a_look(library, type, body):
    assert ATTACK in read(library, type=type, body=body).values()


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        (b"gzip", gzip.compress),
        (b"deflate", zlib.compress),
        (b"deflate", lambda data: zlib.compress(data, wbits=-15)),
        (b"gzip", lambda data: data),
        (b"identity", lambda data: data),
    ],
    ids=["gzip", "zlib", "deflate", "gzip_in_name_only", "identity"],
)
def test_content_encoding(library, encoding, encode):
    body = json.dumps({"a": ATTACK.decode()}).encode()
    request = read(library, encoding=encoding, type=b"application/json", body=encode(body))
    assert request.values() == [ATTACK]
    assert not request.unread


def test_content_encoding_unread(library):
    body = gzip.compress(b'{"a": "b"}')
    assert read(library, encoding=b"br", body=b"\x0b\x02\x80x").unread == {"encoding"}
    assert read(library, encoding=b"gzip", body=body, work=0).unread == {"encoding"}
    assert read(library, encoding=b"gzip", body=gzip.compress(bytes(1 << 20))).unread == {"size"}
    assert read(library, encoding=b"gzip", body=body[:-9]).flaws >= {"end"}


CHARSETS = [
    b"=utf-7",
    b"=IBM037",
    b"=utf-32",
    b'="cp037"',
    b'="ebcdic-us"',
    b"='ibm037'",
    b" = ibm037",
    b"=utf7",
    b"=cp1140",
    b"=x-ibm037",
    b"=utf-8; charset=cp037",
    b"=cp037; charset=utf-8",
    b"=iso-2022-kr",
    b"=" + b"x" * 100,
]


@pytest.mark.parametrize("charset", CHARSETS, ids=range(len(CHARSETS)))
@pytest.mark.parametrize("blank", [b";", b" ; "])
def test_charset_unread(library, charset, blank):
    type = b"text/xml" + blank + b"Charset" + charset
    assert read(library, type=type, body=b"<a>b</a>").unread == {"charset"}
    body = multipart(part(b'name="a"', b"b", b"Content-Type: " + type))
    request = read(library, type=b"multipart/form-data; boundary=x1", body=body)
    assert request.unread == {"charset"}


@pytest.mark.parametrize(
    "charset",
    (
        *(b"utf-8", b"UTF8", b'"utf-8"', b"us-ascii", b"ISO-8859-1", b"iso_8859-15", b"latin1"),
        *(b"windows-1252", b"cp1251", b"gbk", b"Shift_JIS", b"EUC-KR", b"koi8-r", b""),
    ),
)
def test_charset_read(library, charset):
    request = read(library, type=FORM + b"; charset=" + charset, body=b"a=b")
    assert (request.values(), request.unread) == ([b"b"], set())


def test_charset_of_a_form(library):
    assert read(library, type=FORM, body=b"a=b&_charset_=cp037").unread == {"charset"}
    assert read(library, type=FORM, body=b"a=b&_charset_=utf-8").unread == set()
    type = b"multipart/form-data; boundary=x1"
    body = multipart(part(b'name="_charset_"', b"ibm037"), part(b"name=a", b"b"))
    assert read(library, type=type, body=body).unread == {"charset"}


@pytest.mark.parametrize(
    ("sent", "step"),
    [
        (b"%2527%2520or", "percent"),
        (b"%25252527%20or", "again"),
        (b"%u0027%20or", "unicode"),
        (b"%26%2339%3B%20or", "entity"),
        (b"%26%23x27%20or", "entity"),
        (b"%26apos%3B%20or", "entity"),
        (b"\\x27 or", "escape"),
        (b"\\u0027 or", "escape"),
        (b"\\u{27} or", "escape"),
        (b"\\047 or", "escape"),
        (b"%C0%A7%20or", "overlong"),
        (b"%E0%80%A7%20or", "overlong"),
        (b"%FC%80%80%80%80%A7%20or", "overlong"),
        (b"%EF%BC%87%20or", "wide"),
        (b"%00'%00%20%00o%00r", "utf16"),
        (b"'%00%20%00o%00r%00", "utf16"),
        (b"0x27206f72", "hex"),
        (b"%27%20%6f%72", "ascii"),
    ],
)
def test_value_decodings(library, sent, step):
    (field,) = read(library, query=b"q=" + sent).fields
    assert field.value == b"' or"
    assert step in field.decoded


@pytest.mark.parametrize("encode", [b64encode, lambda data: b64encode(data).rstrip(b"=")])
def test_base64_text(library, encode):
    (field,) = read(library, query=b"q=" + quote_plus(encode(ATTACK)).encode()).fields
    assert field.value == ATTACK
    assert field.decoded == {"base64"}


@pytest.mark.parametrize("lead", range(5))
@pytest.mark.parametrize("width", [0, 64, 76, 77])
@pytest.mark.parametrize("place", ["form", "json", "multipart"])
def test_base64_in_pieces(library, lead, width, place):
    """What comes before a piece may be of any length: line ends, and escapes of them."""
    text = b"".join(b"%d bottles of beer, " % each for each in range(900)) + ATTACK
    value = b64encode(text).decode()
    if width:
        value = "\n".join(value[each : each + width] for each in range(0, len(value), width))
    value = "\n" * lead + value
    if place == "form":
        request = read(library, type=FORM, body=b"a=" + quote_plus(value).encode())
    elif place == "json":
        request = read(library, body=json.dumps({"a": value}).encode())
    else:
        body = multipart(part(b"name=a", value.encode()))
        request = read(library, type=b"multipart/form-data; boundary=x1", body=body)
    assert any(ATTACK in each for each in request.values())
    assert all("base64" in each.decoded for each in request.fields)


def test_base64_in_a_path(library):
    value = b64encode(ATTACK, altchars=b"-_").rstrip(b"=")
    assert ATTACK in read(library, path=b"/files/" + value).values()


def test_base64_of_json_is_read_as_json(library):
    value = b64encode(b'{"a": "<script>"}')
    (field,) = read(library, body=b"x=" + value, type=FORM).fields
    assert (field.name, field.value) == ("body.x.a", b"<script>")


def test_base64_of_other_bytes_is_opaque(library):
    (field,) = read(library, query=b"q=" + b64encode(bytes(range(128, 200)))).fields
    assert field.flags == {"opaque"}


@pytest.mark.parametrize(
    "value", [b"password1234", b"5f4dcc3b5aa765d61d8327deb882cf99", b"20230101123059", b"Zm9v"]
)
def test_identifiers_are_not_decoded(library, value):
    request = read(library, query=b"q=x" + value)
    assert request.values() == [b"x" + value]


def test_usual_encoding_is_not_worth_a_step(library):
    request = read(library, query=b"q=%C3%A4+%26+%3Cb%3E")
    assert request.fields[0].value == "ä & <b>".encode()
    assert not request.fields[0].decoded


@pytest.mark.parametrize("slash", [b"%u2215", b"%E2%88%95", b"%E2%81%84", b"%EF%BC%8F"])
def test_slashes_that_are_converted(library, slash):
    assert read(library, query=b"q=.." + slash + b"etc").values() == [b"../etc"]


@pytest.mark.parametrize(
    "blank", [b"%A0", b"%C2%A0", b"%E2%80%83", b"%E2%80%AF", b"%E3%80%80", b"%u00A0", b"%26nbsp;"]
)
def test_blanks_that_separate_words(library, blank):
    query = b"q=1" + blank + b"union" + blank + b"select"
    assert read(library, query=query).values() == [b"1 union select"]
    assert read(library, query="q=à la carte".encode()).values() == ["à la carte".encode()]


@pytest.mark.parametrize("value", [b"169.254.169.254", b"1.2.3", b"127.1.", b"..", b"1..2"])
def test_addresses_are_no_numbers(library, value):
    assert read(library, query=b"q=" + value).values() == [value]
    request = read(library, query=b"a=1.5&b=-2e3&c=.5&d=10.")
    assert (request.values(), request.numbers) == ([], 4)


def test_null_bytes(library):
    (field,) = read(library, query=b"file=../../etc/passwd%00.png").fields
    assert field.value == b"../../etc/passwd\0.png"
    assert "null" in field.flags


@pytest.mark.parametrize("size", [4000, 4096, 16384, 100_000])
@pytest.mark.parametrize("place", ["query", "json", "text"])
def test_padding_hides_nothing(library, size, place):
    text = b"x" * size + ATTACK
    if place == "query":
        request = read(library, query=b"q=" + quote_plus(text).encode())
    elif place == "json":
        request = read(library, body=json.dumps([text.decode()]).encode())
    else:
        request = read(library, body=b"line\n" + text, type=b"text/plain")
    assert any(ATTACK in value for value in request.values())
    assert not request.unread


def test_tensors_are_numbers(library):
    body = json.dumps(
        {"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2], [3, 4.5]]}]}
    ).encode()
    request = read(library, body=body, type=b"application/json")
    assert request.values() == [b"x", b"FP32"]
    assert request.numbers == 6


def test_names_have_no_control_characters(library):
    (field,) = [each for each in read(library, query=b"a%0Ab=x").fields if "key" not in each.flags]
    assert field.name == "query.a?b"


def test_parameter_pollution_reads_all(library):
    assert read(library, query=b"id=union&id=select&id=%27").values() == [b"union", b"select", b"'"]
