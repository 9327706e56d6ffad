"""Values of normal requests by kind: those of normal.py, documents, and references."""

import base64
import random
from collections.abc import Callable

from normal import (
    CODE_NAMES,
    TEXT_NAMES,
    address,
    code,
    english,
    formula,
    log_line,
    markup,
    opaque,
    password,
    person,
    prose,
    saml,
    search,
    slug,
    sql,
    structured,
    word,
)

SEPARATOR_NAMES = (
    *("separator", "sep", "delimiter", "stop", "stop_sequences", "stopSequences", "quote"),
    *("eos_token", "end", "suffix", "prefix", "escape", "joiner", "thousands", "pattern"),
)
REFERENCE_NAMES = (
    *("path", "pointer", "field", "fields", "doc", "ref", "expression", "key", "selector"),
    *("property", "attribute", "entryId", "from", "to", "source", "target", "url", "origin"),
    *("template", "variable", "input", "condition", "if", "when", "rule", "match"),
)


def page(rng: random.Random) -> str:
    """Return a document of HTML as editors and mails have it, or a part of one."""
    a, b, n = word(rng), prose(rng)[:80], rng.randint(1, 99)
    head = [
        "<meta charset='utf-8'/>",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{a}</title>",
        f'<link rel="stylesheet" href="https://{a}.com/{word(rng)}.css">',
        f"<style>\nbody {{ font: {n}px sans-serif; }}\n.{a} > p {{ color: #{n:06x} }}\n</style>",
        f'<script src="https://cdn.{a}.com/{word(rng)}.min.js"></script>',
        "<!-- " + word(rng) + " -->",
    ]
    body = [
        f"<h{n % 6 + 1}>{b}</h{n % 6 + 1}>",
        f'<p style="margin: {n}px">{b}</p>',
        f'<a href="https://{a}.org/{word(rng)}?id={n}" target="_blank" rel="noopener">{a}</a>',
        f'<img src="{address(rng)}" alt="{word(rng)}" width="{n}" height="{n}"/>',
        f'<table border="0" cellpadding="0"><tr><td align="left">{b}</td></tr></table>',
        f'<form action="/{a}" method="post"><input type="text" name="{word(rng)}"/></form>',
        f'<button class="{a}" type="submit">{word(rng)}</button>',
        f"<ul class='{a}'><li>{word(rng)}</li><li>{b}</li></ul>",
        f"<br/>&nbsp;&copy; {n}",
    ]
    rng.shuffle(head)
    rng.shuffle(body)
    inner = rng.choice(["", "\n"]).join(body[: rng.randint(1, 6)])
    if rng.random() < 0.4:
        return inner
    doctype = rng.choice(["<!DOCTYPE html>", "<!doctype html>", "", "<!DOCTYPE HTML PUBLIC>"])
    lang = rng.choice(["<html>", '<html lang="en">', "<html lang='de' dir='ltr'>"])
    first = "".join(head[: rng.randint(0, 5)])
    return f"{doctype}{lang}<head>{first}</head><body>{inner}</body></html>"


def separator(rng: random.Random) -> str:
    """Return what texts are cut at."""
    signs = rng.choice(
        ["|", ",", ";", ":", "\n", "\n\n", "\t", "#", "`", "*", "-", "=", "~", "/", "&", "'"]
    )
    return rng.choice(
        [
            *(signs, signs, signs * rng.randint(1, 3), f" {signs} ", f"{signs}{signs}{signs}\n"),
            *("</s>", "<|endoftext|>", "<|im_end|>", "[/INST]", "Human:", "\n\nHuman:", "```"),
            *(f"<{word(rng)}>", f"</{word(rng)}>", f"[{word(rng)}]", f"{{{word(rng)}}}"),
        ]
    )


def reference(rng: random.Random) -> str:
    """Return a path into a document, a placeholder, or a name of something to be filled in."""
    a, b, c, n = word(rng), word(rng), word(rng), rng.randint(0, 99)
    d, e = (
        each if rng.random() < 0.6 else rng.choice(["id", "sys", "env", "config", "user", "data"])
        for each in (a, b)
    )
    return rng.choice(
        [
            *(
                f"/{d}/{e}/{c}",
                f"/{a}/{n}",
                f"#/{a}/{b}",
                f"$.{d}.{e}[{n}]",
                f"$..{a}",
                f"$.{a}[*]",
            ),
            *(f"{d}.{e}.{c}", f"{d}.{a}.{d}.{e}", f"{a}[{n}].{b}", f"{a}/{b}/{c}", f"{a}::{b}"),
            *(
                f"{{ /{a}/{d}/{e} }}",
                f"{{{a}}}",
                f"{{{{{a}}}}}",
                f"{{{{ {a}.{b} }}}}",
                f"${{{a}.{b}}}",
            ),
            *(f"${a.upper()}", f"${{{a.upper()}_{b.upper()}}}", f"%{a.upper()}%", f"<{a}-{b}>"),
            *(f"YOUR_{a.upper()}", f"MY_{a.upper()}_NAME", f"<{a.upper()}_{b.upper()}>", f"[{a}]"),
            *(
                f"http://YOUR_{a.upper()}",
                f"https://<{a}>.{b}.com",
                f"http://{a.upper()}_{b.upper()}",
            ),
            *(f"@{a}/{b}", f"@{{{a}}}", f":{a}", f"^{a}", f"~{a}", f"!{a}", f"*.{a}", f"**/*.{a}"),
            *(
                f"${{__{a[0].upper()}({b}_{n})}}",
                f"${{__{a}(1,{n})}}",
                f"{{{{${a}}}}}",
                f"{{%{a}%}}",
            ),
            *(f"{a} == '{b}'", f"{a} > {n}", f"{a} != null", f"{a} in ['{b}', '{c}']", f"!{a}"),
            *(f"{a}:{b}={c}", f"{a}?.{b}", f"{a}|{b}"),
        ]
    )


def pdf(rng: random.Random) -> bytes:
    """Return something like a file of PDF: objects in text, with compressed streams."""
    made, font = (
        [b"%PDF-1.", str(rng.randint(3, 7)).encode(), b"\n%\xe2\xe3\xcf\xd3\n"],
        word(rng).upper(),
    )
    for number in range(1, rng.randint(3, 12)):
        entries = [
            *("/Type /Page", "/Type /Catalog", "/Type /Font /Subtype /TrueType", "/Type /Pages"),
            *(f"/BaseFont /{font[:6]}+HelveticaNeue-Light", f"/Parent {number} 0 R", "/Count 1"),
            *("/MediaBox [0 0 612 792]", f"/Contents {number + 1} 0 R", "/Filter /FlateDecode"),
            "/Resources << /ProcSet [ /PDF /Text /ImageC ] /ColorSpace << /Cs1 5 0 R >> >>",
            *(f"/Length {rng.randint(9, 9999)}", "/Encoding /MacRomanEncoding", "/FirstChar 32"),
            *(
                f"/Widths [ {' '.join(str(rng.randint(0, 999)) for _ in range(30))} ]",
                f"/S /{font}",
            ),
            *(f"/FontDescriptor {number} 0 R", f"/Producer (macOS Quartz {font})", "/Linearized 1"),
        ]
        made.append(f"{number} 0 obj\n<< {' '.join(rng.sample(entries, 5))} >>\n".encode())
        if rng.random() < 0.5:
            made += [b"stream\nx\x01", rng.randbytes(rng.randint(20, 2000)), b"\nendstream\n"]
        made.append(b"endobj\n")
    return b"".join(made) + b"xref\n0 6\n0000000000 65535 f \ntrailer\n<< /Size 6 >>\n%%EOF\n"


def document(rng: random.Random) -> str:
    """Return a file of PDF in base64."""
    return base64.b64encode(pdf(rng)).decode()


# how often each kind is made, and where it is put by preference
KINDS: tuple[tuple[Callable[[random.Random], str], int, tuple[str, ...]], ...] = (
    (prose, 5, tuple(TEXT_NAMES)),
    (english, 8, tuple(TEXT_NAMES)),
    (person, 4, tuple(TEXT_NAMES)),
    (formula, 2, ()),
    (search, 4, ("q", "query", "search", "filter", "$filter", "jql", "where", "term", "s")),
    (log_line, 2, ("log", "message", "line", "error", "stack", "text")),
    (markup, 4, tuple(CODE_NAMES)),
    (page, 4, (*CODE_NAMES, "srcdoc", "page", "email", "signature", "footer", "header")),
    (separator, 3, SEPARATOR_NAMES),
    (reference, 4, REFERENCE_NAMES),
    (code, 5, tuple(CODE_NAMES)),
    (sql, 4, ("q", "query", "sql", "statement", "stmt", "command", "cypher", "flux", "aql")),
    (document, 1, ("data", "file", "content", "document", "attachment")),
    (saml, 1, ("SAMLResponse", "SAMLRequest", "wresult", "xml", "assertion", "request")),
    (opaque, 4, ()),
    (slug, 5, ()),
    (address, 3, ()),
    (password, 2, ("password", "pass", "pwd", "secret", "new_password")),
    (structured, 5, ()),
)


def value(rng: random.Random) -> tuple[str, str, tuple[str, ...]]:
    """Return a value, its kind, and names of fields that hold such values."""
    make, _, names = rng.choices(KINDS, [weight for _, weight, _ in KINDS])[0]
    return make(rng), make.__name__, names
