from __future__ import annotations

import dataclasses
import errno
import os

import pytest

from vla_datasets.combine import merge_stores, split_store
from vla_datasets.schema import StoreError
from vla_datasets.store import DemonstrationStore
from vla_policy.embodiment import EmbodimentMismatch


@pytest.fixture
def make_store(tmp_path, embodiment, make_episode):
    """Returns a factory: ``make_store(name, segment, segment, ...)``, a segment being a list of episode numbers."""

    def make(name, *segments, **options):
        store = DemonstrationStore.create(tmp_path / name, embodiment, **options)
        with store.writer() as writer:
            for numbers in segments:
                writer.append([make_episode(number) for number in numbers])
        return store

    return make


def ids(store):
    return [record.source_id for record in store.episodes]


def check(store, make_episode, same_episode):
    store = DemonstrationStore.open(store.path)
    store.verify()
    for record in store.episodes:
        number = int(record.source_id.removeprefix("source-"))
        assert same_episode(store.read_episode(record.index), make_episode(number))


def test_a_repeated_merge_leaves_out_what_was_deleted_unless_it_restores(make_store, tmp_path):
    a, b = make_store("a", [0, 1]), make_store("b", [2, 3])
    merged = merge_stores([a, b], tmp_path / "out")
    with merged.writer() as writer:
        writer.delete(["source-1", "source-2"])
        writer.compact()
    with a.writer() as writer:  # what a source deletes is not merged, and nothing that `out` would remember
        writer.delete(["source-0"])
    assert ids(merge_stores([a, b], tmp_path / "out")) == ["source-0", "source-3"]
    restored = merge_stores([a, b], tmp_path / "out", restore=True)
    assert ids(restored) == ["source-0", "source-3", "source-1", "source-2"]
    assert restored.manifest.deleted_source_ids == frozenset()
    restored.verify()


def test_a_repeated_merge_leaves_the_keep_ranges_of_the_merged_store(make_store, tmp_path):
    a = make_store("a", [0, 1])
    merged = merge_stores([a], tmp_path / "out")
    with merged.writer() as writer:
        writer.set_keep({"source-0": [(0, 1)]})
    again = merge_stores([a, make_store("b", [2])], tmp_path / "out")
    assert ids(again) == ["source-0", "source-1", "source-2"] and again.episodes[0].keep == ((0, 1),)


def image_files(store):
    return {path.stat().st_ino for path in store.path.rglob("data/image.*/c/*/0/0/0")}


def test_a_merge_holds_all_episodes_and_shares_their_bytes(make_store, tmp_path, make_episode, same_episode):
    a, b = make_store("a", [0, 1], [2]), make_store("b", [3], [4])
    with a.writer() as writer:
        writer.delete(["source-1"])
        writer.set_keep({"source-0": [(1, 2)]})
    merged = merge_stores([a, b], tmp_path / "out")
    assert ids(merged) == [f"source-{number}" for number in (0, 2, 3, 4)]
    assert merged.episodes[0].keep == ((1, 2),)
    check(merged, make_episode, same_episode)
    assert image_files(merged) == image_files(a) | image_files(b)
    with merged.writer() as writer:
        writer.compact()
    check(merged, make_episode, same_episode)
    check(a, make_episode, same_episode)


def test_a_repeated_merge_adds_nothing(make_store, tmp_path):
    a, b = make_store("a", [0, 1]), make_store("b", [1], [2])
    merged = merge_stores([a, b], tmp_path / "out")
    assert ids(merged) == ["source-0", "source-1", "source-2"]
    fingerprint = merged.fingerprint
    assert merge_stores([a, b], tmp_path / "out").fingerprint == fingerprint
    assert ids(merge_stores([make_store("c", [5])], tmp_path / "out")) == [*ids(merged), "source-5"]


def test_different_episodes_of_one_source_id_are_told(make_store, tmp_path, make_episode):
    a, b = make_store("a", [0]), make_store("b", [2])
    with b.writer() as writer:
        writer.append([dataclasses.replace(make_episode(1), source_id="source-0")])
    out = merge_stores([a], tmp_path / "out")
    with pytest.raises(ValueError, match=f"episode 'source-0' of {b.path} differs"):
        merge_stores([b], out.path)
    assert ids(DemonstrationStore.open(out.path)) == ["source-0"]
    assert sorted(path.name for path in (out.path / "segments").iterdir()) == ["000000", "zarr.json"]


def test_stores_of_different_layout_do_not_merge(make_store, tmp_path, embodiment):
    a, raw = make_store("a", [0]), make_store("raw", [1], image_codec="raw")
    with pytest.raises(StoreError, match="image codec lz4 and raw"):
        merge_stores([a, raw], tmp_path / "out")
    other = DemonstrationStore.create(tmp_path / "b", dataclasses.replace(embodiment, robot="other"))
    with pytest.raises(EmbodimentMismatch, match="other"):
        merge_stores([a, other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_where_links_are_impossible_bytes_are_copied_and_checked(
    make_store, tmp_path, make_episode, same_episode, monkeypatch
):
    def no_link(source, target):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", no_link)
    a = make_store("a", [0, 1])
    merged = merge_stores([a], tmp_path / "out")
    assert not image_files(merged) & image_files(a)
    check(merged, make_episode, same_episode)
    state = a.path / "segments/000000/data/state/c/0/0"
    state.write_bytes(bytes(len(state.read_bytes())))
    with pytest.raises(StoreError, match="state/c/0/0 does not match its checksum"):
        merge_stores([a], tmp_path / "second")
    assert ids(DemonstrationStore.open(tmp_path / "second")) == []


def test_a_split_parts_the_episodes(make_store, tmp_path, make_episode, same_episode):
    store = make_store("all", [0, 1, 2], [3, 4])
    parts = split_store(store, {tmp_path / "x": ["source-3", "source-0"], tmp_path / "y": ["source-1", "source-4"]})
    assert [ids(part) for part in parts] == [["source-0", "source-3"], ["source-1", "source-4"]]
    for part in parts:
        check(part, make_episode, same_episode)
        with part.writer() as writer:
            writer.compact()
        check(part, make_episode, same_episode)
    check(store, make_episode, same_episode)
    whole = merge_stores(parts, tmp_path / "again")
    assert sorted(ids(whole)) == ["source-0", "source-1", "source-3", "source-4"]


def test_a_wrong_split_writes_nothing(make_store, tmp_path):
    store = make_store("all", [0, 1])
    for words, outs in (
        ("goes to both", {tmp_path / "x": ["source-0"], tmp_path / "y": ["source-0"]}),
        ("no episode 'source-7'; did you mean", {tmp_path / "x": ["source-7"]}),
        ("has no episodes", {tmp_path / "x": []}),
    ):
        with pytest.raises(ValueError, match=words):
            split_store(store, outs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all"]
