"""A second reader, written from docs/vla_zarr.md alone: json, hashlib, zarr-python, OpenCV; nothing of vla_datasets."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import zarr

from vla_datasets.schema import Episode, Stream, Subtask
from vla_datasets.store import DemonstrationStore
from vla_policy.embodiment import Channel, Embodiment


def read_store(root: Path) -> tuple[dict, list[dict]]:
    """Returns the manifest's content and the live episodes with their arrays."""
    data = (root / "manifest.json").read_bytes()
    head = re.fullmatch(rb'\{"format":"vla-zarr","version":2,"sha256":"([0-9a-f]{64})","content":(.*)\}', data)
    assert hashlib.sha256(head[2]).hexdigest().encode() == head[1]
    content = json.loads(head[2])
    episodes = []
    for segment in content["segments"]:
        directory = root / "segments" / segment["id"]
        found = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}
        assert found == set(segment["files"])
        for name, (size, sha256) in segment["files"].items():
            stored = (directory / name).read_bytes()
            assert (len(stored), hashlib.sha256(stored).hexdigest()) == (size, sha256)
        arrays = {
            path.name: read_jpeg(path) if content["image_codec"] == "jpeg" and path.name.startswith("image.")
            else zarr.open_array(path, mode="r")[:]
            for path in (directory / "data").iterdir() if path.is_dir()
        }  # fmt: skip
        for position, row in enumerate(segment["episodes"]):
            begin, end = row["start"], row["start"] + row["length"]
            rates = {
                key: content["streams"][key.removeprefix("stream.")]["samples_per_frame"]
                if key.startswith("stream.") else 1
                for key in arrays
            }  # fmt: skip
            if position not in segment["deleted"]:
                slices = {key: array[begin * rates[key] : end * rates[key]] for key, array in arrays.items()}
                episodes.append({**row, "arrays": slices})
    return content, episodes


def read_jpeg(path: Path) -> np.ndarray:
    """Returns a camera's frames by parsing its shards: plain zarr-python has no JPEG."""
    metadata = json.loads((path / "zarr.json").read_bytes())
    length, height, width, channels = metadata["shape"]
    out = np.empty((length, height, width, channels), np.uint8)
    for first in range(0, length, 1000):
        shard = (path / "c" / str(first // 1000) / "0/0/0").read_bytes()
        for frame in range(min(1000, length - first)):
            offset, size = struct.unpack_from("<QQ", shard, len(shard) - 16_004 + 16 * frame)
            encoded = np.frombuffer(shard[offset : offset + size], np.uint8)
            out[first + frame] = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return out


@pytest.mark.parametrize("codec", ["lz4", "raw", "jpeg"])
def test_a_second_reader_sees_what_was_committed(tmp_path, embodiment: Embodiment, make_episode, codec):
    streams = {"wrench": Stream(Channel(("force_x",), ("N",)), 3)}
    store = DemonstrationStore.create(tmp_path / "store", embodiment, streams=streams, image_codec=codec)

    def make(number: int, length: int) -> Episode:
        plain = make_episode(number, length)
        force = np.random.default_rng(number).normal(size=(3 * length, 1)).astype(np.float32)
        fields = {**vars(plain), "instruction": "lève le cube ✋", "subtasks": (Subtask(1, 3, "grasp"),)}
        return Episode(**{**fields, "streams": {"wrench": force}})

    with store.writer() as writer:
        writer.append([make(0, 5), make(1, 1030)])
        writer.append([make(2, 6)])
        writer.delete(["source-0"])
        writer.set_keep({"source-2": [(0, 2), (4, 6)]})
    content, episodes = read_store(tmp_path / "store")
    assert content["embodiment"]["cameras"] == {"front": [12, 16], "wrist": [8, 8]}
    assert content["streams"]["wrench"]["channel"] == {"names": ["force_x"], "units": ["N"]}
    assert [row["source_id"] for row in episodes] == ["source-1", "source-2"]
    assert [row["keep"] for row in episodes] == [[[0, 1030]], [[0, 2], [4, 6]]]
    for index, row in enumerate(episodes):
        ours = store.read_episode(index)
        assert (row["task"], row["instruction"], row["success"]) == (ours.task, ours.instruction, ours.success)
        assert row["subtasks"] == [[1, 3, "grasp"]]
        arrays = {
            "state": ours.state, "action": ours.actions, "stream.wrench": ours.streams["wrench"],
            "image.front": ours.images["front"], "image.wrist": ours.images["wrist"],
        }  # fmt: skip
        assert row["arrays"].keys() == arrays.keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(row["arrays"][key], array)
