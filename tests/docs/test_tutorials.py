"""The tutorials and how-to pages of docs/ are followed word by word, and keep what they promise."""

import re

import pytest

from nginx import ROOT
from pages import Reader

PAGES = [
    f"{folder}/{path.stem}"
    for folder in ("tutorials", "howto")
    for path in sorted((ROOT / "docs" / folder).glob("*.md"))
    if re.search(r"^webtorch (serve|run) ", path.read_text(), re.M)
]


@pytest.mark.parametrize("page", PAGES)
def test_tutorial_commands(page, directory):
    reader = Reader(f"docs/{page}.md", directory)
    reader.follow()
    assert reader.promises >= 1
