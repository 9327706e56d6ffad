"""Object storage as S3 has it, in this process: moto's server."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.session import Session
from moto.server import ThreadedMotoServer

from nginx import free_port, release_port
from webtorch._zone.bucket import Bucket

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}

MAIN = "".join(f"env {name}={value};" for name, value in KEYS.items())
"""Directives of nginx that let workers have the keys."""

_numbers = itertools.count()


class Storage:
    """A bucket of its own, at a server that can be away for a while."""

    def __init__(self) -> None:
        self._port = free_port()
        self.endpoint = f"http://127.0.0.1:{self._port}"
        self.bucket = f"bucket-{next(_numbers)}"
        self.url = f"s3://{self.bucket}/models"
        self.return_back()
        session = Session()
        session.set_credentials(*KEYS.values())
        self.client: Any = session.create_client(
            "s3", region_name="us-east-1", endpoint_url=self.endpoint
        )
        self.client.create_bucket(Bucket=self.bucket)

    def go_away(self) -> None:
        """Refuse connections; what is stored is kept."""
        self._server.stop()

    def return_back(self) -> None:
        """Serve again."""
        self._server = ThreadedMotoServer("127.0.0.1", self._port, verbose=False)
        self._server.start()

    def close(self) -> None:
        """End the server."""
        self.client.close()
        self._server.stop()
        release_port(self._port)

    def names(self, folder: str = "") -> list[str]:
        """Return the names of all objects below a folder."""
        prefix = f"models/{folder}"
        found = self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return [each["Key"][len(prefix) :] for each in found.get("Contents", ())]

    def read(self, name: str) -> bytes:
        """Return an object."""
        data: bytes = self.client.get_object(Bucket=self.bucket, Key=f"models/{name}")[
            "Body"
        ].read()
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write an object."""
        self.client.put_object(Bucket=self.bucket, Key=f"models/{name}", Body=data)

    def open(self) -> Bucket:
        """Return the bucket, as workers use it."""
        return Bucket(self.url, self.endpoint)


@contextmanager
def storage() -> Iterator[Storage]:
    """Return a bucket for a test."""
    found = Storage()
    try:
        yield found
    finally:
        found.close()
