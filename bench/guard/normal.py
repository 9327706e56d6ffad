"""Normal values and requests of the kinds that are like attacks, or that recordings lack.

Prose in many languages, names and addresses are made by Faker (MIT). Code is that of Python's
standard library (PSF) and of templates below.
"""

import base64
import json
import random
import string
import sysconfig
from functools import cache
from pathlib import Path

from faker import Faker

LOCALES = (
    *("en_US", "en_GB", "en_IE", "de_DE", "fr_FR", "es_ES", "it_IT", "pt_BR", "nl_NL", "pl_PL"),
    *("ru_RU", "ja_JP", "zh_CN", "ar_SA", "tr_TR", "el_GR", "he_IL", "ko_KR", "cs_CZ"),
)
CODE_NAMES = [
    "code",
    "source",
    "snippet",
    "content",
    "body",
    "script",
    "html",
    "template",
    "patch",
    "diff",
    "text",
    "description",
    "markdown",
    "query",
    "sql",
    "expression",
    "formula",
    "css",
    "notes",
    "readme",
    "cell",
    "input",
    "data",
    "message",
    "prompt",
    "file",
]
ENDINGS = (
    *(
        "war",
        "jar",
        "mar",
        "pt",
        "onnx",
        "zip",
        "tar.gz",
        "whl",
        "rb",
        "php",
        "py",
        "js",
        "ts",
        "sh",
    ),
    *(
        "pdf",
        "docx",
        "xlsx",
        "csv",
        "json",
        "yaml",
        "yml",
        "xml",
        "html",
        "txt",
        "md",
        "log",
        "sql",
    ),
    *("png", "jpg", "mp4", "wav", "bin", "db", "conf", "ini", "env", "lock", "toml", "bak", "exe"),
)
TEXT_NAMES = [
    "comment",
    "message",
    "text",
    "title",
    "subject",
    "bio",
    "about",
    "name",
    "q",
    "search",
    "query",
    "description",
    "summary",
    "note",
    "review",
    "feedback",
    "address",
    "company",
    "prompt",
    "content",
    "reply",
    "question",
    "answer",
    "label",
    "caption",
]
APOSTROPHES = [
    "O'Neil",
    "O'Brien",
    "D'Angelo",
    "d'Arc",
    "L'Oréal",
    "Levi's",
    "McDonald's",
    "N'Djamena",
    "Coeur",
    "d'Alene",
    "Ka'anapali",
    "it's",
    "don't",
    "can't",
    "you're",
    "we'll",
    "they've",
    "rock'n'roll",
    "o'clock",
    "'twas",
    "ma'am",
    "y'all",
]
WORDS = [
    "select",
    "from",
    "where",
    "union",
    "insert",
    "update",
    "delete",
    "drop",
    "table",
    "order",
    "by",
    "group",
    "having",
    "join",
    "and",
    "or",
    "not",
    "like",
    "in",
    "script",
    "alert",
    "document",
    "cookie",
    "window",
    "eval",
    "exec",
    "system",
    "cat",
    "ls",
    "id",
    "whoami",
    "ping",
    "curl",
    "wget",
    "bash",
    "sh",
    "cmd",
    "powershell",
    "etc",
    "passwd",
    "admin",
    "root",
    "null",
    "sleep",
    "benchmark",
    "include",
    "require",
    "echo",
    "print",
    "user",
    "version",
    "database",
    "schema",
    "column",
    "file",
    "path",
    "template",
    "config",
    "class",
    "import",
    "open",
    "read",
    "write",
    "kill",
    "sort",
    "head",
    "tail",
    "find",
    "grep",
    "more",
    "less",
    "time",
    "date",
    "host",
    "net",
    "set",
    "get",
    "env",
    "test",
]


@cache
def faker(locale: str) -> Faker:
    return Faker(locale)


def fake(rng: random.Random, locale: str | None = None) -> Faker:
    made = faker(locale or rng.choice(LOCALES))
    made.seed_instance(rng.getrandbits(32))
    return made


@cache
def sources() -> tuple[str, ...]:
    """Return files of the standard library."""
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    return tuple(path.read_text(encoding="utf-8", errors="replace") for path in paths)


def lines(text: str, rng: random.Random, most: int) -> str:
    all_lines = text.splitlines()
    count = rng.randint(1, most)
    begin = rng.randrange(max(1, len(all_lines) - count))
    return "\n".join(all_lines[begin : begin + count])


def word(rng: random.Random, least: int = 3, most: int = 12) -> str:
    return "".join(rng.choices("etaoinshrdlcumwfgypbvk", k=rng.randint(least, most)))


def token(rng: random.Random, alphabet: str = string.ascii_letters + string.digits + "-_") -> str:
    return "".join(rng.choices(alphabet, k=rng.randint(8, 80)))


def prose(rng: random.Random) -> str:
    return fake(rng).text(max_nb_chars=rng.choice([20, 60, 200, 900]))


def english(rng: random.Random) -> str:
    """Return sentences with words that are also those of attacks."""
    made = [
        rng.choice(WORDS) if rng.random() < 0.3 else rng.choice(faker("en_US").words(8))
        for _ in range(rng.randint(3, 30))
    ]
    for _ in range(rng.randint(0, 4)):
        at = rng.randrange(len(made))
        made[at] = rng.choice(
            [
                *(made[at] + sign for sign in ".,;:!?)"),
                f"({made[at]})",
                f'"{made[at]}"',
                f"'{made[at]}'",
                f"{made[at]} -",
                f"{made[at]} & {word(rng)}",
                f"#{made[at]}",
                f"@{made[at]}",
                rng.choice(APOSTROPHES),
                f"{rng.randint(1, 99)}%",
                f"${rng.randint(1, 999)}",
                f"<3 {made[at]}",
                f"{made[at]} -> {word(rng)}",
                f"{rng.randint(1, 9)} < {rng.randint(1, 9)}",
                f"https://{word(rng)}.com/{word(rng)}?a={rng.randint(1, 9)}",
            ]
        )
    return " ".join(made)


def person(rng: random.Random) -> str:
    made = fake(rng)
    return rng.choice(
        [
            *(made.name(), f"{made.first_name()} {made.last_name()}"),
            f"{fake(rng, 'en_US').first_name()} {fake(rng, 'en_US').last_name()}",
            f"{made.first_name()} {rng.choice(APOSTROPHES)}",
            made.address().replace("\n", rng.choice(["\n", ", ", "; "])),
            made.company() + rng.choice(["", " & Co.", " (Ltd.)", " - Sons"]),
            made.email(),
            f'"{made.name()}" <{made.ascii_email()}>',
            made.phone_number(),
            f"{made.city()} ({made.country()})",
            street(rng),
            street(rng),
        ]
    )


def street(rng: random.Random) -> str:
    """Return a line of an address as people abbreviate it."""
    name = " ".join(word(rng) for _ in range(rng.randint(1, 3)))
    name = rng.choice([name, name.title(), fake(rng).last_name()])
    n = rng.randint(1, 300)
    way = rng.choice(
        ["c/", "C/", "c/ ", "calle ", "Avda. ", "av/", "pl. ", "str. ", "ul. ", "r. ", ""]
    )
    number = rng.choice(
        [
            f"{n}",
            f"{n}, ",
            f", {n}",
            f"{n}, {n % 9}-{rng.choice('abcdh')}",
            f"{n} {n % 9}º",
            "s/n",
            "S/N, ",
            f"n/a {n}",
            f"{n}/{n % 9}",
            f"#{n}",
            f"{n}{rng.choice('ab')}, apt. {n % 9}",
        ]
    )
    return rng.choice([f"{way}{name} {number}", f"{n} {name} St.", f"c/o {name}", f"w/o {name}"])


def formula(rng: random.Random) -> str:
    a, b, n = word(rng, 1, 4), word(rng, 1, 4), rng.randint(0, 99)
    return rng.choice(
        [
            f"=SUM({a.upper()}1:{b.upper()}{n})",
            f'=IF({a.upper()}{n}>0,"yes","no")',
            f"{a}^2 + {n}*{b} = (x-1)/(y+2)",
            f"f(x) = sin({a}) * exp(-{n}/x)",
            f"\\frac{{{a}}}{{{b}}} \\le \\sum_{{i=1}}^{{{n}}} x_i",
            f"{n} < {a} && {b} >= {n}",
            f"rate({a}_total{{job=~'{b}.*'}}[5m]) > 0.{n}",
            f"{a}[{n}].{b} != null",
            f"{n}/{rng.randint(1, 12)}/2024",
            f"C{n}H{n}O{n} + O2 -> CO2",
        ]
    )


def search(rng: random.Random) -> str:
    a, b, n = word(rng), word(rng), rng.randint(0, 99)
    return rng.choice(
        [
            f'"{a} {b}" -{word(rng)} site:{a}.com',
            f"({a} OR {b}) AND NOT {word(rng)}",
            f"title:({a} {b})^2 +{a}~1 -{b}",
            f"{a}:>{n} {b}:<={n} sort:updated-desc",
            f"is:open label:bug author:{a} {b}",
            f"{a} eq '{b}' and {b} gt {n}",
            f"startswith({a},'{b}') or contains(tolower({a}),'{b}')",
            f"$filter={a} eq {n}&$orderby={b} desc",
            f'({a}=={n} and {b}="{a}*") sortby {a}',
            f"{a}:[{n} TO {n + 9}] AND {b}:{a}*",
            f"{a} {b}'s {word(rng)}?",
            f"{a}*{b}? {n}..{n + 5}",
            f'{{{a}="{b}"}} |= "error" | json',
            f"project = {a.upper()} AND status in (Open, 'In Progress') ORDER BY created",
            f"SELECT {a}, {b} FROM {word(rng)} WHERE {a} = {n}",
            *(f"({a}={b.upper()} and {b}={word(rng)})", f"{a}=()", f"{a}=*", f"({a}={b})"),
            f'({a}=={n}) and ({b}="{word(rng).title()}") sortby {a}/sort.descending',
            f"how to {a} {rng.choice(WORDS)} {b} in {rng.choice(['sql', 'bash', 'php', 'js'])}",
        ]
    )


def log_line(rng: random.Random) -> str:
    made = fake(rng, "en_US")
    return rng.choice(
        [
            f'{made.ipv4()} - - [10/Oct/2023:13:55:36 +0000] "GET /{word(rng)} HTTP/1.1" 200 '
            f'{rng.randint(1, 9999)} "-" "{made.user_agent()}"',
            f"2024-05-0{rng.randint(1, 9)}T12:00:00Z ERROR [{word(rng)}] failed: {word(rng)}="
            f"{rng.randint(0, 9)} ({word(rng)}.{rng.choice(['py', 'js'])}:{rng.randint(1, 99)})",
            f'Traceback (most recent call last):\n  File "/usr/lib/{word(rng)}.py", line 3, in '
            f"<module>\n{word(rng).title()}Error: '{word(rng)}'",
            f"at {word(rng)}.{word(rng)} (/app/node_modules/{word(rng)}/index.js:7:9)",
            f"<{rng.randint(1, 190)}>Oct 11 22:14:15 {word(rng)} su[{rng.randint(1, 99)}]: 'x'",
            f"{word(rng)},host={word(rng)} usage={rng.random():.3f},free={rng.randint(1, 9)}i 16",
        ]
    )


def markup(rng: random.Random) -> str:
    a, b = word(rng), prose(rng)[:120]
    return rng.choice(
        [
            f"<p>{b}</p>",
            f'<div class="{a}"><a href="https://{a}.com/">{b}</a></div>',
            f"<ul>\n<li>{a}</li>\n<li>{word(rng)}</li>\n</ul>",
            f'<h1>{a}</h1><img src="/images/{a}.png" alt="{word(rng)}">',
            f"# {a}\n\n* {b}\n* **{word(rng)}** `{a}()`\n\n```\n{word(rng)} = 1\n```\n",
            f"[{a}](https://{a}.org/{word(rng)}) ![x](y.png)",
            f"{a} <b>{b}</b> &amp; <i>{word(rng)}</i><br/>",
            f".{a} {{ color: #fff; margin: 0 {rng.randint(1, 9)}px; }}",
            f"<svg viewBox='0 0 10 10'><path d='M1 1L{rng.randint(1, 9)} 2z'/></svg>",
            f"<{a}:{word(rng)} xmlns:{a}='urn:{a}'>{b}</{a}:{word(rng)}>",
            f"Hello {{{{ {a} }}}}, {b} {{% if {a} %}}{word(rng)}{{% endif %}}",
            f"Dear ${{{a}}},\n{b}",
            f"<table><tr><td>{a}</td><td>{rng.randint(1, 99)}</td></tr></table>",
        ]
    )


def code(rng: random.Random) -> str:
    a, b, n = word(rng), word(rng), rng.randint(1, 99)
    if rng.random() < 0.4:
        return lines(rng.choice(sources()), rng, 40)
    return rng.choice(
        [
            f"SELECT {a}, COUNT(*) FROM {b} WHERE {a} = '{word(rng)}' GROUP BY {a} LIMIT {n};",
            f"INSERT INTO {a} ({b}) VALUES ('{word(rng)}', {n});\nUPDATE {a} SET {b} = {n};",
            f"CREATE TABLE {a} (id INT PRIMARY KEY, {b} VARCHAR({n}));\nDROP TABLE {b};",
            f"function {a}({b}) {{\n  const x = document.getElementById('{a}');\n"
            f"  if (x.{b} > {n}) {{ console.log(`${{x}}`); }}\n  return eval({b});\n}}",
            f"<script>\n  window.{a} = () => alert('{b}');\n</script>",
            f'#!/bin/bash\nset -e\nfor f in *.{a}; do cat "$f" | grep {b} > /tmp/{a}; done\n',
            f"curl -X POST https://{a}.com/api -d '{{\"{b}\": {n}}}' | jq .\nsudo apt install {a}",
            f"<?php\n$x = $_GET['{a}'];\necho htmlspecialchars($x . \"{b}\");\n?>",
            f"public class {a.title()} {{\n  public static void main(String[] args) {{\n"
            f'    System.out.println("{b}" + {n});\n  }}\n}}',
            f"import os\n\ndef {a}(x):\n    return os.path.join('{b}', x)[:{n}]\n",
            f"apiVersion: v1\nkind: {a.title()}\nmetadata:\n  name: {b}\nspec:\n  replicas: {n}\n",
            f'diff --git a/{a} b/{a}\n@@ -1,{n} +1,{n} @@\n-{a} = 1;\n+{a} = "{b}";\n',
            f'resource "{a}" "{b}" {{\n  count = var.{a} > {n} ? 1 : 0\n}}\n',
            f'FROM python:3\nRUN pip install {a} && rm -rf /var/lib/{b}\nCMD ["{a}"]\n',
            f"^({a}|{b})[a-z0-9]{{1,{n}}}\\.?$",
            f"*/{rng.randint(2, 30)} * * * * /usr/bin/{a} >> /var/log/{b}.log 2>&1",
        ]
    )


def sql(rng: random.Random) -> str:
    """Return a query of a database's own interface, which is a field as a whole."""
    a, b, c, n = word(rng), word(rng), word(rng), rng.randint(1, 99)
    what = rng.choice(["*", a, f"{a}, {b}", f"mean({a})", "count(*)", f"MAX({a}) AS {b}"])
    where = rng.choice(
        [
            "",
            f" WHERE {a} = '{c}'",
            f" WHERE {a}={n} AND {b} > {n}",
            f" WHERE time > now() - {n}h",
            f" WHERE {a} LIKE '%{b}%'",
            f" where {a} in ({n}, {n + 1})",
        ]
    )
    rest = rng.choice(
        [
            "",
            f" LIMIT {n}",
            f" GROUP BY {b}",
            f" ORDER BY {a} DESC limit {n}",
            f" GROUP BY time({n}m), {b}",
            ";",
        ]
    )
    table = rng.choice(
        [b, f'"{b}"', f"{b}.{c}", f"`{b}`", f"information_schema.{b}", f"system.{b}"]
    )
    made = rng.choice(
        [
            f"SELECT {what} FROM {table}{where}{rest}",
            f"SELECT {what} FROM {table}{where}{rest}",
            f"SELECT {what} FROM {table};SELECT {a} FROM {b}{where}",
            f"SHOW {rng.choice(['DATABASES', 'TABLES', 'MEASUREMENTS', 'TAG KEYS FROM ' + a])}",
            f"CREATE DATABASE {a}",
            f"DROP DATABASE {a}",
            f"INSERT INTO {b} ({a}) VALUES ('{c}')",
            f'MATCH (n:{a.title()} {{{b}: "{c}"}}) RETURN n LIMIT {n}',
            f'from(bucket: "{a}") |> range(start: -{n}h) |> filter(fn: (r) => r._field == "{b}")',
            f"FROM {a} IN {b} FILTER {a}.{c} == {n} RETURN {a}",
        ]
    )
    return made.lower() if rng.random() < 0.3 else made


def saml(rng: random.Random) -> str:
    """Return base64 of XML, as single sign-on posts it."""
    a = word(rng)
    xml = (
        f'<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" ID="_{token(rng)}" '
        f'Version="2.0" IssueInstant="2024-01-01T00:00:00Z" Destination="https://{a}.com/acs">'
        f'<saml:Issuer xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion">https://{a}.com/</saml:'
        "Issuer><ds:Signature><ds:SignedInfo><ds:CanonicalizationMethod "
        'Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/></ds:SignedInfo>'
        f"<ds:SignatureValue>{token(rng)}=</ds:SignatureValue></ds:Signature></samlp:Response>"
    )
    declaration = rng.choice(
        ["", '<?xml version="1.0" encoding="utf-8"?>\r\n', '<?xml version="1.0"?>']
    )
    if rng.random() < 0.3:
        return declaration + xml
    return base64.b64encode((declaration + xml).encode()).decode()


def slug(rng: random.Random) -> str:
    """Return a name of several words, as of a project, a bucket, an option or an account."""
    made = [
        rng.choice(WORDS) if rng.random() < 0.3 else rng.choice(faker("en_US").words(8))
        for _ in range(rng.randint(1, 4))
    ]
    first = rng.choice(
        [
            *("get", "set", "new", "add", "start", "stop", "invoke", "read", "write", "test"),
            *("out", "select", "delete", "create", "update", "import", "export", "list", "show"),
        ]
    )
    if rng.random() < 0.4:
        made.insert(0, first)
    name = rng.choice(["-", "-", "_", ".", "/", ":", "+", " "]).join(made)
    n = rng.randint(0, 99)
    return rng.choice(
        [
            *(name, name, name, name.title(), name.upper(), f"{name}-{n}", f"{name}[bot]"),
            *(f"{name}+{n}@example.com", f"{name}...", f"{name}@{n}.0", f"{name}.{n}", f"@{name}"),
            *(f"{name}[{n}]", f"{name}({n})", f"{name}/*", f"{name}={n}", f"--{name}", f"${name}"),
            *("".join(each.title() for each in made), f"{token(rng)}...{token(rng)}="),
        ]
    )


def opaque(rng: random.Random) -> str:
    return rng.choice(
        [
            token(rng),
            token(rng, "0123456789abcdef"),
            base64.b64encode(rng.randbytes(rng.choice([9, 30, 300, 5000]))).decode(),
            "data:image/png;base64,"
            + base64.b64encode(b"\x89PNG\r\n\x1a\n" + rng.randbytes(200)).decode(),
            ".".join(
                base64.urlsafe_b64encode(part).decode().rstrip("=")
                for part in (
                    b'{"alg":"HS256","typ":"JWT"}',
                    json.dumps({"sub": word(rng), "exp": rng.randint(1, 1 << 31)}).encode(),
                    rng.randbytes(32),
                )
            ),
            fake(rng, "en_US").uuid4(),
            f"{rng.randint(0, 255)}.{rng.randint(0, 255)}.{rng.randint(0, 255)}.1",
            base64.b64encode(prose(rng).encode()).decode(),
            f"GA1.2.{rng.randint(1, 1 << 31)}.{rng.randint(1, 1 << 31)}",
            f"v1|{token(rng)}|{rng.randint(1, 1 << 31)}=={word(rng)}&x~y",
            f"${rng.choice(['2b', 'argon2id'])}$12${token(rng)}",
        ]
    )


def address(rng: random.Random) -> str:
    made = fake(rng, "en_US")
    return rng.choice(
        [
            made.url() + made.uri_path(),
            f"https://{made.domain_name()}/{word(rng)}?{word(rng)}={word(rng)}&x=1#a",
            f"../{word(rng)}/{word(rng)}.{rng.choice(['png', 'css', 'html', 'js'])}",
            f"/home/{word(rng)}/{word(rng)}.txt",
            f"C:\\Users\\{word(rng)}\\Documents\\{word(rng)}.docx",
            f"s3://{word(rng)}/{word(rng)}/*.parquet",
            f"http://localhost:{rng.randint(80, 9999)}/{word(rng)}",
            f"postgres://{word(rng)}:{word(rng)}@{word(rng)}:5432/{word(rng)}",
            f"mailto:{made.email()}",
            f"{rng.choice(['ftp', 'sftp', 'ftps', 'tcp', 'ws', 'redis'])}://{made.ipv4()}",
            f"{rng.choice(['ftp', 'http'])}://{made.ipv4()}:{rng.randint(21, 9999)}/{word(rng)}",
            made.file_name(),
            f"{word(rng)}_{word(rng)}.{rng.choice(ENDINGS)}",
            f"{word(rng)}/{word(rng)}-{rng.randint(0, 9)}.{rng.choice(ENDINGS)}",
            f"arn:aws:iam::{rng.randint(1, 1 << 31)}:role/{word(rng)}",
            f"{word(rng)}/{word(rng)}@{rng.randint(0, 9)}.{rng.randint(0, 9)}",
            f"image/webp,*/*;q=0.{rng.randint(1, 9)}",
        ]
    )


def password(rng: random.Random) -> str:
    if rng.random() < 0.5:
        signs = rng.choices("!@#$%^&*()-_=+;:'\",.<>/?", k=rng.randint(1, 2))
        made = [word(rng), str(rng.randint(0, 9999)), *signs]
        rng.shuffle(made)
        return "".join(made)
    return "".join(
        rng.choices(
            string.ascii_letters + string.digits + "!@#$%^&*()-_=+;:'\",.<>/?", k=rng.randint(8, 20)
        )
    )


def structured(rng: random.Random) -> str:
    value = {word(rng): rng.choice([word(rng), rng.randint(0, 99), None, [word(rng)]])}
    return rng.choice(
        [
            json.dumps(value),
            f"{word(rng)}={word(rng)}&{word(rng)}={rng.randint(1, 9)}",
            f'{word(rng)};{word(rng)};{rng.randint(1, 9)}\n{word(rng)};"{word(rng)}";0.5',
            rng.choice(",|;: +~").join(word(rng) for _ in range(rng.randint(2, 12))),
            "|".join(f"{word(rng)}.{word(rng)}.{word(rng)}" for _ in range(rng.randint(2, 20))),
            " ".join(f"{rng.uniform(-180, 180):.4f}" for _ in range(rng.randint(2, 40))),
            f"{word(rng)}:{word(rng)}|{word(rng)}:{rng.randint(1, 9)}",
            f"[{word(rng)}] ({rng.randint(1, 9)}) {{{word(rng)}}}",
            f"{rng.uniform(-90, 90):.5f},{rng.uniform(-180, 180):.5f}",
            f"({word(rng)},{word(rng)})~{word(rng)}!{rng.randint(1, 9)}*",
            f"2024-0{rng.randint(1, 9)}-1{rng.randint(0, 9)}T0{rng.randint(0, 9)}:00:00+02:00",
            word(rng),
            f"-{word(rng)}",
            f"{word(rng)}()",
            f"<{word(rng).upper()}>",
            f"%{word(rng)}%",
            f"${{{word(rng).upper()}}}",
            f":{word(rng)}",
            f"#{rng.getrandbits(24):06x}",
            f"{rng.randint(1, 9)} {word(rng)}, {rng.randint(1, 9)} {word(rng)}",
            f'"{english(rng)[:60]}"',
            " ".join(each.title() for each in faker("en_US").words(rng.randint(2, 3))),
            f"{rng.randint(1, 199)} {rng.randint(1, 99)}th {rng.choice(['Avenue', 'Street'])}",
            f"'{word(rng)}'",
            ",".join(rng.choice("-+!") + word(rng) for _ in range(rng.randint(2, 9))),
            " ".join(f"${rng.choice('abcdefu')} {word(rng)}" for _ in range(rng.randint(2, 6))),
            "|".join(english(rng)[:20] for _ in range(rng.randint(2, 6))),
            f'{english(rng)[:40]}\r\n\r\n"{word(rng)}"',
        ]
    )
