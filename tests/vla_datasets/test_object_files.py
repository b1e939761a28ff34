"""A store in an object store: the same contract, against a server that ignores conditional puts."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vla_datasets import lease
from vla_datasets.combine import merge_stores
from vla_datasets.lock import StoreLockedError
from vla_datasets.object_files import ObjectFiles
from vla_datasets.schema import StoreError
from vla_datasets.store import DemonstrationStore

KEYS = ("ACCESSKEY123", "SECRETKEY12345")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """Starts an S3 server on loopback and returns the URL of a bucket."""
    directory = tmp_path_factory.mktemp("s3")
    (directory / "bucket").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [Path(sys.prefix, "bin", "rclone"), "serve", "s3", "--config", "", "--addr", address]
    process = subprocess.Popen([*command, "--auth-key", ",".join(KEYS), directory], stderr=subprocess.PIPE, text=True)
    while "Starting" not in process.stderr.readline():
        assert process.poll() is None
    threading.Thread(target=process.stderr.read, daemon=True).start()
    settings = {
        "AWS_ACCESS_KEY_ID": KEYS[0], "AWS_SECRET_ACCESS_KEY": KEYS[1], "AWS_ENDPOINT_URL": f"http://{address}",
        "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        ObjectFiles("s3://bucket").write("the first put takes a second", [b""])
        yield "s3://bucket"
    process.kill()
    process.wait()


@pytest.fixture
def files(bucket, request, monkeypatch):
    """Returns a fresh place for a store; leases are short."""
    for name, seconds in (("LEASE_S", 3.0), ("RENEW_S", 0.3), ("SETTLE_S", 0.4), ("_POLL_S", 0.1)):
        monkeypatch.setattr(lease, name, seconds)
    return ObjectFiles(f"{bucket}/demos/{request.node.name}.zarr")


@pytest.fixture
def url(files):
    return files.root


def test_a_store_in_a_bucket_is_a_store(url, embodiment, make_episode, same_episode, tmp_path):
    store = DemonstrationStore.create(url, embodiment)
    with store.writer() as writer:
        writer.append([make_episode(0), make_episode(1, 1020)])
        writer.append([make_episode(2)])
        writer.delete(["source-0"])
        writer.set_keep({"source-2": [(1, 2)]})
    reopened = DemonstrationStore.open(url)
    assert reopened.episodes == store.episodes
    assert [record.source_id for record in reopened.episodes] == ["source-1", "source-2"]
    assert same_episode(reopened.read_episode(0), make_episode(1, 1020))
    assert same_episode(reopened.read_episode(1), make_episode(2))
    with reopened.writer() as writer:
        assert writer.recovered == ()
        writer.compact()
    again = DemonstrationStore.open(url)
    again.verify()
    assert again.fingerprint == store.fingerprint
    assert len(again.segment_ids) == 1
    local = merge_stores([again], tmp_path / "local")
    assert local.fingerprint == store.fingerprint
    local.verify()


def test_what_a_crash_left_behind_goes(url, files, embodiment, make_episode):
    store = DemonstrationStore.create(url, embodiment)
    files.write("segments/000000-dead/data/part", [b"x"])
    with store.writer() as writer:
        assert writer.recovered == ("segments/000000-dead",)
        writer.append([make_episode(0)])
    DemonstrationStore.open(url).verify()
    assert files.children("") == ["manifest.json", "segments", "zarr.json"]


def test_absent_and_existing_stores_are_told(url, embodiment):
    with pytest.raises(FileNotFoundError, match="no vla-zarr store"):
        DemonstrationStore.open(url)
    DemonstrationStore.create(url, embodiment)
    with pytest.raises(FileExistsError, match="already holds a store"):
        DemonstrationStore.create(url, embodiment)
    with pytest.raises(OSError, match="no-such-bucket"):
        DemonstrationStore.create("s3://no-such-bucket/x", embodiment)


def test_a_missing_object_is_named(url, files, embodiment, make_episode):
    store = DemonstrationStore.create(url, embodiment)
    with store.writer() as writer:
        writer.append([make_episode(0)])
    shard = f"segments/{store.segment_ids[0]}/data/image.front/c/0/0/0/0"
    files.remove(shard)
    with pytest.raises(StoreError, match=shard):
        store.read_episode(0)
    with pytest.raises(StoreError, match=shard):
        store.verify()


def test_a_living_writer_keeps_its_lease_and_a_second_one_is_told(url, embodiment, make_episode):
    store = DemonstrationStore.create(url, embodiment)
    with store.writer() as writer:
        for _ in range(3):
            with (
                pytest.raises(StoreLockedError, match=f"pid {os.getpid()} .*one writer at a time"),
                DemonstrationStore.open(url).writer(),
            ):
                pass
        writer.append([make_episode(0)])
    with DemonstrationStore.open(url).writer() as writer:
        writer.append([make_episode(1)])


def test_a_dead_writers_lease_is_taken_over(url, files, embodiment, make_episode):
    store = DemonstrationStore.create(url, embodiment)
    files.write("writer.lock", [b'{"holder": "pid 1 on nowhere", "nonce": "x"}'])
    with store.writer() as writer:
        writer.append([make_episode(0)])


def test_of_many_rivals_one_writes(url, embodiment, make_episode):
    """All begin at once, also where the server lets every one of them put the lock."""
    DemonstrationStore.create(url, embodiment)
    outcomes: list[str] = []

    def contend(number: int) -> None:
        try:
            with DemonstrationStore.open(url).writer() as writer:
                writer.append([make_episode(number)])
                time.sleep(1.0)
                outcomes.append("wrote")
        except StoreLockedError:
            outcomes.append("told")

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["told", "told", "told", "wrote"]
    assert len(DemonstrationStore.open(url).episodes) == 1


def test_a_writer_that_lost_its_lease_commits_nothing(url, files, embodiment, make_episode):
    store = DemonstrationStore.create(url, embodiment)
    with store.writer() as writer:
        files.write("writer.lock", [b'{"holder": "pid 2 on elsewhere", "nonce": "other"}'])
        time.sleep(1.0)
        with pytest.raises(StoreError, match="needs the writer lock"):
            writer.append([make_episode(0)])
    assert b"elsewhere" in files.read("writer.lock")
    assert DemonstrationStore.open(url).episodes == ()


def test_a_manifest_that_changed_under_a_writer_is_not_overwritten(url, embodiment, make_episode):
    store = DemonstrationStore.create(url, embodiment)
    with store.writer() as writer:
        other = DemonstrationStore.open(url)
        other.files.replace_manifest(dataclasses.replace(other.manifest, next_segment=7).to_bytes())
        with pytest.raises(StoreError, match="changed by another writer"):
            writer.append([make_episode(0)])
