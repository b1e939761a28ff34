"""A store -> LeRobotDataset v2.1 or v3.0."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as parquet

from vla_datasets.convert.export import PartialExport
from vla_datasets.convert.lerobot import DEFAULT_FEATURES, INFO
from vla_datasets.convert.lerobot_statistics import (
    PICTURE_STATISTICS,
    QUANTILES,
    merge_picture_statistics,
    picture_statistics,
    vector_statistics,
)
from vla_datasets.convert.lerobot_tables import image_feature, png, table_schema, task_table
from vla_datasets.convert.video import PIXEL_FORMAT, VideoWriter
from vla_datasets.schema import Episode
from vla_datasets.store import DemonstrationStore

STATE, ACTION, SUCCESS = "observation.state", "action", "next.success"
CHUNK_FILES = 1000
_FILE_FRAMES = 5000  # of v3.0: frames that share a file
_DATA = {
    "v2.1": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    "v3.0": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
}
_VIDEO = {
    "v2.1": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    "v3.0": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
}
_EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"


def export_lerobot(
    store: DemonstrationStore,
    out: Path,
    *,
    version: str,
    lossless: bool = False,
    stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> bool:
    """Writes a store's episodes as a LeRobot data set; the same call goes on after an interruption.

    Features: ``observation.images.<camera>``, ``observation.state``, ``action`` and ``next.success`` (in the last
    frame of an episode that succeeded). Beside LeRobot's own keys, ``info.json`` keeps the control mode and the
    features keep their units. The instruction is LeRobot's task; task names are not kept.

    Args:
        store: what to write.
        out: directory to make.
        version: ``v2.1`` or ``v3.0``.
        lossless: pictures as PNG in the tables instead of video.
        stop: once it returns True, the call returns after the file at hand.
        on_progress: called as ``on_progress(episodes_done, episodes)``.

    Returns:
        Whether `out` is complete.

    Raises:
        FileExistsError: there is something at `out`.
        ValueError: the store has no episodes, its rate is no whole number of Hz, or a video would have an odd side.
        StoreError: a file of the store is missing or torn.
    """
    if version not in _DATA:
        raise ValueError(f"a LeRobot version is one of {', '.join(_DATA)}; got {version!r}")
    if not store.episodes:
        raise ValueError(f"{store.path} has no episodes to export")
    if not float(store.embodiment.rate_hz).is_integer():
        raise ValueError(f"LeRobot's fps is a whole number; {store.path} has {store.embodiment.rate_hz:g} Hz")
    odd = [name for name, size in store.embodiment.cameras.items() if size[0] % 2 or size[1] % 2]
    if odd and not lossless:
        raise ValueError(f"camera {odd[0]!r} has an odd side, which video cannot have: export with --lossless")
    kind = "png" if lossless else "video"
    export = PartialExport(store, out, f"lerobot-{version}-{kind}", lambda path: (path / "meta").mkdir())
    writer = (_WriterV21 if version == "v2.1" else _WriterV30)(store, export.path, version, lossless)
    writer.resume(export.done)
    on_progress(export.done, len(store.episodes))
    for group in writer.groups:
        if group.stop <= export.done:
            continue
        if stop():
            return False
        writer.write(group)
        export.commit(group.stop)
        on_progress(group.stop, len(store.episodes))
    writer.finish()
    export.finish()
    return True


class _Writer:
    """What both versions share. A group is a range of episodes that is written at once."""

    def __init__(self, store: DemonstrationStore, path: Path, version: str, lossless: bool) -> None:
        self.store, self.path, self.version, self.lossless = store, path, version, lossless
        self.fps = round(store.embodiment.rate_hz)
        self.records = store.episodes
        self.starts = np.cumsum([0, *(record.length for record in self.records)])
        self.tasks = {text: i for i, text in enumerate(dict.fromkeys(record.instruction for record in self.records))}
        self.features = self._features()

    def write_files(self, group: range, table: str, video: str) -> Iterator[tuple[Episode, dict[str, Any]]]:
        """Writes table and videos of a group, episode by episode; yields each with its statistics."""
        with ExitStack() as files:
            writer = files.enter_context(parquet.ParquetWriter(self._made(table), table_schema(self.features)))
            videos: dict[str, VideoWriter] = {}
            for camera, size in {} if self.lossless else self.store.embodiment.cameras.items():
                path = self._made(video.format(video_key=image_feature(camera)))
                videos[camera] = files.enter_context(VideoWriter(path, self.fps, size))
            for index in group:
                episode = self.store.read_episode(index)
                writer.write_table(self._table(index, episode))
                for camera, file in videos.items():
                    file.write(episode.images[camera])
                yield episode, _statistics(episode)

    def write_info(self, extra: dict[str, Any]) -> None:
        """Writes ``info.json``, the last file of all."""
        info = {
            "codebase_version": self.version,
            "robot_type": self.store.embodiment.robot,
            "control_mode": self.store.embodiment.control_mode,
            "total_episodes": len(self.records),
            "total_frames": int(self.starts[-1]),
            "total_tasks": len(self.tasks),
            "chunks_size": CHUNK_FILES,
            "fps": self.fps,
            "splits": {"train": f"0:{len(self.records)}"},
            "data_path": _DATA[self.version],
            "video_path": None if self.lossless or not self.store.embodiment.cameras else _VIDEO[self.version],
            "features": self.features,
        }
        (self.path / INFO).write_text(json.dumps(info | extra, indent=4), encoding="utf-8")

    def _made(self, name: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _features(self) -> dict[str, Any]:
        body = self.store.embodiment
        features: dict[str, Any] = {}
        for key, channel in ((STATE, body.state), (ACTION, body.action)):
            names, units = list(channel.names), list(channel.units)
            features[key] = {"dtype": "float32", "shape": [len(channel)], "names": names, "units": units}
        for camera, (height, width) in body.cameras.items():
            feature: dict[str, Any] = {"dtype": "image" if self.lossless else "video", "shape": [height, width, 3]}
            feature["names"] = ["height", "width", "channels"]
            if not self.lossless:
                feature["info"] = {
                    "video.height": height, "video.width": width, "video.codec": "av1", "video.pix_fmt": PIXEL_FORMAT,
                    "video.is_depth_map": False, "video.fps": self.fps, "video.channels": 3, "has_audio": False,
                }  # fmt: skip
            features[image_feature(camera)] = feature
        features[SUCCESS] = {"dtype": "bool", "shape": [1], "names": None}
        return features | DEFAULT_FEATURES

    def _table(self, index: int, episode: Episode) -> pyarrow.Table:
        length = len(episode)
        success = np.zeros(length, bool)
        success[-1] = episode.success
        columns: dict[str, Any] = {SUCCESS: success}
        for key, values in ((STATE, episode.state), (ACTION, episode.actions)):
            columns[key] = values[:, 0] if values.shape[1] == 1 else list(values)
        if self.lossless:
            for camera, pictures in episode.images.items():
                columns[image_feature(camera)] = [{"bytes": png(p), "path": None} for p in pictures]
        columns["timestamp"] = (np.arange(length) / self.fps).astype(np.float32)
        columns["frame_index"] = np.arange(length)
        columns["episode_index"] = np.full(length, index)
        columns["index"] = np.arange(self.starts[index], self.starts[index + 1])
        columns["task_index"] = np.full(length, self.tasks[episode.instruction])
        return pyarrow.table(columns, schema=table_schema(self.features))


class _WriterV21(_Writer):
    """One table and one video a camera per episode."""

    @property
    def groups(self) -> Sequence[range]:
        """Every episode by itself."""
        return [range(index, index + 1) for index in range(len(self.records))]

    def resume(self, done: int) -> None:
        """Drops the lines of what an interrupted export had begun after the first `done` episodes."""
        for name in ("episodes", "episodes_stats"):
            path = self.path / f"meta/{name}.jsonl"
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
            path.write_text("".join(lines[:done]), encoding="utf-8")

    def write(self, group: range) -> None:
        """Writes one episode and adds its line to the two episode tables."""
        index = group.start
        names = {"episode_chunk": index // CHUNK_FILES, "episode_index": index}
        video = _VIDEO["v2.1"].replace("{video_key}", "{{video_key}}").format(**names)
        ((episode, statistics),) = self.write_files(group, _DATA["v2.1"].format(**names), video)
        kept = {key: {k: v for k, v in s.items() if k not in QUANTILES} for key, s in statistics.items()}
        for name, row in (
            ("episodes", {"tasks": [episode.instruction], "length": len(episode)}),
            ("episodes_stats", {"stats": kept}),
        ):
            with open(self.path / f"meta/{name}.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps({"episode_index": index, **row}) + "\n")

    def finish(self) -> None:
        """Writes the tables of the whole."""
        with open(self.path / "meta/tasks.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"task_index": i, "task": text}) + "\n" for text, i in self.tasks.items())
        cameras = 0 if self.lossless else len(self.store.embodiment.cameras)
        chunks = -(-len(self.records) // CHUNK_FILES)
        self.write_info({"total_videos": cameras * len(self.records), "total_chunks": chunks})


class _WriterV30(_Writer):
    """Files of several episodes; the same episodes share a table, a video a camera and an episode table."""

    @property
    def groups(self) -> Sequence[range]:
        """As many consecutive episodes as `_FILE_FRAMES` allows, at least one."""
        groups: list[range] = []
        first = 0
        for index in range(1, len(self.records) + 1):
            if index == len(self.records) or self.starts[index + 1] - self.starts[first] > _FILE_FRAMES:
                groups.append(range(first, index))
                first = index
        return groups

    def resume(self, done: int) -> None:
        """Does nothing: every group has files of its own."""

    def write(self, group: range) -> None:
        """Writes the files of a group."""
        chunk, file = divmod([g.start for g in self.groups].index(group.start), CHUNK_FILES)
        place = {"chunk_index": chunk, "file_index": file}
        video = _VIDEO["v3.0"].replace("{video_key}", "{{video_key}}").format(**place)
        rows: list[dict[str, Any]] = []
        for episode, statistics in self.write_files(group, _DATA["v3.0"].format(**place), video):
            index = group.start + len(rows)
            begin, end = int(self.starts[index]), int(self.starts[index + 1])
            row: dict[str, Any] = {"episode_index": index, "tasks": [episode.instruction], "length": len(episode)}
            row |= {f"data/{key}": value for key, value in place.items()}
            row |= {"dataset_from_index": begin, "dataset_to_index": end}
            for camera in {} if self.lossless else self.store.embodiment.cameras:
                base = f"videos/{image_feature(camera)}"
                row |= {f"{base}/{key}": value for key, value in place.items()}
                row[f"{base}/from_timestamp"] = (begin - int(self.starts[group.start])) / self.fps
                row[f"{base}/to_timestamp"] = (end - int(self.starts[group.start])) / self.fps
            row |= {f"stats/{key}/{name}": v for key, s in statistics.items() for name, v in s.items()}
            rows.append(row | {f"meta/episodes/{key}": value for key, value in place.items()})
        path = self.path / _EPISODES.format(**place)
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)

    def finish(self) -> None:
        """Writes the tables of the whole."""
        parquet.write_table(task_table(self.tasks), self.path / _TASKS)
        (self.path / "meta/stats.json").write_text(json.dumps(self._total(), indent=4), encoding="utf-8")
        self.write_info({"data_files_size_in_mb": 100, "video_files_size_in_mb": 200})

    def _total(self) -> dict[str, Any]:
        """Returns the statistics of all frames: exact for vectors, merged for pictures."""
        segments = {record.segment: self.store.segment(record.segment).vectors() for record in self.records}
        state, actions = (
            np.concatenate([segments[r.segment][which][r.start : r.start + r.length] for r in self.records])
            for which in (0, 1)
        )
        total = {STATE: vector_statistics(state), ACTION: vector_statistics(actions)}
        tables = [parquet.read_table(f) for f in sorted((self.path / "meta/episodes").glob("*/*.parquet"))]
        for key in map(image_feature, self.store.embodiment.cameras):
            total[key] = merge_picture_statistics(
                [
                    {name: row[f"stats/{key}/{name}"] for name in PICTURE_STATISTICS}
                    for table in tables
                    for row in table.select([f"stats/{key}/{name}" for name in PICTURE_STATISTICS]).to_pylist()
                ]
            )
        return total


_TASKS = "meta/tasks.parquet"


def _statistics(episode: Episode) -> dict[str, dict[str, Any]]:
    found = {STATE: vector_statistics(episode.state), ACTION: vector_statistics(episode.actions)}
    return found | {image_feature(c): picture_statistics(pictures) for c, pictures in episode.images.items()}
