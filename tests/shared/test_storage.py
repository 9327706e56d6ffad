"""Checkpoints in object storage."""

import io
import itertools
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from torch import nn, optim

import storage as stores
from memory_zone import Zone
from webtorch._cluster.digests import digest
from webtorch._cluster.rollout import Rollout
from webtorch._zone import bucket as buckets
from webtorch._zone.bucket import Bucket, BucketError
from webtorch._zone.checkpoint import Checkpoints, write
from webtorch._zone.rounds_store import RoundsKind
from webtorch._zone.shared_state import SharedState
from webtorch._zone.stored import StoredCheckpoints, Youngest


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    for name, value in stores.KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(buckets, "_ATTEMPTS", 1)
    # other tests need the processor, too
    monkeypatch.setattr(buckets, "BRIEF_TIMEOUT", 20.0)


@pytest.fixture
def storage():
    with stores.storage() as found:
        yield found


def make(source=None, kind=optim.SGD, cluster=True):
    """Return the model of a host that has nothing in memory."""
    network = nn.Linear(3, 1)
    nn.init.zeros_(network.weight)
    optimizer = kind(network.parameters(), lr=1.0)
    rounds = RoundsKind(momentum=False) if cluster else None
    return SharedState(Zone(), "m", network, optimizer, False, Path(__file__), source, 0, rounds)


def do_round(shared, host, number, steps=1):
    """Let the weights be the next anchor, which has steps of a host."""
    store = shared.rounds_store(shared.blocks)
    for key, tensor in store.tensors(0).items():
        tensor.copy_(shared.views(shared.blocks)[key])
    anchor = store.state.anchor.follow(digest(store, 0), {host: (number, steps)})
    store.write(replace(store.state, slot=0, anchor=anchor))
    return anchor


def fill(shared, value):
    shared.views(shared.blocks)["weight"].fill_(value)


def weight(shared):
    return shared.views(shared.blocks)["weight"].tolist()


def stored(storage, keep=3, interval=0.0, host="web-0"):
    return StoredCheckpoints(storage.open(), keep, interval, host)


def test_bucket_writes_once(storage):
    bucket = storage.open()
    assert bucket.list("m").objects == ()
    assert bucket.put_new("m/a", io.BytesIO(b"first"))
    assert not bucket.put_new("m/a", io.BytesIO(b"second"))
    assert bucket.put_new("m/deeper/b", io.BytesIO(b"third"))
    assert [each.name for each in bucket.list("m").objects] == ["a"]
    assert bucket.read("m/a", 1, 3) == b"ir"
    assert bucket.read("m/a", 0, 100) == b"first"
    copy = io.BytesIO()
    bucket.copy("m/a", copy)
    assert copy.getvalue() == b"first"
    bucket.delete("m/a")
    bucket.delete("m/a")
    assert bucket.list("m").objects == ()


def test_bucket_lists_more_than_a_page(storage):
    bucket = storage.open()
    for number in range(1003):
        storage.write(f"m/{number:04}", b"")
    names = [each.name for each in bucket.list("m").objects]
    assert names == [f"{number:04}" for number in range(1003)]


def test_bucket_errors(storage):
    with pytest.raises(BucketError, match="does not exist"):
        Bucket("s3://missing-bucket/x", storage.endpoint).list("m")
    with pytest.raises(BucketError):
        storage.open().read("m/missing", 0, 1)
    storage.go_away()
    for call in (
        lambda bucket: bucket.list("m"),
        lambda bucket: bucket.put_new("m/a", io.BytesIO(b"x")),
        lambda bucket: bucket.delete("m/a"),
    ):
        with pytest.raises(BucketError, match="Could not connect"):
            call(storage.open())
    storage.return_back()
    with pytest.raises(ValueError, match="s3://bucket/path"):
        Bucket("gs://bucket")


def test_bucket_of_a_store_without_a_clock(storage, monkeypatch):
    bucket = storage.open()
    answer = {"Contents": [], "ResponseMetadata": {"HTTPHeaders": {}}}
    monkeypatch.setattr(bucket._client(), "list_objects_v2", lambda **_: answer)
    with pytest.raises(BucketError, match="has no Date"):
        bucket.list("m")


def test_bucket_errors_of_the_network(storage, monkeypatch):
    monkeypatch.setattr(buckets, "READ_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for endpoint, message in {
            f"http://127.0.0.1:{silent.getsockname()[1]}": "timeout",
            storage.endpoint.replace("http:", "https:"): "SSL",
            "http://minio_1:9000": "Invalid endpoint",
        }.items():
            with pytest.raises(BucketError, match=message):
                Bucket(storage.url, endpoint).put_new("m/a", io.BytesIO(b"x"))


def test_storage_names_are_of_anchors(storage):
    files = stored(storage)
    shared = make()
    # a model without a round has nothing that other hosts have
    assert not files.save(shared)
    do_round(shared, "web-0/x", 1, 5)
    assert files.save(shared)
    assert storage.names("m/") == ["000000-000000000001.safetensors"]
    assert not files.save(shared)

    # weights that are trained meanwhile are in the next anchor
    fill(shared, 7.0)
    do_round(shared, "web-1/y", 1, 6)
    fill(shared, 8.0)
    assert files.save(shared)
    found = load(storage.read("m/000000-000000000002.safetensors"))
    assert found["weight"].tolist() == [[7.0] * 3]

    started = make(Youngest(stored(storage), None))
    assert weight(started) == [[7.0] * 3]
    assert started.steps == 11


def test_storage_hosts_write_one_file(storage):
    """Two hosts have the same anchor: who comes second is content."""
    one, two = stored(storage), stored(storage, host="web-1")
    shared = make()
    do_round(shared, "web-0/x", 1)
    bucket = two._bucket
    listed = bucket.list

    def list_before_the_other_writes(folder):
        found = listed(folder)
        assert one.save(shared)
        return found

    bucket.list = list_before_the_other_writes
    assert not two.save(shared)
    bucket.list = listed
    assert len(storage.names("m/")) == 1
    assert not two.save(shared)

    # one that is behind writes nothing, and nobody writes before the interval is over
    behind = make()
    do_round(behind, "web-0/x", 1, 2)
    do_round(shared, "web-0/x", 2)
    assert one.save(shared)
    assert not two.save(behind)
    do_round(shared, "web-0/x", 3)
    slow = stored(storage, interval=60.0)
    assert not slow.save(shared)
    assert slow.save(shared, last=True)


def test_storage_write_that_another_one_has_not_ended_is_tried_again(storage):
    """The answer is the same if there is a file and if one is on its way, which may fail."""
    files = stored(storage)
    shared = make()
    do_round(shared, "web-0/x", 1)
    put = files._bucket.put_new
    files._bucket.put_new = lambda *_: False
    assert not files.save(shared)
    files._bucket.put_new = put
    assert files.save(shared)
    assert storage.names("m/") == ["000000-000000000001.safetensors"]


def test_storage_file_that_another_host_deletes_meanwhile(storage, caplog):
    one, two = stored(storage, keep=1), stored(storage, keep=1, host="web-1")
    shared = make()
    do_round(shared, "web-0/x", 1, 5)
    assert one.save(shared)
    listed = two._bucket.list
    numbers = itertools.count(2)

    def list_before_the_other_writes(*args, **others):
        found = listed(*args, **others)
        two._bucket.list = listed
        do_round(shared, "web-0/x", next(numbers), 5)
        assert one.save(shared)
        return found

    two._bucket.list = list_before_the_other_writes
    behind = make()
    do_round(behind, "web-0/x", 1)
    assert not two.save(behind)
    two._bucket.list = list_before_the_other_writes
    assert two.load(make()).steps == 15
    assert "begins without" not in caplog.text


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_storage_keeps_the_youngest(storage, keep):
    files = stored(storage, keep)
    shared = make()
    storage.write("m/notes.txt", b"of another program")
    for number in range(1, 8):
        do_round(shared, "web-0/x", number)
        assert files.save(shared)
        numbers = range(max(1, number + 1 - keep), number + 1)
        names = [f"000000-{each:012}.safetensors" for each in numbers]
        assert storage.names("m/") == [*names, "notes.txt"]


def test_storage_epochs(storage):
    shared = make()
    for number in range(1, 4):
        do_round(shared, "web-0/x", number)
    assert stored(storage).save(shared)

    # all hosts begin again from the file, with anchors that begin with 0
    again = make(Youngest(stored(storage), None))
    assert again.steps == 3
    do_round(again, "web-0/other", 1)
    assert stored(storage).save(again)
    assert storage.names("m/")[-1] == "000001-000000000001.safetensors"
    do_round(again, "web-1/z", 1)
    # another host finds that it is of the same life
    assert stored(storage, host="web-1").save(again)
    assert storage.names("m/")[-1] == "000001-000000000002.safetensors"

    # weights that were put into place begin an epoch
    store = again.rounds_store(again.blocks)
    anchor = store.state.anchor.restart(digest(store, 0), 1, 1, "web-0/other/1")
    # other hosts are not to have them yet, or not any more
    going = Rollout(*anchor.of, hosts=1, pause=30.0, size=2)
    for rollout in (going, going.change("stopped"), going.change("withdrawn")):
        store.write(replace(store.state, anchor=anchor, rollout=rollout))
        assert not stored(storage, interval=60.0).save(again)
    store.write(replace(store.state, rollout=going.change("done")))
    assert stored(storage, interval=60.0).save(again)
    assert storage.names("m/")[-1] == "000002-000000000003.safetensors"


@pytest.mark.parametrize("keep", [1, 3])
def test_storage_keeps_files_of_epochs(storage, keep, caplog):
    """A model that has begun without the store does not take the place of its files."""
    trained = make()
    for number in range(1, keep + 1):
        do_round(trained, "web-0/x", number, 1000)
        assert stored(storage, keep).save(trained)
    best = storage.names("m/")[-1]
    for life in range(1, 7):
        files = stored(storage, keep)
        shared = make()
        for number in range(1, 6):
            do_round(shared, f"web-0/{life}", number, life)
            assert files.save(shared)
        names = storage.names("m/")
        assert names[0] == best
        # youngest files of epochs before, and those of the last one
        assert len(names) <= keep + 1 + keep
        ends = [name for name in names if name.startswith(f"{life - 1:06}")]
        assert len(ends) == (1 if keep > 1 or life == 1 else 0)
        assert len([name for name in names if name.startswith(f"{life:06}")]) == keep
    assert caplog.text.count(f"and {best}, which is kept, has {1000 * keep}") == 1


def test_storage_of_models_that_stay_with_their_host(storage):
    one, two = make(cluster=False), make(cluster=False)
    for host, shared in enumerate((one, two)):
        files = stored(storage, host=f"web-{host}")
        assert not files.save(shared)
        fill(shared, float(host))
        shared.count_step()
        assert files.save(shared)
        assert not files.save(shared)
        shared.count_step()
        assert files.save(shared)
        names = [f"000000-{number:012}.safetensors" for number in (1, 2)]
        assert storage.names(f".hosts/web-{host}/m/") == names
    assert stored(storage, host="").newest(one) is None

    # as many steps of other code, which the file does not fit
    other = make(cluster=False, kind=optim.Adam)
    other.count_step()
    other.count_step()
    assert stored(storage, host="web-0").save(other)
    assert storage.names(".hosts/web-0/m/")[-1] == "000001-000000000002.safetensors"


def test_storage_damaged_files(storage, caplog):
    files = stored(storage)
    shared = make()
    fill(shared, 3.0)
    do_round(shared, "web-0/x", 1)
    assert files.save(shared)
    whole = storage.read("m/000000-000000000001.safetensors")
    storage.write("m/000000-000000000002.safetensors", whole[:-1] + b"\1")
    storage.write("m/000000-000000000003.safetensors", b"")
    started = make(Youngest(stored(storage), None))
    assert weight(started) == [[3.0] * 3]
    assert caplog.text.count("is not used") == 2
    # of a file without metadata nothing is known: it is of another life
    do_round(started, "web-0/y", 1)
    assert stored(storage).save(started)
    assert storage.names("m/")[-1] == "000001-000000000001.safetensors"


def test_storage_beside_a_directory(storage, tmp_path):
    """The younger one counts, and nothing in the directory is taken for new afterwards."""
    directory = Checkpoints(tmp_path, 3)
    shared = make()
    fill(shared, 1.0)
    do_round(shared, "web-0/x", 1)
    assert stored(storage).save(shared)
    both = Youngest(stored(storage), directory)
    assert weight(make(both)) == [[1.0] * 3]

    views = {key: torch.full_like(view, 2.0) for key, view in shared.views(shared.blocks).items()}
    (tmp_path / "m").mkdir()
    path = tmp_path / "m/put.safetensors"
    write(path, shared.layout, views, {})
    found = make(both)
    assert weight(found) == [[2.0] * 3]
    assert found.blocks.counters.seen == directory.files("m")[0].put

    os.utime(path, (1, 1))
    found = make(both)
    assert weight(found) == [[1.0] * 3]
    assert found.blocks.counters.seen == directory.files("m")[0].put


def test_storage_away_at_the_start(storage, tmp_path, caplog, monkeypatch):
    directory = Checkpoints(tmp_path, 3)
    storage.go_away()
    files = stored(storage)
    for _ in range(3):
        assert make(Youngest(files, directory)).steps == 0
    storage.return_back()
    # it is asked once for all models
    assert caplog.text.count("is away, models begin without it") == 1
    assert "no files" in Youngest(files, directory).describe_missing("m")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(buckets, "BRIEF_TIMEOUT", 0.2)
        monkeypatch.setattr(buckets, "_ATTEMPTS", 99)
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        files = StoredCheckpoints(Bucket(storage.url, endpoint), 3, 0.0)
        assert make(Youngest(files, None)).steps == 0
    for endpoint in (storage.endpoint.replace("http:", "https:"), "http://minio_1:9000"):
        files = StoredCheckpoints(Bucket(storage.url, endpoint), 3, 0.0)
        assert make(Youngest(files, None)).steps == 0
    assert caplog.text.count("is away, models begin without it") == 4


def test_storage_away_while_a_file_is_read(storage, caplog):
    shared = make()
    do_round(shared, "web-0/x", 1)
    assert stored(storage).save(shared)
    files = stored(storage)

    def stop(*_):
        raise BucketError("it has stopped")

    files._bucket.copy = stop
    for _ in range(3):
        assert make(Youngest(files, None)).steps == 0
    assert caplog.text.count("it has stopped") == 1
