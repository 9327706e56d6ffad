"""Hosts of a cluster as real servers in network namespaces of their own."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests

import hosts as spaces
from cluster_nginx import Hosts
from nginx import Nginx


class SpaceNginx(Nginx):
    """A server at a host of a network, which is asked from there."""

    def __init__(self, network: spaces.Hosts, host: int, server: str, app: str, workers: int):
        self._network = network
        self._host = host
        # requests are sent by a thread that is at the host
        self._thread = ThreadPoolExecutor(1, initializer=network.enter, initargs=(host,))
        super().__init__(server, app, workers=workers)

    def command(self, *arguments: str) -> list[str]:
        return self._network.command(self._host, super().command(*arguments))

    def start(self) -> None:
        self._thread.submit(super().start).result()

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        return self._thread.submit(super().request, method, path, **options).result()

    def stop(self) -> None:
        super().stop()
        self._thread.shutdown()


class SpaceHosts(Hosts):
    """Servers that form a cluster, one in each namespace of a network."""

    def __init__(self, network: spaces.Hosts, settings: str) -> None:
        self.network = network
        super().__init__(network.count, settings)

    def make(self, index: int, server: str, app: str, workers: int) -> Nginx:
        return SpaceNginx(self.network, index, server, app, workers)

    def http(self, index: int) -> str:
        return (
            f"webtorch_zone models:4m; webtorch_cluster test id=web-{index} secret=secret "
            f"coordinator={spaces.address(0)}:7610 address={spaces.address(index)} "
            f"{self._settings};"
        )
