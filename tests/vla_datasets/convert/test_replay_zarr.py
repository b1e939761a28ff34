"""diffusion_policy and UMI replay buffers, written by zarr-python in zarr format 2."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import torch
import zarr

from vla_datasets.convert.driver import import_episodes
from vla_datasets.convert.foreign import ForeignError
from vla_datasets.convert.in_place import InPlaceStore
from vla_datasets.convert.mapped import MappedDataset
from vla_datasets.convert.replay_zarr import ReplayZarr
from vla_datasets.loader import RamLoader
from vla_datasets.store import DemonstrationStore

LENGTHS = (5, 7, 4)


@pytest.fixture
def episodes(raw):
    return [raw(number, frames) for number, frames in enumerate(LENGTHS)]


@pytest.fixture
def buffer(tmp_path, episodes):
    """Returns a replay buffer as diffusion_policy's ReplayBuffer lays it out."""
    path = tmp_path / "toy.zarr"
    root = zarr.open_group(path, mode="w", zarr_format=2)
    for key in episodes[0]:
        array = np.concatenate([episode[key] for episode in episodes])
        compressor = numcodecs.Blosc(cname="zstd", clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE)
        chunks = (1, *array.shape[1:]) if key == "image" else (161, *array.shape[1:])
        root.create_array(f"data/{key}", data=array, chunks=chunks, compressors=compressor)
    root.create_array("meta/episode_ends", data=np.cumsum(LENGTHS).astype(np.int64))
    return path


def zipped(path: Path) -> Path:
    archive = path.with_suffix(".zarr.zip")
    with zipfile.ZipFile(archive, "w") as file:
        for entry in sorted(path.rglob("*")):
            if entry.is_file():
                file.write(entry, entry.relative_to(path).as_posix())
    return archive


@pytest.mark.parametrize("pack", [Path, zipped], ids=["directory", "zip"])
def test_episodes_arrive_bit_for_bit(tmp_path, buffer, episodes, mapping, pack):
    source = MappedDataset(ReplayZarr(pack(buffer)), mapping())
    progress = import_episodes(source, tmp_path / "store")
    assert (progress.imported, progress.frames, progress.refused) == (3, sum(LENGTHS), {})
    store = DemonstrationStore.open(tmp_path / "store")
    assert store.embodiment.state.names == ("elbow", "shoulder", "opening")
    assert [record.source_id for record in store.episodes] == ["toy/000000", "toy/000001", "toy/000002"]
    for index, expected in enumerate(episodes):
        got = store.read_episode(index)
        assert np.array_equal(got.images["front"], expected["image"])
        assert np.array_equal(got.state, expected["state"])
        assert np.array_equal(got.actions, expected["action"])
        assert (got.instruction, got.task, got.success) == ("pick up the cube", "pick up the cube", True)


def test_an_import_goes_on_where_it_stopped(tmp_path, buffer, mapping):
    source = MappedDataset(ReplayZarr(buffer), mapping())
    answers = iter([False, True])
    first = import_episodes(source, tmp_path / "store", stop=lambda: next(answers))
    assert (first.imported, first.finished) == (1, False)
    second = import_episodes(source, tmp_path / "store")
    assert (second.present, second.imported, second.finished) == (1, 2, True)
    ids = [record.source_id for record in DemonstrationStore.open(tmp_path / "store").episodes]
    assert ids == list(source.lengths)


def test_another_data_set_of_the_same_name_is_not_taken_for_a_resume(tmp_path, buffer, mapping):
    import_episodes(MappedDataset(ReplayZarr(buffer), mapping()), tmp_path / "store")
    scaled = mapping(("action, dimensions: {elbow: {unit: rad}", "action, dimensions: {elbow: {unit: rad, scale: 2}"))
    with pytest.raises(ForeignError, match=r"'toy/000000' whose actions differ .* --name"):
        import_episodes(MappedDataset(ReplayZarr(buffer), scaled), tmp_path / "store")
    progress = import_episodes(MappedDataset(ReplayZarr(buffer), scaled, name="scaled"), tmp_path / "store")
    assert progress.imported == 3


def test_a_bad_episode_is_refused_by_name_and_the_rest_arrives(tmp_path, buffer, mapping):
    root = zarr.open_group(buffer, mode="r+")
    root["data/state"][6, 1] = np.nan
    progress = import_episodes(MappedDataset(ReplayZarr(buffer), mapping()), tmp_path / "store")
    assert progress.imported == 2 and progress.finished
    assert "row 1, shoulder is nan" in progress.refused["toy/000001"]


def test_reading_in_place_gives_the_batches_of_the_imported_store(tmp_path, buffer, mapping):
    source = MappedDataset(ReplayZarr(buffer), mapping())
    import_episodes(source, tmp_path / "store")
    stores = (DemonstrationStore.open(tmp_path / "store"), InPlaceStore(source))
    options = {"chunk_size": 3, "batch_size": 4, "split": "training", "validation_fraction": 0.0, "seed": 0}
    batches = [RamLoader(store, **options, ram_budget_gb=1.0).batches() for store in stores]
    for _ in range(5):
        ours, in_place = (next(iterator) for iterator in batches)
        assert torch.equal(ours.images["front"], in_place.images["front"])
        assert torch.equal(ours.state, in_place.state) and torch.equal(ours.actions, in_place.actions)
        assert torch.equal(ours.action_mask, in_place.action_mask)
    assert InPlaceStore(source).fingerprint == stores[1].fingerprint


def test_jpeg_xl_of_umi_is_read(tmp_path, buffer, episodes, mapping):
    codecs = pytest.importorskip("imagecodecs.numcodecs")
    codecs.register_codecs(verbose=False)
    root = zarr.open_group(buffer, mode="r+")
    pictures = np.concatenate([episode["image"] for episode in episodes])
    root.create_array(
        "data/camera0_rgb", data=pictures, chunks=(1, 12, 16, 3), compressors=codecs.Jpegxl(level=99, lossless=True)
    )
    source = MappedDataset(ReplayZarr(buffer), mapping(("key: image", "key: camera0_rgb")))
    assert np.array_equal(source.read("toy/000001").images["front"], episodes[1]["image"])


def test_states_one_frame_ahead_become_actions(buffer, episodes, mapping):
    text = 'arm: {key: state, ahead: 1, dimensions: {elbow: {unit: rad, column: 0}, opening: {unit: "1", column: 2}}}'
    ahead = mapping(('arm: {key: action, dimensions: {elbow: {unit: rad}, opening: {unit: "1"}}}', text))
    source = MappedDataset(ReplayZarr(buffer), ahead)
    assert source.lengths == {"toy/000000": 4, "toy/000001": 6, "toy/000002": 3}
    episode = source.read("toy/000001")
    assert np.array_equal(episode.actions, episodes[1]["state"][1:, [0, 2]])
    assert np.array_equal(episode.state, episodes[1]["state"][:-1])
    assert len(episode.images["front"]) == len(episode) == 6


def test_units_are_converted_as_declared(buffer, episodes, mapping):
    declared = mapping(("elbow: {unit: rad}, shoulder", "elbow: {unit: rad, scale: 0.0174533, offset: 1.5}, shoulder"))
    state = MappedDataset(ReplayZarr(buffer), declared).read("toy/000000").state
    expected = episodes[0]["state"][:, 0].astype(np.float64) * 0.0174533 + 1.5
    assert np.allclose(state[:, 0], expected, rtol=1e-6) and np.array_equal(state[:, 1:], episodes[0]["state"][:, 1:])


def edit(buffer: Path, key: str, **changes: object) -> None:
    file = buffer / "data" / key / ".zarray"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def remove_ends(buffer: Path) -> None:
    del zarr.open_group(buffer, mode="r+")["meta"]["episode_ends"]


def cut_short(buffer: Path) -> None:
    zarr.open_group(buffer, mode="r+")["data/action"].resize((15, 2))


def trailing_zero(buffer: Path) -> None:
    ends = zarr.open_group(buffer, mode="r+")["meta/episode_ends"]
    ends.resize((4,))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_ends, "it has no meta/episode_ends"),
        (cut_short, r"data/action has 15 frames, meta/episode_ends ends at 16"),
        (trailing_zero, r"episode 3 ends at 0 after 16"),
        (lambda b: edit(b, "image", compressor={"id": "h264_of_somebody"}), r"image cannot be read.*h264_of_somebody"),
        (lambda b: edit(b, "state", filters=[{"id": "pickle"}]), r"state cannot be read.*pickle"),
        (lambda b: edit(b, "state", compressor={"id": "pickle"}), r"state cannot be read.*pickle"),
    ],
)
def test_bad_buffers_are_refused_and_the_store_is_not_made(tmp_path, buffer, mapping, damage, message):
    damage(buffer)
    with pytest.raises(ForeignError, match=message):
        import_episodes(MappedDataset(ReplayZarr(buffer), mapping()), tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_what_is_no_buffer_is_named(tmp_path):
    for make in (lambda p: p.mkdir(), lambda p: p.write_bytes(b"PK nonsense")):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.zarr"
        make(path)
        with pytest.raises(ForeignError, match=path.name):
            ReplayZarr(path)


def test_a_torn_chunk_refuses_its_episode_only(tmp_path, buffer, mapping):
    (buffer / "data" / "image" / "6.0.0.0").write_bytes(b"\x02\x01\x95\x01")
    progress = import_episodes(MappedDataset(ReplayZarr(buffer), mapping()), tmp_path / "store")
    assert list(progress.refused) == ["toy/000001"] and "data/image is torn" in progress.refused["toy/000001"]


@pytest.mark.parametrize(
    ("replacement", "message"),
    [
        (("key: image", "key: imgae"), r"no 'imgae'; did you mean 'image'\?; .* offers:\n  action: float32 \(2,\)"),
        (("shoulder: {unit: rad}, ", ""), r"state: state has 3 columns, the mapping names 2"),
        (("key: image", "key: state"), r"state holds no colour pictures but float32 \(3,\)"),
        (("key: image", "key: image, height: 6, width: 6"), r"front.fit: is missing: 12 x 16 .* stretch or crop"),
        (("{text: pick up the cube}", "{key: words}"), r"instruction: there is no 'words'"),
        (("rate_hz: 10\n", ""), r"rate_hz: is missing, and the data set does not say it"),
    ],
)
def test_a_mapping_that_does_not_fit_lists_what_there_is(buffer, mapping, replacement, message):
    declared = mapping(replacement)
    with pytest.raises(ForeignError, match=message):
        MappedDataset(ReplayZarr(buffer), declared)


@pytest.mark.parametrize(
    ("replacement", "message"),
    [
        (
            ("{elbow: {unit: rad}, shoulder", "{elbow: {unit: deg}, shoulder"),
            r":8: .*unit: got 'deg'; did you mean 'rad'",
        ),
        (("control_mode: joint_position", 'control_mode: "?"'), r":3: control_mode: is still '\?'"),
        (("success: {all: true}", "success: {}"), "give either all: true"),
        (("success: {all: true}", 'success: {all: "?"}'), r"expected true or false; got '\?'"),
        (("{text: pick up the cube}", "{text: a, key: b}"), "give either text"),
        (("cameras:", "camera:"), "did you mean 'cameras'"),
    ],
)
def test_a_wrong_mapping_file_is_pointed_at(mapping, replacement, message):
    with pytest.raises(ValueError, match=message):
        mapping(replacement)


def test_float_pictures_say_their_scale(tmp_path, buffer, episodes, mapping):
    root = zarr.open_group(buffer, mode="r+")
    pictures = np.concatenate([episode["image"] for episode in episodes])
    root.create_array("data/img", data=pictures.astype(np.float32))  # as PushT's own buffer has them
    root.create_array("data/unit", data=pictures.astype(np.float32) / 255)
    read = lambda *replacement: MappedDataset(ReplayZarr(buffer), mapping(replacement)).read("toy/000000")  # noqa: E731
    assert np.array_equal(read("key: image", "key: img").images["front"], episodes[0]["image"])
    assert np.array_equal(read("key: image", "key: unit, scale: 255").images["front"], episodes[0]["image"])
    with pytest.raises(ForeignError, match="unit lies in 0 to 1: give the camera scale: 255"):
        read("key: image", "key: unit")
    with pytest.raises(ForeignError, match="must lie in 0 to 255"):
        read("key: image", "key: img, scale: 2")


def test_pictures_are_resized_as_declared(buffer, episodes, mapping):
    half = mapping(("key: image", "key: image, height: 6, width: 8, order: bgr"))
    got = MappedDataset(ReplayZarr(buffer), half).read("toy/000000").images["front"]
    blocks = episodes[0]["image"].reshape(5, 6, 2, 8, 2, 3).mean(axis=(2, 4))[..., ::-1]
    assert np.abs(got - blocks).max() <= 0.5
    cropped = mapping(("key: image", "key: image, height: 12, width: 12, fit: crop"))
    got = MappedDataset(ReplayZarr(buffer), cropped).read("toy/000000").images["front"]
    assert np.array_equal(got, episodes[0]["image"][:, :, 2:14])


def test_an_empty_buffer_is_an_error(tmp_path, mapping):
    root = zarr.open_group(tmp_path / "toy.zarr", mode="w", zarr_format=2)
    for key, shape in {"image": (12, 16, 3), "state": (3,), "action": (2,)}.items():
        root.create_array(f"data/{key}", shape=(0, *shape), chunks=(1, *shape), dtype=np.uint8)
    root.create_array("meta/episode_ends", shape=(0,), chunks=(1,), dtype=np.int64)
    source = MappedDataset(ReplayZarr(tmp_path / "toy.zarr"), mapping())
    with pytest.raises(ForeignError, match="holds no episodes"):
        import_episodes(source, tmp_path / "store")
