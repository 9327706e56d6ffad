"""The example of README.md runs as it stands there."""

import re

from nginx import BINARY, ROOT, Nginx

README = (ROOT / "README.md").read_text()


def block(language: str) -> str:
    """Return the only block of a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return found


class Readme(Nginx):
    """An nginx with the README's configuration, at paths of its own."""

    def configure(self, **settings):
        self._settings |= settings
        text = block("nginx")
        for theirs, ours in {
            r"load_module .*;": f"{BINARY.load_module}\npid {self.prefix}/nginx.pid;\n"
            f"error_log {self.prefix}/error.log;",
            r"/srv/app": str(self.prefix / "app"),
            r"/var/lib/webtorch": str(self.prefix / "models"),
            r"listen  8000;": f"listen 127.0.0.1:{self.port}; location = /alive {{ return 200; }}",
        }.items():
            text, count = re.subn(theirs, ours, text)
            assert count == 1
        self.conf = self.prefix / "nginx.conf"
        self.conf.write_text(text)


def test_readme_example():
    server = Readme(app=block("python"))
    try:
        server.start()
        for point, label in (([0.3, -0.8], 1.0), ([0.5, 0.5], -1.0)):
            assert server.post("/v1/train", json=[point]).json() == [[label]]
            ((value,),) = server.post("/v1/output", json=[point]).json()
            assert isinstance(value, float)
        assert not server.unexpected_in_log()
    finally:
        server.stop()


def test_readme_links_exist():
    pages = [ROOT / "README.md", ROOT / "bench/README.md", *(ROOT / "docs").glob("*.md")]
    pages += (ROOT / "examples").rglob("*.md")
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page}: {link}"
