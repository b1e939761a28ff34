"""LeRobotDataset v2.0, v2.1 and v3.0: parquet tables, and pictures as video or PNG."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow
import pyarrow.parquet as parquet

from vla_datasets.convert.foreign import Field, ForeignError, Offer
from vla_datasets.convert.video import decode_video

INFO = "meta/info.json"
VERSIONS = ("v2.0", "v2.1", "v3.0")
TASK, SUBTASK = "task", "subtask"
_INDEX, _SUBTASKS = "subtask_index", "meta/subtasks.parquet"  # of lerobot 0.4
DEFAULT_FEATURES = {
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    **{
        key: {"dtype": "int64", "shape": [1], "names": None}
        for key in ("frame_index", "episode_index", "index", "task_index")
    },
}
_PICTURES = ("video", "image")


@dataclass(frozen=True)
class _Place:
    """Where an episode's frames are: the table, and for every video key the file and the time of the first frame."""

    index: int
    table: Path
    videos: dict[str, tuple[Path, float]]


class LeRobotDataset:
    """A LeRobot data set on disk. An episode's id is ``episode_<index>``.

    It offers the text ``task`` of every frame, ``subtask`` where there is a ``meta/subtasks.parquet``, and the
    features that are strings.

    Args:
        path: the directory that holds ``meta/info.json``.

    Raises:
        ForeignError: a table is missing or torn, of an unknown version, or not of the size that ``info.json`` says.

    Source: lerobot 0.3.3 (v2.1) and 0.4.4 (v3.0), ``lerobot/datasets``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._info = _read_json(path / INFO)
        version = self._info.get("codebase_version")
        if version not in VERSIONS:
            raise ForeignError(f"{path / INFO}: codebase_version is {version!r}; this reads {', '.join(VERSIONS)}")
        try:
            self._features: dict[str, dict[str, Any]] = self._info["features"]
            rows = list(self._rows_of_v3() if version == "v3.0" else self._rows_of_v2())
            self._words = {TASK: self._read_tasks(version)}
            if _INDEX in self._features and (path / _SUBTASKS).exists():
                self._words[SUBTASK] = self._read_words(_SUBTASKS, _INDEX)
            promised = (int(self._info["total_episodes"]), int(self._info["total_frames"]))
        except (KeyError, TypeError) as error:
            raise ForeignError(f"{path}: the tables under meta/ lack {error}") from error
        counted = (len(rows), sum(length for _, length in rows))
        if counted != promised:
            raise ForeignError(
                f"{path / INFO} promises {promised[0]} episodes with {promised[1]} frames, the episode table has "
                f"{counted[0]} with {counted[1]}: a conversion or recording did not finish (LeRobot's finalize() was "
                f"not called); finish it, or correct info.json if these are all"
            )
        self._places = {f"episode_{place.index:06d}": place for place, _ in rows}
        self.lengths = {f"episode_{place.index:06d}": length for place, length in rows}
        self.offer = self._offer(version)

    def read(self, episode: str, keys: Collection[str]) -> dict[str, np.ndarray | str]:
        """Returns what some keys hold in an episode, pictures decoded.

        Raises:
            ForeignError: a file is missing or torn, or does not hold the frames that the episode table says.
        """
        place, length = self._places[episode], self.lengths[episode]
        where = f"{place.table}, {episode}"
        columns = {"frame_index", "timestamp"}
        columns |= {f"{key}_index" if key in self._words else key for key in keys if key not in place.videos}
        table = _read_table(place.table, sorted(columns), [("episode_index", "==", place.index)])
        if table.num_rows != length:
            raise ForeignError(f"{where}: has {table.num_rows} frames, the episode table says {length}")
        if not np.array_equal(table["frame_index"].to_numpy(), np.arange(length)):
            raise ForeignError(f"{where}: frame_index must count from 0 to {length - 1}")
        found: dict[str, np.ndarray | str] = {}
        for key in keys:
            if key in self._words:
                found[key] = self._texts(key, table[f"{key}_index"].to_pylist(), where)
            elif key in place.videos:
                file, start_s = place.videos[key]
                found[key] = decode_video(file, start_s + table["timestamp"].to_numpy().astype(np.float64))
            elif self._features[key]["dtype"] == "string":
                found[key] = np.array([str(text or "") for text in table[key].to_pylist()], object)
            elif self._features[key]["dtype"] == "image":
                found[key] = _decode_pictures(table[key], f"{where}: {key}")
            else:
                found[key] = self._numbers(key, table[key], where)
        return found

    def _offer(self, version: str) -> Offer:
        fields: dict[str, Field] = {}
        for key, feature in self._features.items():
            if feature["dtype"] in _PICTURES:
                fields[key] = Field(_height_width_channels(feature), "uint8")
            elif key == "timestamp":
                fields[key] = Field((), feature["dtype"], names=(key,), units=("s",))
            elif key not in {*DEFAULT_FEATURES, _INDEX} and feature["dtype"] != "string":
                shape = tuple(feature["shape"])
                units = tuple(feature.get("units") or ())
                fields[key] = Field(shape, feature["dtype"], names=_names(feature, shape), units=units)
        first = next(iter(self.lengths), None)
        told = [*self._words, *(key for key, feature in self._features.items() if feature["dtype"] == "string")]
        texts = {} if first is None else {key: str(value[0]) for key, value in self.read(first, told).items()}
        return Offer(
            fields,
            texts=texts,
            frame_texts=frozenset(texts),
            robot=self._info.get("robot_type") or "",
            control_mode=self._info.get("control_mode") or "",
            rate_hz=float(self._info["fps"]),
        )

    def _rows_of_v2(self) -> Iterator[tuple[_Place, int]]:
        videos = self._video_keys()
        for row in _read_lines(self.path / "meta/episodes.jsonl"):
            index = int(row["episode_index"])
            names = {"episode_index": index, "episode_chunk": index // int(self._info["chunks_size"])}
            files = {key: self.path / self._info["video_path"].format(video_key=key, **names) for key in videos}
            table = self.path / self._info["data_path"].format(**names)
            yield _Place(index, table, {key: (file, 0.0) for key, file in files.items()}), int(row["length"])

    def _rows_of_v3(self) -> Iterator[tuple[_Place, int]]:
        videos = self._video_keys()
        columns = ["episode_index", "length", "data/chunk_index", "data/file_index"]
        columns += [f"videos/{k}/{c}" for k in videos for c in ("chunk_index", "file_index", "from_timestamp")]
        for file in sorted((self.path / "meta/episodes").glob("*/*.parquet")):
            for row in _read_table(file, columns).to_pylist():

                def place(kind: str, row: dict[str, Any] = row) -> dict[str, int]:
                    return {key: row[f"{kind}/{key}"] for key in ("chunk_index", "file_index")}

                yield (
                    _Place(
                        index=row["episode_index"],
                        table=self.path / self._info["data_path"].format(**place("data")),
                        videos={
                            key: (
                                self.path / self._info["video_path"].format(video_key=key, **place(f"videos/{key}")),
                                row[f"videos/{key}/from_timestamp"],
                            )
                            for key in videos
                        },
                    ),
                    row["length"],
                )

    def _video_keys(self) -> list[str]:
        return [key for key, feature in self._features.items() if feature["dtype"] == "video"]

    def _read_tasks(self, version: str) -> dict[int, str]:
        if version != "v3.0":
            return {int(row["task_index"]): row["task"] for row in _read_lines(self.path / "meta/tasks.jsonl")}
        return self._read_words("meta/tasks.parquet", "task_index")

    def _read_words(self, name: str, index: str) -> dict[int, str]:
        """Returns what a table of words says under each index; the words are the index of a pandas table."""
        table = _read_table(self.path / name)
        words = next((key for key in table.column_names if key != index), None)
        if words is None or index not in table.column_names:
            there = ", ".join(table.column_names)
            raise ForeignError(f"{self.path / name} must have a column of words and {index}; it has {there}")
        return dict(zip(table[index].to_pylist(), table[words].to_pylist(), strict=True))

    def _texts(self, key: str, indices: list[int], where: str) -> np.ndarray:
        """Returns the words of every frame; a subtask of -1 is none."""
        words = self._words[key] | ({-1: ""} if key == SUBTASK else {})
        unknown = sorted(set(indices) - words.keys(), key=str)
        if unknown:
            raise ForeignError(f"{where}: {key}_index must be one of {len(self._words[key])} {key}s; got {unknown}")
        return np.array([words[index] for index in indices], object)

    def _numbers(self, key: str, column: pyarrow.ChunkedArray, where: str) -> np.ndarray:
        shape = (len(column), *self._features[key]["shape"])
        try:
            return np.array(column.to_pylist()).astype(self._features[key]["dtype"]).reshape(shape)
        except (TypeError, ValueError) as error:
            raise ForeignError(f"{where}: {key} is not {shape} as info.json says: {error}") from error


def _height_width_channels(feature: dict[str, Any]) -> tuple[int, ...]:
    shape, names = tuple(feature["shape"]), feature.get("names") or ()
    channels_first = str(names[0]).startswith("channel") if names else shape[0] in (1, 3) and shape[-1] != 3
    return (*shape[1:], shape[0]) if channels_first else shape


def _names(feature: dict[str, Any], shape: tuple[int, ...]) -> tuple[str, ...]:
    names = feature.get("names")
    if isinstance(names, dict):  # {"motors": [...]}
        names = next((value for value in names.values() if isinstance(value, list)), None)
    return tuple(map(str, names)) if isinstance(names, list) and (len(names),) == shape else ()


def _decode_pictures(column: pyarrow.ChunkedArray, where: str) -> np.ndarray:
    pictures: list[np.ndarray] = []
    for frame, value in enumerate(column.to_pylist()):
        data = value["bytes"] if isinstance(value, dict) else None
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
        if picture is None:
            raise ForeignError(f"{where}, frame {frame}: the table holds no picture that OpenCV decodes")
        pictures.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
    return np.stack(pictures)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ForeignError(f"{path} is missing, torn or not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ForeignError(f"{path} must hold an object; got {type(found).__name__}")
    return found


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise ForeignError(f"{path} is missing, torn or not JSON lines: {error}") from error


def _read_table(path: Path, columns: list[str] | None = None, filters: Any = None) -> pyarrow.Table:
    try:
        return parquet.read_table(path, columns=columns, filters=filters, partitioning=None)  # type: ignore[arg-type]
    except (OSError, pyarrow.ArrowException) as error:
        wanted = f" or lacks one of {', '.join(columns)}" if columns else ""
        raise ForeignError(f"{path} is missing, torn{wanted}: {error}") from error
