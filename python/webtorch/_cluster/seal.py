"""The seal on all that hosts of a cluster send each other.

Keys are derived from the cluster's secrets. What is sealed can be read and made only by a host
that has one of them, and only as the message that it was: for its cluster, its group, its place in
it, its sender and its receiver. Each message has a key or a nonce that is used once.
"""

import hmac
import os
import struct
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from webtorch._cluster.interfaces import OutsiderError

Buffer = bytes | bytearray | memoryview

OVERHEAD: Final = 16
"""Bytes that a message of a session is longer than its data: the tag of AES-GCM."""

_ID = 8
_SALT = 24
_NONCE = bytes(12)

HELLO: Final = 32
"""Bytes of the number that each host makes for a new session."""


def fields(*values: str | int | bytes) -> bytes:
    """Return values as bytes that can be parsed back, so that no two lists are the same."""
    parts = []
    for value in values:
        data = value if isinstance(value, bytes) else str(value).encode()
        parts.append(struct.pack("<I", len(data)) + data)
    return b"".join(parts)


def _derive(secret: bytes, salt: bytes, purpose: bytes, size: int = 32) -> bytes:
    return HKDF(algorithm=SHA256(), length=size, salt=salt, info=purpose).derive(secret)


class _Keys:
    """What is derived from one secret."""

    def __init__(self, cluster: str, secret: bytes) -> None:
        def derive(purpose: str, size: int = 32) -> bytes:
            return _derive(secret, b"webtorch_cluster", fields(purpose, cluster), size)

        self.id = derive("id", _ID)
        self.seal = derive("seal")
        self.entry = derive("entry")
        self.session = derive("session")


class Ring:
    """The keys of a cluster.

    Args:
        cluster: Its name; another cluster with the same secret has other keys.
        secrets: The first one seals, each opens. Without any the keys are known to everybody,
            which is for hosts of one machine.

    """

    def __init__(self, cluster: str, secrets: Sequence[bytes]) -> None:
        keys = [_Keys(cluster, secret) for secret in secrets or (b"",)]
        self.cluster = cluster
        self._first = keys[0]
        self._by_id = {key.id: key for key in reversed(keys)}

    @property
    def id(self) -> bytes:
        """Identifies the secret that seals, without revealing it."""
        return self._first.id

    def seal(self, data: Buffer, *about: str | int) -> bytes:
        """Return data sealed as the message that `about` describes."""
        salt = os.urandom(_SALT)
        cipher = AESGCM(_derive(self._first.seal, salt, b""))
        text = cipher.encrypt(_NONCE, data, fields(self.cluster, *about))
        return self._first.id + salt + text

    def open(self, sealed: bytes, *about: str | int, member: str | None = None) -> bytes:
        """Return what was sealed as this message.

        Args:
            sealed: The message.
            about: What it must have been sealed as.
            member: The host that is said to have sent it, for the error.

        Raises:
            OutsiderError: It was not, or not with a secret of this host.

        """
        salt = sealed[_ID : _ID + _SALT]
        try:
            cipher = AESGCM(_derive(self._key(sealed[:_ID]).seal, salt, b""))
            return cipher.decrypt(_NONCE, sealed[_ID + _SALT :], fields(self.cluster, *about))
        except (InvalidTag, KeyError, ValueError):
            raise OutsiderError(
                "a message is not sealed with the cluster's secret", member
            ) from None

    def sign(self, data: bytes) -> str:
        """Return the key's id and a MAC of an entry, which anybody may read, as hex digits."""
        mac = hmac.digest(self._first.entry, fields(self.cluster, data), sha256)
        return (self._first.id + mac).hex()

    def verify(self, data: bytes, mac: str) -> bool:
        """Return whether a MAC was made with a secret of this host, of the same entry."""
        try:
            given = bytes.fromhex(mac)
            key = self._key(given[:_ID])
        except (KeyError, ValueError):
            return False
        made = hmac.digest(key.entry, fields(self.cluster, data), sha256)
        return hmac.compare_digest(made, given[_ID:])

    def channel(self, key: bytes, *about: str | int | bytes) -> "Channel":
        """Return what seals or opens messages of one sender, whose `Ring.id` is the key.

        The bytes among `about` must be new for each session.

        Raises:
            OutsiderError: This host does not have the sender's secret.

        """
        try:
            secret = self._key(key).session
        except KeyError:
            raise OutsiderError("a host has another secret") from None
        return Channel(_derive(secret, b"", fields(*about)), fields(self.cluster, *about))

    def _key(self, key: bytes) -> _Keys:
        return self._by_id[key]


class Channel:
    """Messages of one sender to one receiver, or to all, each with a number of its own."""

    def __init__(self, key: bytes, about: bytes) -> None:
        self._cipher = AESGCM(key)
        self._about = about

    def seal(self, data: Buffer, target: Buffer, operation: int, piece: int) -> None:
        """Seal data into memory that is `OVERHEAD` bytes longer.

        An operation and a piece may be used once; a nonce that is used twice breaks the cipher.
        """
        nonce = struct.pack("<QI", operation, piece)
        self._cipher.encrypt_into(nonce, data, self._about, target)

    def open(self, sealed: Buffer, target: Buffer, operation: int, piece: int) -> None:
        """Open a message into memory of exactly the length of its data.

        Raises:
            OutsiderError: It was not sealed as this message.

        """
        nonce = struct.pack("<QI", operation, piece)
        try:
            self._cipher.decrypt_into(nonce, sealed, self._about, target)
        except (InvalidTag, ValueError):
            raise OutsiderError("a message in a group is not sealed with its key") from None
