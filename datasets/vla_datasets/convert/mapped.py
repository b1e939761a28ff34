"""A foreign data set seen through a mapping file: an embodiment and episodes with names, units and instructions."""

from __future__ import annotations

from collections.abc import Collection
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from vla_datasets.convert.foreign import ForeignDataset, ForeignError
from vla_datasets.convert.mapping import CameraPart, MappingFile, StreamPart, TextPart, VectorPart
from vla_datasets.convert.pictures import convert_pictures
from vla_datasets.schema import Episode, Stream, Subtask
from vla_policy.config import nearest
from vla_policy.embodiment import Channel, Embodiment

_SAME_ASPECT = 0.01  # relative difference of aspect ratios that counts as rounding


class MappedDataset:
    """Episodes of a foreign data set, as a mapping file names them.

    Frame i of an episode is what the data set holds in row i; its action is the one of the same row, or of a later
    row where the mapping says ``ahead`` (the last rows, which then have none, are left out).

    Args:
        dataset: the data set.
        mapping: what it does not say itself.
        name: first part of every source id, ``name/episode``; "" = the file's name without its suffix.

    Attributes:
        embodiment: of every episode.
        streams: of every episode.
        lengths: source id -> frames of the episode (None where only reading tells), in order.

    Raises:
        ForeignError: the mapping names a key or column that is not there, leaves something open or contradicts the
            data set; lists what there is.
    """

    def __init__(self, dataset: ForeignDataset, mapping: MappingFile, *, name: str = "") -> None:
        self._dataset, self._mapping = dataset, mapping
        self.path = dataset.path
        self._prefix = name or _bare(dataset.path)
        self._ahead = max(part.ahead for part in mapping.action)
        self.lengths = {
            f"{self._prefix}/{key}": None if frames is None else frames - self._ahead
            for key, frames in dataset.lengths.items()
        }
        offer = dataset.offer
        if offer.rate_hz and mapping.rate_hz and abs(offer.rate_hz - mapping.rate_hz) > 1e-6 * offer.rate_hz:
            raise self._error("rate_hz", f"is {mapping.rate_hz:g}, but the data set says {offer.rate_hz:g}")
        for key, value in (("robot", mapping.robot or offer.robot), ("rate_hz", mapping.rate_hz or offer.rate_hz)):
            if not value:
                raise self._error(key, "is missing, and the data set does not say it")
        self.embodiment = Embodiment(
            robot=mapping.robot or offer.robot,
            control_mode=mapping.control_mode,
            rate_hz=float(mapping.rate_hz or offer.rate_hz or 0.0),
            cameras={camera.name: self._camera_size(camera) for camera in mapping.cameras},
            state=self._channel("state", mapping.state),
            action=self._channel("action", mapping.action),
        )
        self.streams = {stream.name: self._stream(stream) for stream in mapping.streams}
        for place, key, texts in (
            ("instruction", mapping.instruction.key, offer.texts),
            ("task", mapping.task.key, offer.texts),
            ("subtasks", mapping.subtasks_key, offer.frame_texts),
        ):
            if key and key not in texts:
                raise self._no_key(place, key, texts)
        if mapping.success.key:
            self._require_field("success", mapping.success.key)
        told = (mapping.instruction.key, mapping.task.key, mapping.success.key, mapping.subtasks_key)
        self._told_keys = set(told) - {""}
        self._vector_keys = {part.key for part in (*mapping.state, *mapping.action)}
        self._stream_keys = {stream.vector.key for stream in mapping.streams}
        cameras = {camera.key for camera in mapping.cameras}
        self._keys = self._told_keys | self._vector_keys | self._stream_keys | cameras

    def read(self, source_id: str) -> Episode:
        """Returns an episode; nothing in it is clipped, padded or guessed.

        Raises:
            ForeignError: names file, episode and key of what is missing, torn or does not fit together.
        """
        found = self._found(source_id, self._keys)
        state, actions = self._vectors(found)
        return Episode(
            images={camera.name: self._pictures(camera, found, source_id) for camera in self._mapping.cameras},
            state=state,
            actions=actions,
            streams=self._stream_samples(found),
            source_id=source_id,
            **self._told(found, source_id),
        )

    def read_vectors(self, source_id: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns state (t, s) and actions (t, a) of an episode, float32, without decoding a picture."""
        return self._vectors(self._found(source_id, self._vector_keys))

    def read_streams(self, source_id: str) -> dict[str, np.ndarray]:
        """Returns stream name -> (t * samples_per_frame, d) float32 of an episode."""
        return self._stream_samples(self._found(source_id, self._stream_keys)) if self.streams else {}

    def read_told(self, source_id: str) -> dict[str, Any]:
        """Returns `task`, `instruction`, `success` and `subtasks` of an episode without decoding a picture."""
        return self._told(self._found(source_id, self._told_keys), source_id)

    def read_pictures(self, source_id: str, camera: str, frames: slice) -> np.ndarray:
        """Returns the pictures of one camera in some frames of an episode, (t, h, w, 3) uint8 RGB."""
        part = next(part for part in self._mapping.cameras if part.name == camera)
        return self._pictures(part, self._found(source_id, {part.key}), source_id)[frames]

    def _found(self, source_id: str, keys: set[str]) -> dict[str, np.ndarray | str]:
        episode = source_id.removeprefix(f"{self._prefix}/")
        found = self._dataset.read(episode, keys)
        arrays = [value for value in found.values() if not isinstance(value, str)]
        length = self._dataset.lengths[episode]
        if length is None:
            length = len(arrays[0]) if arrays else self._ahead + 1
        for key, value in found.items():
            if not isinstance(value, str) and len(value) != length:
                raise ForeignError(
                    f"{self.path}, episode {episode!r}: {key} has {len(value)} frames, the episode {length}: "
                    f"its arrays are of unequal length"
                )
        if length <= self._ahead:
            raise ForeignError(f"{self.path}, episode {episode!r}: {length} frames leave none with a later action")
        return found

    def _vectors(self, found: dict[str, np.ndarray | str]) -> tuple[np.ndarray, np.ndarray]:
        return tuple(  # type: ignore[return-value]
            np.concatenate([self._part(part, np.asarray(found[part.key])) for part in parts], axis=1)
            for parts in (self._mapping.state, self._mapping.action)
        )

    def _told(self, found: dict[str, np.ndarray | str], source_id: str) -> dict[str, Any]:
        mapping = self._mapping
        success = mapping.success.all
        return {
            "task": self._text(mapping.task, found, source_id),
            "instruction": self._text(mapping.instruction, found, source_id),
            "success": bool(np.any(found[mapping.success.key])) if success is None else success,  # type: ignore[arg-type]
            "subtasks": self._subtasks(found[mapping.subtasks_key]) if mapping.subtasks_key else (),
        }

    def _text(self, part: TextPart, found: dict[str, np.ndarray | str], source_id: str) -> str:
        value = found[part.key] if part.key else part.text
        if isinstance(value, str):
            return value
        distinct = list(dict.fromkeys(value.tolist()))
        if len(distinct) > 1:
            raise ForeignError(
                f"{self.path}, {source_id!r}: {part.key} differs between frames: {distinct[0]!r}, then "
                f"{distinct[1]!r}. An episode has one such text: map another one, and this key as subtasks"
            )
        return distinct[0]

    def _subtasks(self, texts: np.ndarray | str) -> tuple[Subtask, ...]:
        """Returns the runs of frames with the same text; frames without words belong to none."""
        runs: list[Subtask] = []
        frame = 0
        for text, run in groupby(str(text).strip() for text in texts[: len(texts) - self._ahead]):
            start, frame = frame, frame + len(list(run))
            if text:
                runs.append(Subtask(start, frame, text))
        return tuple(runs)

    def _stream_samples(self, found: dict[str, np.ndarray | str]) -> dict[str, np.ndarray]:
        samples: dict[str, np.ndarray] = {}
        for stream in self._mapping.streams:
            stored = np.asarray(found[stream.vector.key])
            rows = stored[: len(stored) - self._ahead].reshape(-1, self._width(stream.vector, stream.samples_per_frame))
            samples[stream.name] = _values(stream.vector, rows)
        return samples

    def _part(self, part: VectorPart, stored: np.ndarray) -> np.ndarray:
        return _values(part, stored.reshape(len(stored), -1)[part.ahead : len(stored) - self._ahead + part.ahead])

    def _pictures(self, camera: CameraPart, found: dict[str, np.ndarray | str], source_id: str) -> np.ndarray:
        pictures = np.asarray(found[camera.key])
        try:
            size = self.embodiment.cameras[camera.name]
            return convert_pictures(pictures[: len(pictures) - self._ahead], camera, size)
        except ValueError as error:
            raise ForeignError(
                f"{self.path}, {source_id!r}: {error} (camera {camera.name} of {self._mapping.path})"
            ) from error

    def _camera_size(self, camera: CameraPart) -> tuple[int, int]:
        place = f"cameras.{camera.name}"
        self._require_field(place, camera.key)
        field = self._dataset.offer.fields[camera.key]
        if not field.is_picture:
            raise self._error(place, f"{camera.key} holds no colour pictures but {field.dtype} {field.shape} a frame")
        if field.order_is_unknown and not camera.order:
            raise self._error(
                f"{place}.order",
                "is missing: the format does not say it. rgb where the decoded array is RGB (ALOHA's recorders hand "
                "RGB to cv2.imencode, and the files look blue in a viewer), bgr where the files look right in a viewer",
            )
        height, width = field.shape[:2] if field.shape[-1] == 3 else field.shape[1:]
        if camera.size is None:
            return height, width
        ratio = camera.size[1] / camera.size[0] * height / width
        if abs(ratio - 1.0) > _SAME_ASPECT and not camera.fit:
            raise self._error(
                f"{place}.fit",
                f"is missing: {height} x {width} pictures have another aspect ratio than "
                f"{camera.size[0]} x {camera.size[1]}; stretch or crop (around the centre)",
            )
        return camera.size

    def _stream(self, stream: StreamPart) -> Stream:
        channel = self._channel(f"streams.{stream.name}", (stream.vector,), stream.samples_per_frame)
        return Stream(channel, stream.samples_per_frame)

    def _width(self, part: VectorPart, samples_per_frame: int = 1) -> int:
        return int(np.prod(self._dataset.offer.fields[part.key].shape)) // samples_per_frame

    def _channel(self, place: str, parts: tuple[VectorPart, ...], samples_per_frame: int = 1) -> Channel:
        for part in parts:
            self._require_field(place, part.key)
            field = self._dataset.offer.fields[part.key]
            if samples_per_frame > 1 and field.shape[:1] != (samples_per_frame,):
                raise self._error(
                    f"{place}.samples_per_frame",
                    f"is {samples_per_frame}, but {part.key} is {field.shape} a frame: its first axis are the samples",
                )
            width = self._width(part, samples_per_frame)
            used = [column.column for column in part.columns]
            if max(used) >= width or (len(used) != width and not part.is_selection):
                columns = f" ({', '.join(field.names)})" if field.names else ""
                raise self._error(
                    place,
                    f"{part.key} has {width} columns{columns}, the mapping names {len(used)}, the last is column "
                    f"{max(used)}: name all, or give each a column and leave out the last",
                )
        columns = [column for part in parts for column in part.columns]
        try:
            return Channel(tuple(column.name for column in columns), tuple(column.unit for column in columns))
        except ValueError as error:
            raise self._error(place, str(error)) from error

    def _require_field(self, place: str, key: str) -> None:
        offer = self._dataset.offer
        if key in offer.unreadable:
            raise ForeignError(f"{self.path}: {key} cannot be read: {offer.unreadable[key]}")
        if key not in offer.fields:
            raise self._no_key(place, key, offer.fields)

    def _no_key(self, place: str, key: str, there: Collection[str]) -> ForeignError:
        hint = nearest(key, there)
        return self._error(place, f"there is no {key!r}{hint}; {self.path} offers:\n{self._dataset.offer}")

    def _error(self, place: str, message: str) -> ForeignError:
        return ForeignError(f"{self._mapping.path}: {place}: {message}")


def _bare(path: Path) -> str:
    name = path.absolute().name
    for suffix in (".zip", ".zarr", ".hdf5", ".h5"):
        name = name.removesuffix(suffix)
    return name


def _values(part: VectorPart, rows: np.ndarray) -> np.ndarray:
    """Returns the part's columns of (n, columns) stored numbers in their units, (n, d) float32."""
    values = rows[:, [column.column for column in part.columns]].astype(np.float64)
    values = values * [column.scale for column in part.columns] + [column.offset for column in part.columns]
    return values.astype(np.float32)
