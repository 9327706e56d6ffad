"""The documentation is a site: it builds without a warning, and each page has its place."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from nginx import ROOT

PAGES = sorted((ROOT / "docs").rglob("*.md"))


class Page(HTMLParser):
    """The addresses that a page has, and those that it leads to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.ids.add(value)
            if name in ("href", "src") and value:
                self.links.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Build it as `./build.sh site` does; mkdocs.yml makes warnings errors."""
    directory = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", directory],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return directory


def test_site_has_no_dead_link(site):
    """Links of the built pages, to other pages, pictures and headings."""
    pages = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > len(PAGES)
    dead = []
    for path, page in pages.items():
        for link in page.links:
            if re.match(r"\w+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            target = target / "index.html" if target.is_dir() else target
            known = pages.get(target)
            if not target.exists() or (anchor and known and anchor not in known.ids):
                dead.append(f"{path.relative_to(site)}: {link}")
    assert not dead, "\n".join(dead)


def test_site_search_finds_all_pages(site):
    index = (site / "search/search_index.json").read_text()
    missing = [path.stem for path in PAGES if path.stem != "README"]
    missing = [stem for stem in missing if f"{stem}.html" not in index]
    assert not missing


def test_site_loads_nothing_from_other_hosts(site):
    for path in [*site.glob("*.html"), *site.glob("assets/stylesheets/*.css")]:
        found = re.findall(
            r'<(?:script|img|link)[^>]*?(?:src|href)="?(https?:[^" >]+)', path.read_text()
        )
        found += re.findall(r"url\(['\"]?(https?:[^)]+)", path.read_text())
        assert not found, f"{path.name}: {found}"
