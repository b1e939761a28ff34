"""What an import adds to a store, and what it leaves out."""

from __future__ import annotations

import dataclasses

import pytest

from vla_datasets.convert.driver import import_episodes
from vla_datasets.convert.foreign import ForeignError
from vla_datasets.schema import Subtask
from vla_datasets.store import DemonstrationStore


class Source:
    """Episodes in memory, as a data set of another format."""

    path = "memory"

    def __init__(self, embodiment, episodes):
        self.streams = {}
        self.embodiment = embodiment
        self._episodes = {episode.source_id: episode for episode in episodes}
        self.lengths = {name: len(episode) for name, episode in self._episodes.items()}

    def read(self, source_id):
        return self._episodes[source_id]


@pytest.fixture
def source(embodiment, make_episode):
    return Source(embodiment, [make_episode(number) for number in range(4)])


def ids(path):
    return [record.source_id for record in DemonstrationStore.open(path).episodes]


def test_what_was_deleted_stays_deleted_until_it_is_restored(tmp_path, source, same_episode):
    import_episodes(source, tmp_path / "store")
    store = DemonstrationStore.open(tmp_path / "store")
    with store.writer() as writer:
        writer.delete(["source-1", "source-3"])
        writer.compact()
    again = import_episodes(source, tmp_path / "store")
    assert (again.present, again.deleted, again.imported, again.finished) == (2, 2, 0, True)
    assert ids(tmp_path / "store") == ["source-0", "source-2"]
    restored = import_episodes(source, tmp_path / "store", restore=True)
    assert (restored.present, restored.deleted, restored.imported, restored.finished) == (2, 0, 2, True)
    store = DemonstrationStore.open(tmp_path / "store")
    assert ids(tmp_path / "store") == ["source-0", "source-2", "source-1", "source-3"]
    assert same_episode(store.read_episode(2), source.read("source-1"))
    assert import_episodes(source, tmp_path / "store").present == 4


def test_what_one_store_deleted_is_new_to_another(tmp_path, source):
    for name in ("a", "b"):
        import_episodes(source, tmp_path / name)
    with DemonstrationStore.open(tmp_path / "a").writer() as writer:
        writer.delete(list(source.lengths))
    assert import_episodes(source, tmp_path / "a").deleted == 4
    assert len(ids(tmp_path / "b")) == 4


def test_a_new_store_has_the_image_codec_that_was_asked_for(tmp_path, source):
    import_episodes(source, tmp_path / "store", image_codec="jpeg")
    assert DemonstrationStore.open(tmp_path / "store").image_codec == "jpeg"
    assert import_episodes(source, tmp_path / "store").present == 4
    with pytest.raises(ForeignError, match="has jpeg images; got the image codec raw"):
        import_episodes(source, tmp_path / "store", image_codec="raw")


def test_other_subtasks_are_another_data_set(tmp_path, embodiment, make_episode, source):
    import_episodes(source, tmp_path / "store")
    cut = dataclasses.replace(make_episode(0), subtasks=(Subtask(0, 1, "reach"),))
    with pytest.raises(ForeignError, match="'source-0' whose subtasks differ"):
        import_episodes(Source(embodiment, [cut]), tmp_path / "store")
