"""Deleting, keep-ranges, compaction, and the disk's refusals."""

from __future__ import annotations

import errno
import hashlib
import os

import pytest

from vla_datasets import compaction
from vla_datasets.schema import StoreError
from vla_datasets.store import DemonstrationStore


@pytest.fixture
def store(tmp_path, embodiment, make_episode):
    """Returns a store of the episodes 0..5 in three segments."""
    store = DemonstrationStore.create(tmp_path / "store", embodiment)
    with store.writer() as writer:
        for first in (0, 2, 4):
            writer.append([make_episode(first), make_episode(first + 1)])
    return store


def contents(store):
    return [(record.source_id, store.read_episode(record.index)) for record in store.episodes]


def files_of(root):
    return {path.relative_to(root) for path in root.rglob("*") if path.is_file()}


def test_a_deleted_episode_is_gone_and_its_source_id_free(store, make_episode, same_episode):
    before = files_of(store.path)
    with store.writer() as writer:
        writer.delete(["source-1", "source-4"])
        assert files_of(store.path) == before
        writer.append([make_episode(1)])
    for seen in (store, DemonstrationStore.open(store.path)):
        assert [record.index for record in seen.episodes] == [0, 1, 2, 3, 4]
        assert [name for name, _ in contents(seen)] == [f"source-{number}" for number in (0, 2, 3, 5, 1)]
        for name, episode in contents(seen):
            assert same_episode(episode, make_episode(int(name.removeprefix("source-"))))


def test_a_deletion_is_remembered_until_the_episode_is_added_again(store, make_episode):
    with store.writer() as writer:
        writer.delete(["source-1", "source-4"])
        writer.compact()
    assert DemonstrationStore.open(store.path).manifest.deleted_source_ids == {"source-1", "source-4"}
    with store.writer() as writer:
        writer.append([make_episode(1)])
    assert DemonstrationStore.open(store.path).manifest.deleted_source_ids == {"source-4"}


def test_a_store_from_before_deletions_were_remembered_is_read(store):
    data = store.files.read("manifest.json")
    content = data[data.index(b'"content":') + len(b'"content":') : -1].replace(b'"deleted_source_ids":[],', b"")
    digest = hashlib.sha256(content).hexdigest().encode()
    head = b'{"format":"vla-zarr","version":2,"sha256":"%s","content":' % digest
    (store.path / "manifest.json").write_bytes(head + content + b"}")
    assert DemonstrationStore.open(store.path).manifest == store.manifest


def test_unknown_episodes_are_told_and_nothing_changes(store):
    fingerprint = store.fingerprint
    with store.writer() as writer:
        with pytest.raises(ValueError, match="no episode 'source-9'; did you mean 'source-"):
            writer.delete(["source-0", "source-9"])
        with pytest.raises(ValueError, match="no episode 'source-9'"):
            writer.set_keep({"source-0": [(0, 1)], "source-9": [(0, 1)]})
    assert DemonstrationStore.open(store.path).fingerprint == fingerprint


def test_keep_ranges_are_kept(store, make_episode):
    assert all(record.keep == ((0, record.length),) for record in store.episodes)
    length = store.episodes[3].length
    with store.writer() as writer:
        writer.set_keep({"source-3": [(0, 1), (2, length)]})
        for bad in ([], [(0, length + 1)], [(1, 1)], [(-1, 2)], [(1, 3), (2, 3)], [(0, 1.5)], [(2, 3), (0, 1)]):
            with pytest.raises(ValueError, match="'source-3': keep"):
                writer.set_keep({"source-3": bad})
        writer.delete(["source-0"])
        writer.compact()
    record = DemonstrationStore.open(store.path).episodes[2]
    assert record.source_id == "source-3"
    assert record.keep == ((0, 1), (2, length))


def test_the_fingerprint_follows_what_training_sees(store):
    seen = [store.fingerprint]
    with store.writer() as writer:
        writer.set_keep({"source-0": [(0, 1)]})
        seen.append(store.fingerprint)
        writer.delete(["source-5"])
        seen.append(store.fingerprint)
        writer.compact()
    assert len(set(seen)) == 3
    assert store.fingerprint == seen[-1]


def test_compaction_keeps_every_live_episode_and_frees_the_rest(store, make_episode, same_episode):
    before = store.segment_ids
    with store.writer() as writer:
        writer.delete(["source-0", "source-1", "source-3"])
        fingerprint = store.fingerprint
        writer.compact()
        after = store.segment_ids
        writer.compact()
        assert store.segment_ids == after
        assert sorted(path.name for path in (store.path / "segments").iterdir()) == [*after, "zarr.json"]
        writer.append([make_episode(0)])
    assert not set(store.segment_ids) & set(before)
    store.verify()
    for name, episode in contents(store):
        assert same_episode(episode, make_episode(int(name.removeprefix("source-"))))
    with store.writer() as writer:
        writer.delete(["source-0"])
    assert store.fingerprint == fingerprint


def test_compaction_of_nothing_but_deleted_episodes(store):
    with store.writer() as writer:
        writer.delete([record.source_id for record in store.episodes])
        writer.compact()
    assert store.segment_ids == ()
    assert [path.name for path in (store.path / "segments").iterdir()] == ["zarr.json"]


def test_compaction_leaves_full_segments_and_bounds_the_others(store, monkeypatch, make_episode):
    with store.writer() as writer:
        writer.append([make_episode(6, 40)])
        monkeypatch.setattr(compaction, "FRAMES_PER_SEGMENT", 40)
        writer.compact()
        assert store.segment_ids[-1] == "000003"
        rest = [segment for segment in store.manifest.segments if segment.id != "000003"]
        assert all(segment.frames <= 40 for segment in rest)
        ids = store.segment_ids
        writer.compact()
        assert store.segment_ids == ids
    assert [record.source_id for record in store.episodes] == [f"source-{number}" for number in range(7)]
    store.verify()


def test_compaction_refuses_to_copy_damage(store):
    shard = store.path / "segments/000001/data/image.front/c/0/0/0/0"
    damaged = bytearray(shard.read_bytes())
    damaged[30] ^= 1
    shard.write_bytes(damaged)
    ids = store.segment_ids
    with store.writer() as writer:
        writer.delete(["source-0"])
        with pytest.raises(StoreError, match=r"segments/000001/data/image\.front.*checksum"):
            writer.compact()
    assert DemonstrationStore.open(store.path).segment_ids == ids
    assert {path.name for path in (store.path / "segments").iterdir()} == {*ids, "zarr.json"}


def test_a_reader_from_before_a_compaction_is_told(store):
    reader = DemonstrationStore.open(store.path)
    with store.writer() as writer:
        writer.compact()
    with pytest.raises(StoreError, match="compacted meanwhile open it again"):
        reader.read_episode(0)


def test_a_full_disk_at_any_write_leaves_the_store_as_it_was(store, make_episode, same_episode, monkeypatch):
    """Every write of an append is refused once; the writer cleans up, says what failed, and goes on."""
    write = os.write
    before, fingerprint = files_of(store.path), store.fingerprint
    with store.writer() as writer:
        for at in range(0, 100, 3):
            calls = iter(range(10**6))

            def full(descriptor, data, at=at, calls=calls):
                if next(calls) >= at:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return write(descriptor, data)

            monkeypatch.setattr(os, "write", full)
            try:
                writer.append([make_episode(6)])
            except StoreError as error:
                words = (f"{store.path}/", "append of 1 episodes from 'source-6'", "No space left", "unchanged")
                assert all(word in str(error) for word in words)  # noqa: PT017
                assert files_of(store.path) == before
                assert DemonstrationStore.open(store.path).fingerprint == fingerprint
            else:
                break
            finally:
                monkeypatch.undo()
    assert at > 10
    assert same_episode(store.read_episode(6), make_episode(6))


def test_a_read_only_store_is_read_and_refuses_a_writer(store, same_episode, make_episode):
    for path in (store.path, *store.path.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.getuid() == 0:
                for parent in store.path.parents:
                    if parent.stat().st_uid == 0 and "pytest" in str(parent):
                        parent.chmod(0o755)
                os.setuid(65534)
            readable = DemonstrationStore.open(store.path)
            readable.verify()
            same_episode(readable.read_episode(0), make_episode(0))
            try:
                with readable.writer():
                    pass
            except StoreError as error:
                status = 0 if "cannot be written (Permission denied)" in str(error) else 2
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for path in (store.path, *store.path.rglob("*")):
        path.chmod(0o755)
    assert status == 0
