"""Builds the site of the documentation from pages that are also readable in the repository.

mkdocs calls these hooks (mkdocs.yml). Links in the pages lead to files of the repository. Those
that are not in docs/, for example configurations and examples, become pages of the site as well,
below `files/`.
"""

import posixpath
import re
from pathlib import Path

from markdown import Extension
from mkdocs.structure.files import File, InclusionLevel

ROOT = Path(__file__).resolve().parents[1]

LANGUAGES = {
    ".c": "c",
    ".conf": "nginx",
    ".css": "css",
    ".html": "html",
    ".ipynb": "json",
    ".json": "json",
    ".lua": "lua",
    ".md": "markdown",
    ".py": "python",
    ".sh": "sh",
    ".toml": "toml",
    ".yaml": "yaml",
}

PICTURES = (".jpg", ".png", ".svg")

# `](address)` or `](address#anchor)`, and a fenced block, whose content has no links
LINKS = re.compile(r"^```.*?^```|(\]\()([^)#\s]+)((?:#[^)\s]*)?\))", re.M | re.S)


class ShortIndents(Extension):
    """Lists within lists are indented by two spaces, as in CommonMark."""

    def extendMarkdown(self, md):
        """Set the width of an indent."""
        md.tab_length = 2


def page_of(path):
    """Return the page of a file of the repository, by its path from the root."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path.endswith((".md", *PICTURES)):
        return f"files/{path}"
    return f"files/{path}.md"


def targets(path, text):
    """Yield the files that a text links to, by their paths from the root."""
    for match in LINKS.finditer(text):
        link = match[2]
        if link and not re.match(r"\w+:", link):
            yield posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def with_links_of_site(path, text):
    """Return a text whose links lead to pages of the site."""
    here = posixpath.dirname(page_of(path))

    def change(match):
        link = match[2]
        if not link or re.match(r"\w+:", link):
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
        return match[1] + posixpath.relpath(page_of(target), here or ".") + match[3]

    return LINKS.sub(change, text)


def text_of(path):
    """Return a file of the repository as the text of a page."""
    source = ROOT / path
    if source.suffix == ".md":
        return with_links_of_site(path, source.read_text())
    if source.is_dir():
        names = sorted(entry.name for entry in source.iterdir() if entry.suffix in LANGUAGES)
        lines = [f"- [{name}]({posixpath.basename(path)}/{name}.md)" for name in names]
        return "\n".join([f"# {path}", "", *lines, ""])
    language = LANGUAGES.get(source.suffix, "text")
    return f"# {path}\n\n````{language}\n{source.read_text()}````\n"


def on_config(config):
    """Read lists as the repository shows them."""
    config.markdown_extensions.append(ShortIndents())
    return config


def on_files(files, config):
    """Add a page for each file outside of docs/ that a page links to."""
    waiting = [
        target
        for file in files.documentation_pages()
        for target in targets(f"docs/{file.src_uri}", file.content_string)
    ]
    seen = set()
    while waiting:
        path = waiting.pop()
        source = ROOT / path
        # what is not there stays a link that mkdocs warns of
        if path in seen or path.startswith(("docs/", "..")) or not source.exists():
            continue
        seen.add(path)
        if source.suffix in PICTURES:
            files.append(File.generated(config, page_of(path), abs_src_path=str(source)))
            continue
        if source.suffix == ".md":
            waiting += targets(path, source.read_text())
        elif source.is_dir():
            waiting += [f"{path}/{e.name}" for e in source.iterdir() if e.suffix in LANGUAGES]
        text = "---\nsearch:\n  exclude: true\n---\n\n" + text_of(path)
        level = InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, page_of(path), content=text, inclusion=level))
    return files


def docstring(match):
    """Return what mkdocstrings replaces by a docstring, with the members that are named."""
    lines = [f"::: {match[1]}"]
    if match[2]:
        lines += ["    options:", f"      members: [{', '.join(match[2].split())}]"]
    return "\n".join(lines)


def on_page_markdown(markdown, page, **_):
    """Let links lead to pages of the site, and put docstrings in place of their first line."""
    path = page.file.src_uri
    if not path.startswith("files/"):
        markdown = with_links_of_site(f"docs/{path}", markdown)
    pattern = r"^.+\n\n<!-- docstring ([\w.]+)(?:: ([\w ]+))? -->$"
    return re.sub(pattern, docstring, markdown, flags=re.M)
