from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from vla_datasets import shards
from vla_datasets.image_codecs import IMAGE_CODECS
from vla_datasets.manifest import FORMAT, MANIFEST_NAME, VERSION
from vla_datasets.schema import StoreError, Stream, Subtask
from vla_datasets.store import DemonstrationStore
from vla_policy.embodiment import Channel


@pytest.fixture
def store(tmp_path, embodiment):
    return DemonstrationStore.create(tmp_path / "store", embodiment)


def files_of(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name != "writer.lock"
    }


def test_episodes_come_back_bit_for_bit(store, embodiment, make_episode, same_episode):
    episodes = [make_episode(number) for number in range(7)]
    signed_zero = dataclasses.replace(
        make_episode(7), state=np.full((5, 4), -0.0, np.float32), actions=np.zeros((5, 3), np.float32),
        images={"front": np.zeros((5, 12, 16, 3), np.uint8), "wrist": np.full((5, 8, 8, 3), 255, np.uint8)},
    )  # fmt: skip
    with store.writer() as writer:
        writer.append(episodes[:3])
        writer.append(episodes[3:])
        writer.append([signed_zero])
    reopened = DemonstrationStore.open(store.path)
    assert reopened.embodiment == embodiment
    assert reopened.episodes == store.episodes
    assert reopened.fingerprint == store.fingerprint
    for record, episode in zip(reopened.episodes, [*episodes, signed_zero], strict=True):
        assert record.length == len(episode)
        assert same_episode(reopened.read_episode(record.index), episode)
    reopened.verify()


def test_strided_images_come_back(store, make_episode, same_episode):
    episode = make_episode(0)
    episode = dataclasses.replace(episode, images={name: im[:, :, ::-1] for name, im in episode.images.items()})
    with store.writer() as writer:
        writer.append([episode])
    assert same_episode(store.read_episode(0), episode)


def test_episodes_across_shards_come_back(store, make_episode, same_episode):
    episodes = [make_episode(number, length) for number, length in enumerate((990, 25, 1100))]
    with store.writer() as writer:
        writer.append(episodes)
    for record, episode in zip(store.episodes, episodes, strict=True):
        assert same_episode(store.read_episode(record.index), episode)


def test_zarr_python_reads_the_same_arrays(store, embodiment, make_episode):
    episodes = [make_episode(number, length) for number, length in enumerate((700, 400))]
    with store.writer() as writer:
        writer.append(episodes)
    assert zarr.open_group(store.path, mode="r").attrs["format"] == FORMAT
    data = zarr.open_group(store.path / "segments" / store.segment_ids[0] / "data", mode="r")
    arrays = dict(data.arrays())
    assert set(arrays) == {"state", "action", "image.front", "image.wrist"}
    for camera in embodiment.cameras:
        np.testing.assert_array_equal(
            arrays[f"image.{camera}"][:], np.concatenate([episode.images[camera] for episode in episodes])
        )
    np.testing.assert_array_equal(arrays["state"][:], np.concatenate([episode.state for episode in episodes]))
    np.testing.assert_array_equal(arrays["action"][:], np.concatenate([episode.actions for episode in episodes]))
    assert arrays["action"].attrs["names"] == list(embodiment.action.names)


def test_shards_written_by_zarr_python_decode(store, make_episode):
    """The shard layout is the specification's, not merely one that both of our ends share."""
    episode = make_episode(0, 30)
    with store.writer() as writer:
        writer.append([episode])
    path = store.path / "segments" / store.segment_ids[0] / "data" / "image.front"
    zarr.open_array(path, mode="r+")[:] = episode.images["front"]
    data = memoryview((path / "c/0/0/0/0").read_bytes())
    out = np.empty((11, 12, 16, 3), np.uint8)
    shards.decode_frames(lambda i, j: data[i:j], len(data), IMAGE_CODECS["lz4"], 4, out, "shard")
    np.testing.assert_array_equal(out, episode.images["front"][4:15])


def broken_episodes(episode):
    """Yields (what the error must name, an episode with that defect)."""
    nan, late_inf = episode.state.copy(), episode.actions.copy()
    nan[1, 2] = np.nan
    late_inf[-1, 0] = np.inf
    replace = dataclasses.replace
    images = episode.images
    yield ["state", "speed", "nan"], replace(episode, state=nan)
    yield ["action", "shoulder", "inf"], replace(episode, actions=late_inf)
    yield ["state", "float64"], replace(episode, state=episode.state.astype(np.float64))
    yield ["state"], replace(episode, state=episode.state[:, :3])
    yield ["state"], replace(episode, state=episode.state[:-1])
    yield ["action"], replace(episode, actions=episode.actions[0])
    yield ["actions", "0"], replace(episode, actions=episode.actions[:0])
    yield ["image.wrist"], replace(episode, images={**images, "wrist": images["wrist"][:-1]})
    yield ["image.wrist"], replace(episode, images={**images, "wrist": images["wrist"][:, :4]})
    yield ["image.front", "float32"], replace(episode, images={**images, "front": images["front"].astype(np.float32)})
    yield ["front, wrist", "side"], replace(episode, images={"side": images["front"]})
    yield ["instruction"], replace(episode, instruction=" ")
    yield ["task"], replace(episode, task="")
    yield ["source_id"], replace(episode, source_id="")
    yield ["success"], replace(episode, success=None)


def test_a_bad_episode_is_named_and_changes_nothing(store, make_episode):
    with store.writer() as writer:
        writer.append([make_episode(0)])
        before = files_of(store.path)
        for words, bad in broken_episodes(make_episode(1)):
            with pytest.raises(ValueError, match="source-1" if bad.source_id else "source_id") as caught:
                writer.append([make_episode(2), bad])
            for word in words:
                assert word in str(caught.value)
            assert files_of(store.path) == before
        writer.append([make_episode(1)])
    assert len(store.episodes) == 2


def test_source_ids_are_unique(store, make_episode):
    with store.writer() as writer:
        writer.append([make_episode(0)])
        for batch in ([make_episode(0)], [make_episode(1), make_episode(1)]):
            with pytest.raises(ValueError, match="source_id is already"):
                writer.append(batch)
        writer.append([])
    assert [record.source_id for record in store.episodes] == ["source-0"]


def test_the_fingerprint_is_the_datas(tmp_path, embodiment, make_episode):
    prints = []
    for name, numbers in (("a", (0, 1)), ("b", (0, 1)), ("c", (0, 2))):
        store = DemonstrationStore.create(tmp_path / name, embodiment)
        empty = store.fingerprint
        with store.writer() as writer:
            writer.append([make_episode(number) for number in numbers])
        assert store.fingerprint != empty
        prints.append(store.fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_an_open_store_stays_readable_while_another_appends(store, make_episode, same_episode):
    with store.writer() as writer:
        writer.append([make_episode(0)])
        reader = DemonstrationStore.open(store.path)
        writer.append([make_episode(1)])
        assert len(reader.episodes) == 1
        assert same_episode(reader.read_episode(0), make_episode(0))
        assert len(DemonstrationStore.open(store.path).episodes) == len(store.episodes) == 2


def test_create_refuses_what_is_there(store, tmp_path, embodiment, make_episode):
    with store.writer() as writer:
        writer.append([make_episode(0)])
    with pytest.raises(FileExistsError, match="already holds a store"):
        DemonstrationStore.create(store.path, embodiment)
    (store.path / MANIFEST_NAME).rename(tmp_path / "moved.json")
    with pytest.raises(FileExistsError, match="segments/000000"):
        DemonstrationStore.create(store.path, embodiment)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with pytest.raises(FileExistsError, match=r"cat\.jpg"):
        DemonstrationStore.create(tmp_path / "photos", embodiment)


def test_create_refuses_a_camera_name_that_is_a_path(tmp_path, embodiment):
    with pytest.raises(ValueError, match=r"\.\./x"):
        DemonstrationStore.create(tmp_path / "s", dataclasses.replace(embodiment, cameras={"../x": (8, 8)}))
    assert not (tmp_path / "s").exists()


def test_open_says_what_is_wrong(store, tmp_path, make_episode):
    with store.writer() as writer:
        writer.append([make_episode(0)])
    path = store.path / MANIFEST_NAME
    good = path.read_bytes()
    document = json.loads(good)
    cases = {
        "not JSON": good[: len(good) // 2],
        "format 'vla-zarr'": json.dumps({**document, "format": "lerobot"}).encode(),
        "format version 7": json.dumps({**document, "version": VERSION + 5}).encode(),
        "own checksum": good.replace(b"task_0", b"task_1"),
        "got 'list'": b"[]",
    }
    for words, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(StoreError, match=words):
            DemonstrationStore.open(store.path)
        with pytest.raises(StoreError, match=words), store.writer():
            pass
    path.unlink()
    with pytest.raises(FileNotFoundError, match="not a vla-zarr store"):
        DemonstrationStore.open(store.path)
    with pytest.raises(FileNotFoundError, match="does not exist, or is empty"):
        DemonstrationStore.open(tmp_path / "nowhere")


def test_verify_names_every_changed_or_missing_file(store, make_episode):
    with store.writer() as writer:
        writer.append([make_episode(0)])
    data = store.path / "segments" / "000000" / "data"
    shard, state = data / "image.front/c/0/0/0/0", data / "state/c/0/0"
    content = bytearray(shard.read_bytes())
    content[40] ^= 1
    shard.write_bytes(content)
    state.unlink()
    with pytest.raises(StoreError, match="2 bad files") as caught:
        DemonstrationStore.open(store.path).verify()
    assert str(shard) in str(caught.value)
    assert str(state) in str(caught.value)


@pytest.mark.parametrize("keep", [0, 3, 5000, -1])
def test_a_truncated_shard_is_an_error_on_read(store, make_episode, keep):
    with store.writer() as writer:
        writer.append([make_episode(0, 20)])
    shard = store.path / "segments/000000/data/image.front/c/0/0/0/0"
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(StoreError, match="torn"):
        store.read_episode(0)


def test_read_episode_out_of_range(store, make_episode):
    with pytest.raises(IndexError, match="is empty"):
        store.read_episode(0)
    with store.writer() as writer:
        writer.append([make_episode(0)])
    with pytest.raises(IndexError, match=r"0\.\.0; got 1"):
        store.read_episode(1)


@pytest.fixture
def rich_episode(make_episode):
    """Returns a factory of episodes with a stream at 3 samples a frame and subtasks."""

    def make(number, length=None):
        plain = make_episode(number, length)
        wrench = np.random.default_rng(number).normal(size=(3 * len(plain), 2)).astype(np.float32)
        return dataclasses.replace(
            plain, streams={"wrench": wrench}, subtasks=(Subtask(0, 1, "reach"), Subtask(2, len(plain), "grasp"))
        )

    return make


STREAMS = {"wrench": Stream(Channel(("force_x", "torque_x"), ("N", "Nm")), 3)}


def test_streams_and_subtasks_come_back(tmp_path, embodiment, rich_episode):
    store = DemonstrationStore.create(tmp_path / "s", embodiment, streams=STREAMS)
    with store.writer() as writer:
        writer.append([rich_episode(0), rich_episode(1)])
        writer.delete(["source-0"])
        writer.append([rich_episode(2)])
        writer.compact()
    store = DemonstrationStore.open(tmp_path / "s")
    assert store.streams == STREAMS
    for index, number in enumerate((1, 2)):
        found, given = store.read_episode(index), rich_episode(number)
        np.testing.assert_array_equal(found.streams["wrench"], given.streams["wrench"])
        assert found.subtasks == store.episodes[index].subtasks == given.subtasks
        record = store.episodes[index]
        assert [record.instruction_at(frame) for frame in (0, 1, 2)] == ["reach", given.instruction, "grasp"]
    with pytest.raises(KeyError, match="there are: wrench"):
        store.segment(store.segment_ids[0]).stream("torque")


def test_bad_streams_and_subtasks_are_named(tmp_path, embodiment, rich_episode):
    store = DemonstrationStore.create(tmp_path / "s", embodiment, streams=STREAMS)
    good = rich_episode(0, 8)
    wrench, replace = good.streams["wrench"], dataclasses.replace
    infinite = wrench.copy()
    infinite[4, 1] = np.inf
    bad = {
        "streams must have the store's wrench; got none": replace(good, streams={}),
        r"stream.wrench must be float32 \(24, 2\)": replace(good, streams={"wrench": wrench[:-1]}),
        "stream.wrench must be finite; row 4, torque_x": replace(good, streams={"wrench": infinite}),
        "after frame 3": replace(good, subtasks=(Subtask(0, 3, "a"), Subtask(2, 4, "b"))),
        r"got \[4, 9\)": replace(good, subtasks=(Subtask(4, 9, "a"),)),
        "text must not be empty": replace(good, subtasks=(Subtask(4, 8, " "),)),
    }
    with store.writer() as writer:
        for words, episode in bad.items():
            with pytest.raises(ValueError, match=f"'source-0': .*{words}"):
                writer.append([episode])
    assert store.episodes == ()


@pytest.mark.parametrize("codec", ["lz4", "raw", "jpeg"])
def test_every_codec_gives_back_what_it_was_given(tmp_path, embodiment, make_episode, codec):
    store = DemonstrationStore.create(tmp_path / "s", embodiment, image_codec=codec)
    smooth = np.add.outer(np.arange(12) * 9, np.arange(16) * 7)[None, :, :, None] + np.array([0, 20, 40])
    images = {"front": np.repeat(smooth, 7, axis=0).astype(np.uint8), "wrist": np.full((7, 8, 8, 3), 90, np.uint8)}
    with store.writer() as writer:
        writer.append([dataclasses.replace(make_episode(0, 7), images=images), make_episode(1, 1100)])
        before = store.read_episode(0)
        writer.delete(["source-1"])
        writer.compact()
    store = DemonstrationStore.open(tmp_path / "s")
    assert store.image_codec == codec
    store.verify()
    found = store.read_episode(0)
    for camera, given in images.items():
        worst = np.abs(found.images[camera].astype(int) - given).max()
        assert worst == 0 if IMAGE_CODECS[codec].is_lossless else worst <= 8
        np.testing.assert_array_equal(found.images[camera], before.images[camera])
    assert store.episodes[0].length == 7


def test_layouts_that_cannot_be_stored_are_refused(tmp_path, embodiment):
    for words, options in (
        ("did you mean 'jpeg'", {"image_codec": "jpg"}),
        ("stream name 'a/b'", {"streams": {"a/b": STREAMS["wrench"]}}),
        ("samples_per_frame must be", {"streams": {"a": Stream(STREAMS["wrench"].channel, 0)}}),
    ):
        with pytest.raises(ValueError, match=words):
            DemonstrationStore.create(tmp_path / "s", embodiment, **options)
    assert not (tmp_path / "s").exists()
