"""Recorded requests of real applications, and payloads that are put into requests."""

import base64
import gzip
import json
import random
import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, quote_from_bytes

from reading import Request


@dataclass
class Row:
    """A request with what is known of it."""

    request: Request
    label: int
    kind: str
    group: str  # a site, or a list or family of attacks
    family: str = ""
    place: str = ""
    payload: str = ""
    site: str = ""


def read(path: Path) -> list[Row]:
    with gzip.open(path, "rt") as file:
        return [row(json.loads(line)) for line in file]


def row(each: dict) -> Row:
    path, _, query = each["target"].encode("utf8", "surrogateescape").partition(b"?")
    headers = [
        (name.encode("utf8", "surrogateescape"), value.encode("utf8", "surrogateescape"))
        for name, value in each["headers"]
    ]
    request = Request(each["method"], path, query, headers, base64.b64decode(each["body_b64"]))
    family = each.get("family", "")
    group = each["site"]
    if each["label"] or each["kind"] in ("crs-negative", "gotestwaf-falsepos"):
        # rules of the CRS and lists of payloads are whole in one part
        group = each.get("list") or (each.get("test") or "").split("-")[0] or family
    return Row(
        request,
        each["label"],
        each["kind"],
        group,
        family,
        each.get("place", ""),
        each.get("payload", ""),
        each["site"],
    )


# --- payloads in requests ---

FORM = b"application/x-www-form-urlencoded"
PLACES = ("query", "form", "json", "xml", "multipart", "cookie", "header", "path", "graphql")
HEADERS = (
    b"User-Agent",
    b"Referer",
    b"X-Forwarded-For",
    b"X-Api-Version",
    b"X-Forwarded-Host",
    b"Accept-Language",
    b"Authorization",
    b"X-Requested-With",
    b"Origin",
    b"X-Custom",
)
NAMES: tuple[str, ...] = tuple(
    [
        "id",
        "q",
        "name",
        "search",
        "page",
        "user",
        "file",
        "path",
        "url",
        "text",
        "comment",
        "title",
        "email",
        "message",
        "data",
        "value",
        "key",
        "query",
        "filter",
        "sort",
        "lang",
        "category",
        "type",
        "token",
        "content",
        "body",
        "description",
        "input",
        "cmd",
        "template",
        "redirect",
        "callback",
        "next",
        "doc",
        "item",
        "username",
        "password",
        "address",
        "city",
        "date",
        "ref",
        "tag",
        "status",
        "note",
    ]
)


def name(rng: random.Random, names: tuple[str, ...]) -> str:
    if rng.random() < 0.2:
        return "".join(rng.choice("0123456789abcdef") for _ in range(rng.randint(5, 10)))
    return rng.choice(names)


def filler(rng: random.Random) -> str:
    return rng.choice(
        ["1", "42", "test", "abc", "john", "2023-01-05", "en", "true", "red shoes", "a-b_c", "x"]
    )


def padding(rng: random.Random) -> str:
    """Return what is to be passed over by a reader that stops early, at most 32 KB."""
    unit = rng.choice(["A", "a", "0", " ", "\n", "x=1;", "lorem ipsum ", rng.choice(NAMES)])
    return unit * (rng.choice([500, 4000, 16000, 32000]) // len(unit))


def put(
    payload: str, place: str, base: Request, rng: random.Random, names: tuple[str, ...] = NAMES
) -> Request:
    """Return a request like `base` with a value at a place, by one of the names."""
    raw = payload.encode("utf8", "surrogateescape")
    plain = replace(base, headers=list(base.headers))
    if place == "query":
        pairs = plain.query.split(b"&") if plain.query else []
        pair = quote(name(rng, names)).encode() + b"=" + encode_url(raw, rng)
        if pairs and rng.random() < 0.5:
            index = rng.randrange(len(pairs))
            pairs[index] = pairs[index].split(b"=")[0] + b"=" + encode_url(raw, rng)
        else:
            pairs.insert(rng.randint(0, len(pairs)), pair)
        return replace(plain, query=b"&".join(pairs))
    if place == "path":
        parts = plain.path.split(b"/")
        value = quote_from_bytes(raw, safe="/:@!$'()*,;" if rng.random() < 0.6 else "").encode()
        if rng.random() < 0.5:
            parts[-1] = value
        else:
            parts.insert(rng.randint(1, len(parts)), value)
        return replace(plain, path=b"/".join(parts) or b"/")
    if place == "cookie":
        # a cookie's value is often sent as it is, but for blanks and semicolons
        value = encode_url(raw, rng) if rng.random() < 0.6 else raw.replace(b";", b"%3B")
        return replace(
            plain, headers=[*plain.headers, (b"Cookie", name(rng, names).encode() + b"=" + value)]
        )
    if place == "header":
        key = rng.choice(HEADERS)
        value = raw if rng.random() < 0.8 else encode_url(raw, rng)
        if key == b"Referer" and rng.random() < 0.5:
            value = (
                b"https://example.com/?" + name(rng, names).encode() + b"=" + encode_url(raw, rng)
            )
        if key == b"User-Agent" and rng.random() < 0.5:
            value = b"Mozilla/5.0 " + value
        value = value.replace(b"\n", b" ").replace(b"\r", b" ").replace(b"\0", b"")
        return plain.with_header(key, value)

    body, kind = make_body(payload, place, rng, names)
    method = plain.method if plain.method in ("POST", "PUT", "PATCH") else "POST"
    return replace(plain.with_header(b"Content-Type", kind), method=method, body=body)


def put_name(payload: str, base: Request, rng: random.Random) -> Request:
    """Return a request like `base` in which a value is the name of a field."""
    raw, value = payload.encode("utf8", "surrogateescape"), filler(rng)
    place = rng.choice(("query", "form", "json"))
    if place == "query":
        pairs = [base.query] if base.query else []
        pairs.append(encode_url(raw, rng) + b"=" + quote(value).encode())
        return replace(base, query=b"&".join(pairs))
    body, kind = quote_from_bytes(raw).encode() + b"=" + quote(value).encode(), FORM
    if place == "json":
        text = payload.encode("utf8", "replace").decode()
        body, kind = json.dumps(strings(rng) | {text: value}).encode(), b"application/json"
    return replace(base.with_header(b"Content-Type", kind), method="POST", body=body)


def encode_url(raw: bytes, rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.55:
        return quote_from_bytes(raw, safe="").replace("%20", "+").encode()
    if kind < 0.75:
        return quote_from_bytes(raw, safe="/:@!$'()*,;<>\"").encode()
    if kind < 0.85:
        return quote_from_bytes(quote_from_bytes(raw, safe="").encode(), safe="").encode()
    if kind < 0.95:
        return quote_from_bytes(base64.b64encode(raw), safe="").encode()
    return b"".join(b"%%%02x" % byte for byte in raw)


def strings(rng: random.Random) -> dict:
    return {name(rng, NAMES): filler(rng) for _ in range(rng.randint(0, 4))}


def make_body(
    payload: str, place: str, rng: random.Random, names: tuple[str, ...]
) -> tuple[bytes, bytes]:
    raw = payload.encode("utf8", "surrogateescape")
    key, fields = name(rng, names), strings(rng)
    if place == "form":
        pairs = [f"{a}={quote(b)}".encode() for a, b in fields.items()]
        pairs.insert(rng.randint(0, len(pairs)), quote(key).encode() + b"=" + encode_url(raw, rng))
        return b"&".join(pairs), b"application/x-www-form-urlencoded"
    text = payload.encode("utf8", "replace").decode()
    if place == "json":
        fields[key] = text
        items = list(fields.items())
        rng.shuffle(items)
        value: object = dict(items)
        if rng.random() < 0.4:
            value = rng.choice([{"data": value, "id": 7}, [value], {"items": [value, {"a": "b"}]}])
        body = json.dumps(value, ensure_ascii=rng.random() < 0.5)
        if rng.random() < 0.1:
            body = json.dumps({key: "@"}).replace(
                "@", "".join(f"\\u{ord(c) & 0xFFFF:04x}" for c in text)
            )
        return body.encode("utf8", "replace"), b"application/json"
    if place == "xml":
        key = "".join(c for c in key if c.isalnum()) or "k"
        escaped = text.replace("&", "&amp;").replace("<", "&lt;")
        if rng.random() < 0.3 and "]]>" not in text:
            escaped = f"<![CDATA[{text}]]>"
        inner = f"<{key}>{escaped}</{key}>"
        if rng.random() < 0.3:
            inner = f'<{key} v="{escaped.replace(chr(34), "&quot;")}"/>'
        inner += "".join(f"<f{a}>{b}</f{a}>" for a, b in fields.items())
        if rng.random() < 0.4:
            inner = (
                '<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/">'
                f"<soap:Body><m>{inner}</m></soap:Body></soap:Envelope>"
            )
        return f'<?xml version="1.0"?><root>{inner}</root>'.encode("utf8", "replace"), b"text/xml"
    if place == "graphql":
        if rng.random() < 0.6:
            query = "query Q($v: String!) { item(id: $v) { id name } }"
            body = json.dumps({"query": query, "variables": {"v": text, **fields}})
        else:
            query = f"{{ item(name: {json.dumps(text)}) {{ id name }} }}"
            body = json.dumps({"query": query})
        return body.encode("utf8", "replace"), b"application/json"
    boundary = b"----WebKitFormBoundary" + b"%08x" % rng.getrandbits(32)
    parts = [(a.encode(), None, b.encode()) for a, b in fields.items()]
    if place == "upload" or rng.random() < 0.25:
        parts.append((key.encode(), raw.replace(b'"', b"%22").replace(b"\n", b" "), b"some text"))
    else:
        parts.append((key.replace('"', "%22").encode(), None, raw))
    rng.shuffle(parts)
    body = b""
    for a, file, b in parts:
        disposition = b'form-data; name="' + a + b'"'
        disposition += b'; filename="' + file + b'"' if file is not None else b""
        body += (
            b"--"
            + boundary
            + b"\r\nContent-Disposition: "
            + disposition
            + b"\r\n\r\n"
            + b
            + b"\r\n"
        )
    return body + b"--" + boundary + b"--\r\n", b"multipart/form-data; boundary=" + boundary


FAMILIES = (
    ("sqli", r"sqli|sql-inj|^942|community-sqli"),
    ("xss", r"xss|^941"),
    ("cmdi", r"cmdi|rce|^932|shell"),
    ("lfi", r"lfi|traversal|^930|path"),
    ("ssti", r"ssti|sst-inj|ss-include"),
    ("nosql", r"nosql"),
    ("ldap", r"ldap"),
    ("xxe", r"xxe|xml-inj"),
    ("jndi", r"jndi|^944"),
    ("ssrf", r"ssrf|^931|rfi"),
    ("php", r"php|^933"),
    ("scanner", r"scanner|^913|^934"),
)


def kind_of(family: str) -> int:
    """Return the number of a family's kind; -1: none of them."""
    for number, (_, pattern) in enumerate(FAMILIES):
        if re.search(pattern, family.lower()):
            return number
    return -1
