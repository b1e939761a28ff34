"""Appends the episodes of a source to a store: resumable, each episode checked, each refusal named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from vla_datasets.checks import check_episode
from vla_datasets.convert.foreign import ForeignError
from vla_datasets.schema import Episode, StoreError, Stream, describe_streams
from vla_datasets.store import DemonstrationStore, Writer
from vla_policy.embodiment import Embodiment

BATCH_EPISODES = 50
BATCH_BYTES = 256_000_000


class EpisodeSource(Protocol):
    """What can be imported. `MappedDataset` and `BagDataset` are ones."""

    @property
    def path(self) -> Path:
        """Where it comes from, for messages."""
        ...

    @property
    def embodiment(self) -> Embodiment:
        """Of every episode."""
        ...

    @property
    def streams(self) -> Mapping[str, Stream]:
        """Signals of every episode beside its state."""
        ...

    @property
    def lengths(self) -> Mapping[str, int | None]:
        """Source id -> frames, None where only reading tells; the ids stay the same from one import to the next."""
        ...

    def read(self, source_id: str) -> Episode:
        """Returns one episode.

        Raises:
            ValueError: it cannot be had; names file, episode and key.
        """
        ...


@dataclass
class ImportProgress:
    """Running totals of one import.

    Args:
        wanted: episodes of the source.
        present: how many of them the store had at the start.
        deleted: how many of them were deleted from the store and are left out.
        imported: how many were read and checked since; committed when `import_episodes` returns.
        frames: frames of those.
        refused: source id -> why it is not in the store.
        recovered: what an interrupted append had left behind in the store and was dropped.
    """

    wanted: int
    present: int
    deleted: int
    imported: int = 0
    frames: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    recovered: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether every episode was dealt with."""
        return self.dealt_with == self.wanted

    @property
    def dealt_with(self) -> int:
        """Episodes that are in the store, read, left out or refused."""
        return self.present + self.deleted + self.imported + len(self.refused)


def import_episodes(
    source: EpisodeSource,
    out: str | Path,
    *,
    image_codec: str = "",
    restore: bool = False,
    stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[ImportProgress], None] = lambda progress: None,
) -> ImportProgress:
    """Adds to a store what it lacks of a source and returns the totals.

    Episodes are told apart by source id. Interrupted at any moment, the same call goes on where the store ends. What
    was deleted from the store stays deleted.

    Args:
        source: what to import.
        out: the store, a directory or a URL, made when it is not there.
        image_codec: ``lz4``, ``raw`` or ``jpeg`` (lossy), of the store; "" = as it has, lz4 for a new one.
        restore: also add episodes that were deleted from the store.
        stop: once it returns True, what is read is committed and the call returns.
        on_progress: called at the start and after every episode.

    Raises:
        ForeignError: the source has no episodes, the store holds others under the same source ids, or its streams or
            image codec are others.
        FileExistsError: there is something else at `out`.
        EmbodimentMismatch: the store holds demonstrations of another robot.
        StoreLockedError: another process writes this store.
        StoreError: the disk refused; what was committed before stays, and the same call goes on after it.
    """
    if not source.lengths:
        raise ForeignError(f"{source.path} holds no episodes")
    try:
        store = DemonstrationStore.open(out)
    except FileNotFoundError:
        codec = image_codec or "lz4"
        store = DemonstrationStore.create(out, source.embodiment, streams=source.streams, image_codec=codec)
    store.embodiment.require_match(source.embodiment, mine=f"store {out}", theirs=f"import of {source.path}")
    if dict(store.streams) != dict(source.streams):
        raise ForeignError(
            f"store {out} has the streams {describe_streams(store.streams)}, the import of {source.path} has "
            f"{describe_streams(source.streams)}: declare the same, or import into another store"
        )
    if image_codec not in ("", store.image_codec):
        raise ForeignError(f"store {out} has {store.image_codec} images; got the image codec {image_codec}")
    with store.writer() as writer:
        present = {record.source_id: record.index for record in store.episodes if record.source_id in source.lengths}
        _require_same(source, store, present)
        left_out = frozenset() if restore else store.manifest.deleted_source_ids & source.lengths.keys()
        progress = ImportProgress(len(source.lengths), len(present), len(left_out), recovered=writer.recovered)
        on_progress(progress)
        batch = _Batch(writer)
        for source_id in source.lengths:
            if source_id in present or source_id in left_out:
                continue
            if stop():
                break
            try:
                episode = source.read(source_id)
                check_episode(episode, store.manifest.layout)
            except ValueError as error:
                progress.refused[source_id] = str(error)
            else:
                batch.add(episode)
                progress.imported += 1
                progress.frames += len(episode)
            on_progress(progress)
        batch.commit()
    return progress


class _Batch:
    """Episodes that are appended together, as many as fit into some memory."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._episodes: list[Episode] = []

    def add(self, episode: Episode) -> None:
        self._episodes.append(episode)
        size = sum(images.nbytes for e in self._episodes for images in e.images.values())
        if len(self._episodes) == BATCH_EPISODES or size >= BATCH_BYTES:
            self.commit()

    def commit(self) -> None:
        try:
            self._writer.append(self._episodes)
        except StoreError as error:
            raise StoreError(f"{error}. Episodes committed before stay; the same import goes on after them") from error
        self._episodes = []


def _require_same(source: EpisodeSource, store: DemonstrationStore, present: Mapping[str, int]) -> None:
    """Compares the first and the last of the episodes that are there already with the source's.

    Another data set of the same name, or another mapping, would otherwise pass for an interrupted import.
    """
    for source_id in dict.fromkeys([*list(present)[:1], *list(present)[-1:]]):
        mine, theirs = store.read_episode(present[source_id]), source.read(source_id)
        differing = [
            key for key in ("task", "instruction", "success", "subtasks") if getattr(mine, key) != getattr(theirs, key)
        ]
        differing += [
            key for key in ("state", "actions") if not np.array_equal(getattr(mine, key), getattr(theirs, key))
        ]
        differing += [name for name in store.streams if not np.array_equal(mine.streams[name], theirs.streams[name])]
        if differing:
            raise ForeignError(
                f"{store.path} has an episode {source_id!r} whose {', '.join(differing)} differ from the one in "
                f"{source.path}: this is another data set, or another mapping. Give it another --name"
            )
