"""Normal bodies, headers and cookies as wholes: what clients of applications send beside a value.

Templates of public protocols and formats, with generated names and values.
"""

import json
import random
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from urllib.parse import quote, quote_plus

import numpy as np
from normal import address, english, opaque, password, person, prose, slug, structured, token, word
from reading import Request
from traffic import HEADERS, NAMES

Body = tuple[bytes, bytes]  # and its type


def some(rng: random.Random) -> str:
    """Return a short value."""
    return word(rng) if rng.random() < 0.3 else rng.choice(pool())


@cache
def pool() -> list[str]:
    """Return short values; making each anew would take most of the time."""
    rng = random.Random(0)
    makes = (prose, person, structured, structured, opaque, address, slug, slug)
    return [rng.choice(makes)(rng)[:120] for _ in range(5000)]


def moment(rng: random.Random) -> str:
    day = f"20{rng.randint(10, 29)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
    return day + rng.choice(["", f"T{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:00Z"])


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def tag(rng: random.Random) -> str:
    made = word(rng, 2, 9)
    return rng.choice([made, made.title(), made + word(rng, 2, 6).title(), made.upper()])


def element(rng: random.Random, prefix: str, depth: int = 0) -> str:
    """Return an element with attributes, and with elements or text in it."""
    name, space = prefix + tag(rng), rng.choice(["", "\n", "\n  ", " "])
    attributes = "".join(
        f' {rng.choice(["", "", "xsi:", prefix])}{tag(rng)}="{escaped(some(rng))}"'
        for _ in range(rng.choice([0, 0, 0, 0, 1, 1, 3]))
    )
    if depth > 2 or rng.random() < 0.4:
        text = rng.choice(
            [
                *(str(rng.randint(0, 9999)), f"{rng.uniform(-90, 90):.4f}", "true", moment(rng)),
                *(escaped(some(rng)), escaped(some(rng)), word(rng), f"{word(rng)}/*", "*", ""),
                f"<![CDATA[{some(rng)}]]>",
                " ".join(f"{rng.uniform(-180, 180):.3f}" for _ in range(rng.randint(2, 12))),
            ]
        )
    else:
        text = space + space.join(element(rng, prefix, depth + 1) for _ in range(rng.randint(1, 3)))
    if not text and rng.random() < 0.7:
        return f"<{name}{attributes}/>"
    return f"<{name}{attributes}>{text}</{name}>"


URNS = (
    *("http://www.w3.org/2001/XMLSchema-instance", "http://www.w3.org/2001/XMLSchema", "DAV:"),
    *("http://schemas.xmlsoap.org/soap/envelope/", "http://www.w3.org/2003/05/soap-envelope"),
    *("http://www.opengis.net/gml", "http://www.w3.org/1999/xlink", "http://www.w3.org/2005/Atom"),
    *("urn:ietf:params:xml:ns:caldav", "http://schemas.xmlsoap.org/soap/encoding/"),
    *("http://www.w3.org/2005/08/addressing", "http://www.w3.org/2000/svg"),
    *("urn:ietf:params:xml:ns:epp-1.0", "http://www.w3.org/1999/xhtml"),
    "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd",
)


def xml(rng: random.Random) -> Body:
    prefix = rng.choice(["", "", word(rng, 1, 5) + ":"])
    spaces = "".join(
        f' xmlns:{word(rng, 1, 5)}="{rng.choice(URNS)}"' for _ in range(rng.choice([0, 1, 1, 3, 6]))
    )
    if rng.random() < 0.7:
        own = rng.choice(
            [f"http://{word(rng)}.com/{word(rng)}/{moment(rng)[:10]}", rng.choice(URNS)]
        )
        spaces += f' xmlns{":" + prefix[:-1] if prefix else ""}="{own}"'
    if rng.random() < 0.2:
        spaces += f' xsi:schemaLocation="{rng.choice(URNS)} http://{word(rng)}.org/{word(rng)}.xsd"'
    inner = "".join(element(rng, prefix) for _ in range(rng.randint(1, 3)))
    root = prefix + tag(rng)
    made = f"<{root}{spaces}>{inner}</{root}>"
    kind = rng.choice([b"text/xml", b"application/xml", b"text/xml; charset=utf-8"])
    share = rng.random()
    if share < 0.3:
        env = rng.choice(["soap", "soapenv", "SOAP-ENV", "s", "env"])
        head = rng.choice(
            ["", f"<{env}:Header/>", f"<{env}:Header>{element(rng, '')}</{env}:Header>"]
        )
        made = (
            f'<{env}:Envelope xmlns:{env}="{rng.choice(URNS)}" xmlns:xsi="{URNS[0]}">{head}'
            f"<{env}:Body>{made}</{env}:Body></{env}:Envelope>"
        )
        kind = rng.choice([kind, b"application/soap+xml; charset=utf-8; action=" + root.encode()])
    elif share < 0.4:
        values = "".join(
            f"<param><value><{t}>{escaped(some(rng)) if t == 'string' else rng.randint(0, 9)}</{t}>"
            "</value></param>"
            for t in rng.choices(["string", "int", "i4", "boolean"], k=rng.randint(0, 4))
        )
        made = (
            f"<methodCall><methodName>{word(rng)}.{tag(rng)}</methodName><params>{values}</params>"
            "</methodCall>"
        )
    elif share < 0.45:
        kind = b"image/svg+xml"
        made = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {rng.randint(1, 99)} 24">'
            f'<path fill="#{rng.getrandbits(24):06x}" d="M{rng.randint(0, 9)} 2l3.5-1z"/>'
            f"<text>{word(rng)}</text></svg>"
        )
    elif share < 0.5:
        made = (
            f'<!DOCTYPE {root} PUBLIC "-//{word(rng)}//DTD {word(rng)} 1.0//EN" "{word(rng)}.dtd">'
            + made
        )
    begin = rng.choice(
        [
            "",
            '<?xml version="1.0" encoding="UTF-8"?>',
            "<?xml version='1.0'?>\n",
            '<?xml version="1.0" encoding="utf-8" standalone="yes"?>\n',
            f"<!-- {word(rng)} -->\n",
        ]
    )
    return (begin + made).encode("utf8", "replace"), kind


def tree(rng: random.Random, depth: int = 0) -> object:
    """Return a value of JSON."""
    share = rng.random()
    if depth < 3 and share < 0.3:
        return {label(rng): tree(rng, depth + 1) for _ in range(rng.randint(0, 6))}
    if depth < 3 and share < 0.4:
        return [tree(rng, depth + 1) for _ in range(rng.randint(0, 4))]
    if share < 0.6:
        return rng.choice([True, False, None, rng.randint(0, 1 << 31), rng.random(), 0, 1])
    return rng.choice([some(rng), some(rng), moment(rng), word(rng), token(rng), ""])


def label(rng: random.Random) -> str:
    a, b = word(rng, 2, 8), word(rng, 2, 8)
    return rng.choice([a, a, f"{a}_{b}", a + b.title(), f"{a}-{b}", f"{a}.{b}", f"@{a}", f"${a}"])


def tensor(rng: random.Random) -> Body:
    """Return a body of an inference server."""
    shape = [rng.randint(1, 3) for _ in range(rng.randint(1, 3))]
    numbers = np.random.default_rng(rng.getrandbits(32)).normal(size=shape).round(4)
    data = numbers.tolist()
    flat = numbers.reshape(-1).tolist()
    a = word(rng)
    types = {"FP32": flat, "INT64": [int(9 * each) for each in flat], "BYTES": [some(rng)]}
    which = rng.choice(list(types))
    body: object = rng.choice(
        [
            {a: data},
            {a: data, word(rng): rng.randint(0, 9)},
            {"instances": data},
            {"inputs": {a: data}, "signature_name": "serving_default"},
            {"text": [english(rng)[:200]], "top_k": 5},
            {
                "id": token(rng),
                "inputs": [{"name": a, "shape": shape, "datatype": which, "data": types[which]}],
                "outputs": [{"name": word(rng), "parameters": {"binary_data": True}}],
            },
            {
                "model": f"{word(rng)}/{word(rng)}-{rng.randint(1, 99)}b",
                "messages": [
                    {"role": role, "content": rng.choice([english(rng), prose(rng)])}
                    for role in ("system", "user")
                ],
                "temperature": 0.7,
                "stream": rng.random() < 0.5,
                "tools": [{"type": "function", "function": {"name": word(rng), "parameters": {}}}],
            },
            {
                "prompt": prose(rng),
                "max_tokens": rng.randint(1, 999),
                "stop": ["\n", "</s>", "###"],
            },
            {"input": [prose(rng)], "model": word(rng), "encoding_format": "float"},
        ]
    )
    return json.dumps(body).encode(), b"application/json"


def api(rng: random.Random) -> Body:
    """Return a body of JSON as APIs take it."""
    a, b, n = word(rng), word(rng), rng.randint(0, 99)
    body: object = rng.choice(
        [
            *(tree(rng), {label(rng): tree(rng) for _ in range(rng.randint(1, 8))}),
            {"jsonrpc": "2.0", "method": f"{a}.{b}", "params": tree(rng), "id": n},
            {
                "query": {"bool": {"must": [{"match": {a: b}}, {"range": {b: {"gte": n}}}]}},
                "size": n,
            },
            {"query": {"query_string": {"query": f"{a}:{b} AND {b}:*"}}, "sort": [{a: "desc"}]},
            {"filter": {a: {"eq": b}, "$or": [{a: {"contains": b}}]}, "limit": n},
            {"$set": {a: b}, "$inc": {b: n}},
            {"type": "FeatureCollection", "features": [{"geometry": {"coordinates": [n, 1.5]}}]},
            {"apiVersion": "v1", "kind": a.title(), "metadata": {"name": b, "labels": {a: b}}},
            {"op": "replace", "path": f"/{a}/{n}/{b}", "value": tree(rng)},
            [{"op": "add", "path": f"/{a}/-", "value": b}, {"op": "remove", "path": f"/{b}"}],
            {"db": a, "q": f"SELECT * FROM {b}", "params": {a: b}},
            {"uri": rng.choice([f"sqlite:///{a}/{b}.db", f"postgresql://{a}:{b}@db:5432/{a}"])},
            {"command": [a, f"--{b}={n}"], "args": ["sh", "-c", a], "env": {a.upper(): b}},
            {
                "url": f"https://{a}.com/{b}",
                "callback": f"http://localhost:{n}000/{a}",
                "events": ["*"],
            },
            {"key": f"ssh-rsa AAAAB3NzaC1yc2E{token(rng)} {a}@{b}", "title": a},
            {
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Action": f"{a}:*", "Resource": "*"}],
            },
            {"certificate": f"-----BEGIN CERTIFICATE-----\n{token(rng)}\n-----END"},
            {"ref": f"refs/heads/{a}", "commits": [{"id": token(rng), "message": english(rng)}]},
            {"regex": f"^{a}.*{b}$", "path": f"/{a}/*", "include": [f"**/*.{b}"], "exec": n},
            {"config": tree(rng), "settings": tree(rng), "system": a, "admin": n > 50},
            {"id": n, "jobs": {"script": [f"{a} install", f"{a} test"], "image": f"{a}:{n}"}},
        ]
    )
    text = json.dumps(body, indent=rng.choice([None, None, 2, 4]), ensure_ascii=rng.random() < 0.5)
    kind = rng.choice(
        [
            b"application/json",
            b"application/json",
            b"application/json; charset=utf-8",
            b"application/vnd.api+json",
            b"application/vnd." + a.encode() + b".v1+json",
            b"text/plain",
            b"application/merge-patch+json",
            b"application/ld+json",
            b"application/x-amz-json-1.1",
        ]
    )
    return text.encode("utf8", "replace"), kind


def lines(rng: random.Random) -> Body:
    """Return a body of lines: of measurements, commands, values, or an archive."""
    a, b, n = word(rng), word(rng), rng.randint(0, 99)
    count = rng.randint(1, 6)
    made = rng.choice(
        [
            "\n".join(
                f"{a},{b}={word(rng)} {word(rng)}={n}i,f=2.0 15778{n:08}" for _ in range(count)
            ),
            "\n".join(f'{a}_{b}{{{word(rng)}="{word(rng)}"}} {n}.5' for _ in range(count)),
            "\n".join(json.dumps({"index": {"_id": n}}) for _ in range(count)) + "\n",
            "\n".join(",".join(word(rng) for _ in range(5)) for _ in range(count)),
            f"BEGIN:VCALENDAR\nVERSION:2.0\nBEGIN:VEVENT\nSUMMARY:{b}\nEND:VEVENT\nEND:VCALENDAR\n",
            *(f"0032want {token(rng, '0123456789abcdef')}\n0000", f"{a}.{b}:{n}|c|#env:prod"),
            f"SELECT {a} FROM {b} FORMAT JSON",
            f'import "{a}"\n{b} |> yield()',
            f"{a}: {n}\n{b}:\n  - x\n",
            *(f"@prefix {a}: <http://{b}.org/> .\n{a}:{b} a {a}:{word(rng)} .", f"{a}\t{b}\t{n}\n"),
        ]
    )
    if rng.random() < 0.2:
        return a.encode() + b"\0" * 100 + b"0000644\0ustar\0" + rng.randbytes(
            300
        ), b"application/x-tar"
    kind = rng.choice(
        [
            b"text/plain",
            b"text/plain; charset=utf-8",
            b"application/octet-stream",
            b"text/csv",
            b"application/x-www-form-urlencoded",
            b"application/x-ndjson",
            b"application/yaml",
            b"",
        ]
    )
    return made.encode("utf8", "replace"), kind


def form(rng: random.Random) -> Body:
    a, n = word(rng), rng.randint(0, 99)
    pairs = [(label(rng), some(rng)) for _ in range(rng.randint(1, 8))]
    pairs += rng.choice(
        [
            [],
            [("utf8", "✓"), ("authenticity_token", token(rng) + "==")],
            [
                ("__VIEWSTATE", token(rng) + "/+="),
                ("__EVENTTARGET", f"ctl00${a}$btn"),
                (f"ctl00${a}", ""),
            ],
            [("csrfmiddlewaretoken", token(rng)), ("_method", "PATCH"), (f"{a}[{n}][name]", a)],
            [
                ("grant_type", "authorization_code"),
                ("code", token(rng)),
                ("redirect_uri", f"https://{a}.com/cb"),
            ],
            [("cmd", "_notify-validate"), ("txn_id", token(rng)), ("mc_gross", "19.95")],
            [("Action", f"Describe{a.title()}"), ("Filter.1.Name", a), ("Version", "2016-11-15")],
            [
                ("draw", "1"),
                ("columns[0][data]", a),
                ("order[0][dir]", "asc"),
                ("search[value]", ""),
            ],
            [
                ("expand[]", f"data.{a}"),
                ("metadata[order_id]", str(n)),
                ("items[0][price]", f"price_{a}"),
            ],
        ]
    )
    made = "&".join(f"{quote_plus(a)}={quote_plus(b)}" for a, b in pairs)
    return made.encode(), b"application/x-www-form-urlencoded"


BODIES: tuple[tuple[Callable[[random.Random], Body], int], ...] = (
    (xml, 10),
    (api, 10),
    (tensor, 4),
    (lines, 4),
    (form, 5),
)


def with_body(base: Request, rng: random.Random) -> Request:
    """Return a request like another one with a body that is made up."""
    make = rng.choices([each for each, _ in BODIES], [weight for _, weight in BODIES])[0]
    body, kind = make(rng)
    method = rng.choice(["POST", "POST", "POST", "PUT", "PATCH", "PROPFIND", "DELETE"])
    return replace(base.with_header(b"Content-Type", kind), method=method, body=body)


def authorization(rng: random.Random) -> str:
    """Return credentials as clients send them, and as documentation writes them."""
    a, b, secret = word(rng), word(rng), token(rng)
    return rng.choice(
        [
            *(f"Bearer {secret}", f"bearer {secret}.{token(rng)}.{token(rng)}", f"token {secret}"),
            f"Basic {b64encode(rng.randbytes(rng.randint(3, 90))).decode()}",
            f"Basic {b64encode(rng.randbytes(rng.randint(3, 90))).decode()}",
            f"Basic {b64encode(f'{a}:{password(rng)}'.encode()).decode()}",
            f"Basic {b64encode(f'{a}@{b}.com:{secret}'.encode()).decode()}",
            *(f"ApiKey {secret}", f"Key {secret}", f"{secret}", f"{a} {secret}", f"{a}:{secret}"),
            *(
                f"Bearer ${{{a.upper()}_TOKEN}}",
                f"Bearer $({a} -{b[0]} .{b} {a}/{b})",
                f"Bearer <{a}>",
            ),
            *(f"Bearer {{{{{a}}}}}", f"Bearer YOUR_{a.upper()}_TOKEN", f'Token token="{secret}"'),
            f'{a.title()} key="{secret}", signature="{token(rng)}=", headers="host date"',
        ]
    )


def header(rng: random.Random) -> tuple[bytes, bytes]:
    """Return a header that clients send."""
    a, b, n, hexes = word(rng), word(rng), rng.randint(0, 99), "0123456789abcdef"
    name, value = rng.choice(
        [
            (
                "Accept",
                rng.choice(
                    ["*/*", "application/json, text/plain, */*", f"application/vnd.{a}+json;q=0.9"]
                ),
            ),
            (
                "Accept",
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
            ),
            ("Accept-Language", rng.choice(["en-US,en;q=0.5", "de", "fr-CH, fr;q=0.9, *;q=0.5"])),
            ("sec-ch-ua", f'"Not/A)Brand";v="{n}", "Chromium";v="1{n}", "{a.title()}";v="1{n}"'),
            ("sec-ch-ua-platform", rng.choice(['"Windows"', '"macOS"', '"Linux"'])),
            (
                "If-None-Match",
                rng.choice([f'W/"{token(rng, hexes)}"', f'"{token(rng, hexes)}"', "*"]),
            ),
            ("If-Modified-Since", f"Wed, {n % 28 + 1:02} Oct 2015 07:28:00 GMT"),
            ("Range", f"bytes={n}-{n * 100}"),
            ("Authorization", f"Bearer {token(rng)}.{token(rng)}.{token(rng)}"),
            ("Authorization", f"token {token(rng)}"),
            ("Authorization", f"Basic {b64encode(rng.randbytes(rng.randint(6, 60))).decode()}"),
            ("Authorization", f"Basic {b64encode(f'{a}:{password(rng)}'.encode()).decode()}"),
            ("Authorization", f"{a.title()} {b}={token(rng)}, {a}={token(rng)}=="),
            (
                "Authorization",
                f'Digest username="{a}", realm="{b}", nonce="{token(rng)}", uri="/{a}"',
            ),
            (
                "Authorization",
                f"AWS4-HMAC-SHA256 Credential={token(rng)}/20240101/us-east-1/{a}/aws4_request, "
                f"SignedHeaders=host;x-amz-date, Signature={token(rng, hexes)}",
            ),
            (
                "Authorization",
                f'OAuth oauth_consumer_key="{token(rng)}", oauth_nonce="{token(rng)}"',
            ),
            ("traceparent", f"00-{rng.getrandbits(128):032x}-{rng.getrandbits(64):016x}-01"),
            ("tracestate", f"{a}=t{token(rng, hexes)},{b}={token(rng)}"),
            (
                "Referer",
                f"https://{a}.com/{b}/{rng.choice(['', a, f'?q={a}+{b}&page={n}', '#' + b])}",
            ),
            ("Origin", f"https://{a}.{b}.com"),
            ("X-Forwarded-For", f"{n}.{n}.0.{n}, 10.0.0.{n}"),
            ("X-Forwarded-For", f"2001:db8::{n}"),
            ("X-Forwarded-Host", f"{a}.{b}.com:8443"),
            ("Forwarded", f'for=192.0.2.{n};proto=http;by="[2001:db8::{n}]"'),
            ("Via", f"1.1 {a}, 1.1 {b} (Apache/1.1)"),
            ("X-Request-Id", token(rng)),
            ("X-Requested-With", "XMLHttpRequest"),
            ("X-CSRF-Token", token(rng) + "=="),
            ("SOAPAction", rng.choice([f'"http://{a}.org/{b}#{a}"', f"urn:{a}#{b}", '""'])),
            ("Prefer", f"return=representation; {a}={n}"),
            ("Cache-Control", f"max-age={n}, no-cache"),
            ("Link", f'<https://{a}.com/{b}>; rel="next"'),
            ("X-GitHub-Api-Version", moment(rng)[:10]),
            ("X-Amz-Target", f"{a.title()}_2012.{b.title()}"),
            ("Content-Disposition", f'attachment; filename="{a} {b}.pdf"'),
            ("Depth", "1"),
            ("Destination", f"https://{a}.com/dav/{b}%20{n}.txt"),
            ("X-Client-Info", json.dumps({a: b, "v": n})),
            (
                "X-Stripe-Client-User-Agent",
                json.dumps({"lang": "python", a: b, "uname": f"Linux {a} #1 SMP"}),
            ),
            (f"X-{a.title()}-{b.title()}", some(rng).encode("ascii", "replace").decode()),
        ]
    )
    return name.encode(), value.replace("\n", " ").replace("\r", " ").encode("utf8", "replace")


def cookies(rng: random.Random) -> tuple[bytes, bytes]:
    """Return a header with the cookies of a browser."""
    a, n = word(rng), rng.randint(1, 1 << 31)
    all_of_them = [
        f"_ga=GA1.2.{n}.{n}",
        f"_ga_{token(rng)[:10].upper()}=GS1.1.{n}.1.0.{n}.0.0.0",
        f"_fbp=fb.1.{n}.{n}",
        f"PHPSESSID={token(rng)}",
        f"JSESSIONID={token(rng)}.{a}",
        f"session=.{token(rng)}.{token(rng)}",
        f"connect.sid=s%3A{token(rng)}.{quote(token(rng))}%2B",
        f"csrftoken={token(rng)}",
        f"ASP.NET_SessionId={token(rng)}",
        f".ASPXAUTH={token(rng)}",
        f"wordpress_logged_in_{token(rng)}={a}%7C{n}%7C{token(rng)}",
        "OptanonConsent=isGpcEnabled=0&datestamp=Mon+Jan+01+2024&groups=C0001%3A1%2CC0002%3A0",
        f"cart={quote(json.dumps({'items': [{'id': n, 'name': word(rng)}], 'total': 9.5}))}",
        f"prefs={quote(json.dumps({a: word(rng)}))}",
        f"laravel_session={quote(opaque(rng))[:200]}",
        f"AWSALB={token(rng)}/+{token(rng)}",
        f"__utma={n}.{n}.{n}.1",
        f"__utmz={n}.{n}.1.1.utmcsr=(direct)|utmccn=(direct)|utmcmd=(none)",
        f"lang={rng.choice(['en', 'de-DE', 'pt_BR'])}",
        f"tz=Europe/{a.title()}",
        f"theme=dark; last_visit={moment(rng)}",
        f'{a}="{word(rng)}:{n}"',
        f"{a}={quote(some(rng))}",
        f"{rng.choice(NAMES)}={quote(some(rng))}",
        f"{rng.choice(NAMES)}={slug(rng)}",
        f"{rng.choice(NAMES)}={token(rng)}",
        "cookieconsent_status=dismiss",
        f"_hjSession_{n}={token(rng)}==",
    ]
    chosen = rng.sample(all_of_them, rng.randint(1, 8))
    return b"Cookie", "; ".join(chosen).encode("ascii", "replace")


def dressed(request: Request, rng: random.Random) -> Request:
    """Return the request with some more headers, and perhaps cookies."""
    headers = list(request.headers)
    names = {name.lower() for name, _ in headers}
    more = [header(rng) for _ in range(rng.choice([0, 1, 2, 4]))]
    if rng.random() < 0.6:
        # those in which attacks are put have normal values, too
        value = rng.choice([slug, slug, word, address, opaque, structured, token])(rng)[:200]
        value = rng.choice(["", "", f"{word(rng)} "]) + value.replace("\n", " ")
        name = rng.choice([each for each in HEADERS if each != b"User-Agent"])
        more.append((name, value.encode("utf8", "replace")))
    if rng.random() < 0.3:
        more.append(cookies(rng))
    headers += [each for each in more if each[0].lower() not in names]
    if rng.random() < 0.3:
        # recorded ones are of a few kinds, and their secrets were replaced
        headers = [each for each in headers if each[0].lower() != b"authorization"]
        headers.append((b"Authorization", authorization(rng).encode("ascii", "replace")))
    return replace(request, headers=headers)
