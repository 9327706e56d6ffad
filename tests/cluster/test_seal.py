"""The seal: what is not exactly a message of the cluster is refused."""

import pytest

from webtorch._cluster.interfaces import OutsiderError
from webtorch._cluster.seal import OVERHEAD, Ring, fields

OLD = b"o" * 32
NEW = b"n" * 32
ABOUT = ("hello", 3, "group", "a", "b")


def test_seal_opens_as_the_same_message_only():
    ring = Ring("c", [OLD])
    sealed = ring.seal(b"weights", *ABOUT)
    assert b"weights" not in sealed
    assert ring.open(sealed, *ABOUT) == b"weights"
    assert ring.seal(b"weights", *ABOUT) != sealed
    for index in range(len(ABOUT)):
        other = [*ABOUT]
        other[index] = "x"
        with pytest.raises(OutsiderError):
            ring.open(sealed, *other)
    with pytest.raises(OutsiderError):
        Ring("other", [OLD]).open(sealed, *ABOUT)
    with pytest.raises(OutsiderError) as caught:
        Ring("c", [NEW]).open(sealed, *ABOUT, member="a")
    assert caught.value.member == "a"


def test_seal_of_forged_bytes():
    ring = Ring("c", [OLD])
    sealed = ring.seal(b"weights", *ABOUT)
    for index in range(len(sealed)):
        forged = bytearray(sealed)
        forged[index] ^= 1
        with pytest.raises(OutsiderError):
            ring.open(bytes(forged), *ABOUT)
    for length in range(len(sealed)):
        with pytest.raises(OutsiderError):
            ring.open(sealed[:length], *ABOUT)


def test_seal_of_two_secrets():
    """While a secret is changed, hosts that have both understand those that have one."""
    old, both, new = Ring("c", [OLD]), Ring("c", [NEW, OLD]), Ring("c", [NEW])
    assert both.open(old.seal(b"x", "m"), "m") == b"x"
    assert new.open(both.seal(b"x", "m"), "m") == b"x"
    assert both.verify(b"entry", old.sign(b"entry"))
    assert new.verify(b"entry", both.sign(b"entry"))
    assert not old.verify(b"entry", both.sign(b"entry"))


@pytest.mark.parametrize("mac", ["", "zz", "00" * 40, "é"])
def test_mac_is_not_forged(mac):
    ring = Ring("c", [OLD])
    assert not ring.verify(b"entry", mac)
    assert not ring.verify(b"entry2", ring.sign(b"entry"))
    assert not Ring("d", [OLD]).verify(b"entry", ring.sign(b"entry"))


def test_channel_opens_a_message_once():
    ring = Ring("c", [OLD])
    session = b"s" * 32
    sender = ring.channel(ring.id, session, "one", 1, "group", "a", "b")
    receiver = ring.channel(ring.id, session, "one", 1, "group", "a", "b")
    sealed, data = bytearray(7 + OVERHEAD), bytearray(7)
    sender.seal(b"weights", sealed, 5, 0)
    receiver.open(sealed, data, 5, 0)
    assert data == b"weights"
    others = [
        ring.channel(ring.id, b"t" * 32, "one", 1, "group", "a", "b"),
        ring.channel(ring.id, session, "all", 1, "group", "a", "b"),
        ring.channel(ring.id, session, "one", 2, "group", "a", "b"),
        ring.channel(ring.id, session, "one", 1, "other", "a", "b"),
        ring.channel(ring.id, session, "one", 1, "group", "b", "a"),
    ]
    for channel, number in [(receiver, 6), *((other, 5) for other in others)]:
        with pytest.raises(OutsiderError):
            channel.open(sealed, data, number, 0)
    with pytest.raises(OutsiderError, match="another secret"):
        ring.channel(Ring("c", [NEW]).id, session)


def test_fields_are_not_mixed_up():
    assert fields("ab", "c") != fields("a", "bc")
    assert fields(b"a", b"") != fields(b"a")
    assert fields("1") == fields(1)
