"""A bucket of object storage, as S3 has them: names under a path, each written once."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import IO, Any, Final

CHUNK = 1 << 20
"""Bytes that are copied at a time."""

CONNECT_TIMEOUT: Final = 3.0
READ_TIMEOUT: Final = 20.0
"""Seconds without progress."""

BRIEF_TIMEOUT: Final = 3.0
"""Such seconds of a request that a start waits for, which is made once."""

_ATTEMPTS = 2
_EXISTS = frozenset({409, 412})
"""Status of a conditional write: another one was before, or is being made."""
_PAST_END = 416
_MISSING = "NoSuchKey"

_REGION = "us-east-1"
"""The region if none is configured, which stores other than that of AWS do not look at."""


class BucketError(OSError):
    """The store cannot be reached, or has refused a request."""


class MissingError(BucketError):
    """There is no object of a name, or not any more."""


@dataclass(frozen=True)
class Object:
    """An object of a bucket."""

    name: str
    """Its name under the path that was listed."""
    time: datetime
    """When it was written, by the clock of the store."""


@dataclass(frozen=True)
class Listing:
    """The objects under a path."""

    objects: tuple[Object, ...]
    now: datetime
    """The time of the answer, by the clock of the store."""


class Bucket:
    """Objects under a path of a bucket; a thread of its own uses it.

    Credentials and the region are those that the SDK of AWS finds.

    Args:
        url: `s3://bucket/path`.
        endpoint: URL of the store; None: that of AWS.

    """

    def __init__(self, url: str, endpoint: str | None = None) -> None:
        found = re.fullmatch(r"s3://([^/]+)/?(.*)", url)
        if not found:
            raise ValueError(f"{url!r} is not s3://bucket/path")
        self.url = url
        self._bucket = found[1]
        self._path = found[2].strip("/")
        self._endpoint = endpoint
        self._made: dict[bool, Any] = {}

    def list(self, folder: str, brief: bool = False) -> Listing:
        """Return the objects of a folder, without those of folders in it.

        Args:
            folder: The folder.
            brief: Whether somebody waits: it ends soon if the store does not answer.

        Raises:
            BucketError: They cannot be listed.

        """
        found: list[Object] = []
        more: dict[str, str] = {}
        prefix = f"{self._key(folder)}/"
        with _errors():
            client = self._client(brief)
            while True:
                answer = client.list_objects_v2(
                    Bucket=self._bucket, Prefix=prefix, Delimiter="/", **more
                )
                for each in answer.get("Contents", ()):
                    found.append(Object(each["Key"][len(prefix) :], each["LastModified"]))
                if not answer.get("IsTruncated"):
                    break
                more = {"ContinuationToken": answer["NextContinuationToken"]}
            date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
            if date is None:
                raise BucketError(f"{self.url}: the answer of the store has no Date.")
            now = parsedate_to_datetime(date)
        return Listing(tuple(found), now)

    def put_new(self, name: str, file: IO[bytes]) -> bool:
        """Write an object, from the beginning of a file, unless there is one of the name.

        Returns:
            False if there is one.

        Raises:
            BucketError: It cannot be written.

        """
        file.seek(0)
        try:
            with _errors():
                self._client().put_object(
                    Bucket=self._bucket, Key=self._key(name), Body=file, IfNoneMatch="*"
                )
        except BucketError as error:
            if _status_of(error) in _EXISTS:
                return False
            raise
        return True

    def read(self, name: str, begin: int, end: int) -> bytes:
        """Return a part of an object; less at its end.

        Raises:
            MissingError: There is none.
            BucketError: It cannot be read.

        """
        try:
            with _errors():
                answer = self._client().get_object(
                    Bucket=self._bucket, Key=self._key(name), Range=f"bytes={begin}-{end - 1}"
                )
                data: bytes = answer["Body"].read()
        except BucketError as error:
            if _status_of(error) == _PAST_END:
                return b""
            raise
        return data

    def copy(self, name: str, file: IO[bytes]) -> None:
        """Write an object to a file.

        Raises:
            MissingError: There is none.
            BucketError: It cannot be read.
            OSError: The file cannot be written.

        """
        with _errors():
            body = self._client().get_object(Bucket=self._bucket, Key=self._key(name))["Body"]
            while data := body.read(CHUNK):
                file.write(data)

    def delete(self, name: str) -> None:
        """Delete an object, if there is one.

        Raises:
            BucketError: It cannot be deleted.

        """
        with _errors():
            self._client().delete_object(Bucket=self._bucket, Key=self._key(name))

    def _key(self, name: str) -> str:
        return f"{self._path}/{name}" if self._path else name

    def _client(self, brief: bool = False) -> Any:
        if brief not in self._made:
            read, attempts = (BRIEF_TIMEOUT, 1) if brief else (READ_TIMEOUT, _ATTEMPTS)
            try:
                self._made[brief] = _make_client(self._endpoint, read, attempts)
            except ValueError as error:
                # a URL that nginx takes, and the SDK does not
                raise BucketError(str(error)) from error
        return self._made[brief]


def _make_client(endpoint: str | None, read_timeout: float, attempts: int) -> Any:
    """Return a client; the package is imported where it is needed alone, as it is large."""
    from botocore.config import Config
    from botocore.session import Session

    session = Session()
    return session.create_client(
        "s3",
        region_name=session.get_config_variable("region") or _REGION,
        endpoint_url=endpoint,
        config=Config(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=read_timeout,
            retries={"total_max_attempts": attempts, "mode": "standard"},
            # checksums of the SDK that few other stores know; files have their own
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # names of buckets are no hosts at most other stores
            s3={"addressing_style": "path"} if endpoint else None,
        ),
    )


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Raise all errors of the SDK as `BucketError`."""
    try:
        yield
    except Exception as error:
        # some of them are of OSError, too: timeouts, and errors of TLS
        if not type(error).__module__.startswith(("botocore.", "urllib3.")):
            raise
        kind = (
            MissingError if _answer(error).get("Error", {}).get("Code") == _MISSING else BucketError
        )
        raise kind(str(error)) from error


def _answer(error: BaseException | None) -> Mapping[str, Any]:
    return getattr(error, "response", None) or {}


def _status_of(error: BucketError) -> int | None:
    found = _answer(error.__cause__).get("ResponseMetadata", {}).get("HTTPStatusCode")
    return found if isinstance(found, int) else None
