"""Stores from stores, without touching a frame: segments are shared, and a manifest says which episodes count."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from vla_datasets.files import MANIFEST_NAME
from vla_datasets.schema import Layout, StoreError, describe_streams
from vla_datasets.store import DemonstrationStore, files_at
from vla_policy.config import nearest


def merge_stores(
    sources: Sequence[DemonstrationStore], out: str | Path, *, restore: bool = False
) -> DemonstrationStore:
    """Adds all live episodes of the sources to the store at `out`, in one commit, and returns it.

    Segment files are hard-linked where source and `out` lie on one file system, else copied and checked; frames are
    never encoded again. Episodes that `out` already holds, bit for bit, are not added again, so a merge that was
    killed is simply repeated. What was deleted from `out` stays deleted, and its keep-ranges stay.

    Args:
        sources: at least one; all of the same layout.
        out: the store to add to; created when it is not there.
        restore: also add episodes whose source ids were deleted from `out`.

    Raises:
        ValueError: layouts differ, or two different episodes have one source id; `out` is unchanged.
        StoreLockedError: another writer holds `out`.
        StoreError: a source's file is missing or changed, or the disk refused; `out` is unchanged.
    """
    if not sources:
        raise ValueError("a merge needs at least one source store; got none")
    selections = [(source, [record.source_id for record in source.episodes]) for source in sources]
    return _adopt(selections, out, restore=restore)


def split_store(store: DemonstrationStore, outs: Mapping[str | Path, Collection[str]]) -> list[DemonstrationStore]:
    """Makes stores of parts of a store, as `merge_stores` does, and returns them in the order of `outs`.

    The segments of a part hold the other episodes' bytes too until it is compacted; on one file system they take no
    space of their own.

    Args:
        store: stays as it is.
        outs: where each part goes -> the source ids of its episodes, at least one; no episode goes to two of them.

    Raises:
        ValueError: the store has no such episode, or an episode goes to two parts; nothing is written.
        StoreLockedError: another writer holds a part.
        StoreError: a file is missing or changed, or the disk refused; the parts that came before are complete.
    """
    known = {record.source_id for record in store.episodes}
    taken: dict[str, str | Path] = {}
    for out, names in outs.items():
        if not names:
            raise ValueError(f"the part {out} has no episodes: leave it out")
        for name in names:
            if name not in known:
                raise ValueError(f"{store.path} has no episode {name!r}{nearest(name, known)}")
            if taken.setdefault(name, out) != out:
                raise ValueError(f"episode {name!r} goes to both {taken[name]} and {out}: an episode has one part")
    return [_adopt([(store, names)], out) for out, names in outs.items()]


def _adopt(
    selections: Sequence[tuple[DemonstrationStore, Collection[str]]], out: str | Path, *, restore: bool = False
) -> DemonstrationStore:
    layout = selections[0][0].manifest.layout
    for source, _ in selections[1:]:
        _require_same(layout, source.manifest.layout, f"store {selections[0][0].path}", f"store {source.path}")
    if MANIFEST_NAME in files_at(out).children(""):
        store = DemonstrationStore.open(out)
        _require_same(store.manifest.layout, layout, f"store {out}", f"store {selections[0][0].path}")
    else:
        store = DemonstrationStore.create(
            out, layout.embodiment, streams=layout.streams, image_codec=layout.image_codec
        )
    with store.writer() as writer:
        parts = [(source.files, source.manifest.segments, set(names)) for source, names in selections]
        writer.adopt(parts, restore=restore)
    return store


def _require_same(a: Layout, b: Layout, mine: str, theirs: str) -> None:
    a.embodiment.require_match(b.embodiment, mine=mine, theirs=theirs)
    for what, ours, others in (
        ("streams", describe_streams(a.streams), describe_streams(b.streams)),
        ("image codec", a.image_codec, b.image_codec),
    ):
        if ours != others:
            raise StoreError(
                f"{mine} and {theirs} do not fit together: {what} {ours} and {others}; "
                f"append the episodes of one to a new store of the other's layout"
            )
