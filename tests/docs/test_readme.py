"""The example of README.md runs as it stands there, and all links of pages lead somewhere."""

import json
import re

from nginx import ROOT
from pages import Reader


def test_readme_example(directory):
    reader = Reader("README.md", directory)
    reader.follow()
    (label,), (value,) = json.loads(f"[{reader.output.replace(']][[', ']],[[')}]")
    assert label == [1.0]
    assert isinstance(value[0], float)


def test_readme_links_exist():
    pages = [ROOT / "README.md", ROOT / "bench/README.md", *(ROOT / "docs").rglob("*.md")]
    pages += (ROOT / "examples").rglob("*.md")
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page}: {link}"
