"""The configurations of nginx-conf/, whole, at ports and paths of their own."""

import re

from nginx import BINARY, ROOT, Nginx, free_port, release_port


class Example(Nginx):
    """An nginx that runs nginx-conf/NAME.conf, with two workers unless it is said otherwise.

    Its first server listens on the port of `url()`. The other addresses of the file are in `ports`,
    by what they are there: 3001 and so on.
    """

    def __init__(self, name: str, workers: int = 2) -> None:
        self._name = name
        self.ports: dict[int, int] = {}
        super().__init__(workers=workers)
        (self.prefix / "run").mkdir()

    def configure(self, **settings: object) -> None:
        """Write the configuration for this place."""
        text = (ROOT / f"nginx-conf/{self._name}.conf").read_text()
        for theirs, ours in {
            r"^load_module .*;": BINARY.load_module,
            r"^worker_processes .*;": f"worker_processes {self._settings['workers']};",
            r"^error_log .*;": f"error_log {self.prefix}/error.log info;",
            r"listen +3000;": f"listen 127.0.0.1:{self.port}; location = /alive {{ return 200; }}",
        }.items():
            text, count = re.subn(theirs, ours, text, count=1, flags=re.MULTILINE)
            assert count == 1, theirs
        text = text.replace("build/run", f"{self.prefix}/run")
        text = text.replace("../examples", f"{ROOT}/examples")
        for port in sorted({int(port) for port in re.findall(r"\b300\d\b", text)}):
            self.ports.setdefault(port, free_port())
            text = re.sub(
                rf"(listen +)?(?:127\.0\.0\.1:)?\b{port}\b",
                rf"\g<1>127.0.0.1:{self.ports[port]}",
                text,
            )
        self.conf = self.prefix / "nginx.conf"
        self.conf.write_text(text)

    def stop(self) -> None:
        """Stop it, and give its ports back."""
        super().stop()
        for port in self.ports.values():
            release_port(port)
