"""A foreign data set seen through a mapping file: an embodiment and episodes with names, units and instructions."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from vla_datasets.convert.foreign import ForeignDataset, ForeignError
from vla_datasets.convert.mapping import CameraPart, MappingFile, VectorPart
from vla_datasets.schema import Episode
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
        for place, text in (("instruction", mapping.instruction), ("task", mapping.task)):
            if text.key and text.key not in offer.texts:
                raise self._no_key(place, text.key, offer.texts)
        if mapping.success.key:
            self._require_field("success", mapping.success.key)
        self._text_keys = {mapping.instruction.key, mapping.task.key, mapping.success.key} - {""}
        self._vector_keys = {part.key for part in (*mapping.state, *mapping.action)}
        self._keys = self._text_keys | self._vector_keys | {camera.key for camera in mapping.cameras}

    def read(self, source_id: str) -> Episode:
        """Returns an episode; nothing in it is clipped, padded or guessed.

        Raises:
            ForeignError: names file, episode and key of what is missing, torn or does not fit together.
        """
        found = self._found(source_id, self._keys)
        state, actions = self._vectors(found)
        task, instruction, success = self._texts(found)
        return Episode(
            images={camera.name: self._pictures(camera, found, source_id) for camera in self._mapping.cameras},
            state=state,
            actions=actions,
            task=task,
            instruction=instruction,
            source_id=source_id,
            success=success,
        )

    def read_vectors(self, source_id: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns state (t, s) and actions (t, a) of an episode, float32, without decoding a picture."""
        return self._vectors(self._found(source_id, self._vector_keys))

    def read_texts(self, source_id: str) -> tuple[str, str, bool]:
        """Returns task, instruction and success of an episode without decoding a picture."""
        return self._texts(self._found(source_id, self._text_keys))

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

    def _texts(self, found: dict[str, np.ndarray | str]) -> tuple[str, str, bool]:
        mapping = self._mapping
        task, instruction = (str(found[t.key]) if t.key else t.text for t in (mapping.task, mapping.instruction))
        success = mapping.success.all
        return task, instruction, bool(np.any(found[mapping.success.key])) if success is None else success

    def _part(self, part: VectorPart, stored: np.ndarray) -> np.ndarray:
        rows = stored.reshape(len(stored), -1)[part.ahead : len(stored) - self._ahead + part.ahead]
        values = rows[:, [column.column for column in part.columns]].astype(np.float64)
        values = values * [column.scale for column in part.columns] + [column.offset for column in part.columns]
        return values.astype(np.float32)

    def _pictures(self, camera: CameraPart, found: dict[str, np.ndarray | str], source_id: str) -> np.ndarray:
        pictures = np.asarray(found[camera.key])
        pictures = pictures[: len(pictures) - self._ahead]
        if pictures.shape[-1] != 3:
            pictures = np.moveaxis(pictures, 1, -1)
        pictures = self._grey_levels(camera, pictures, source_id)
        if camera.order == "bgr":
            pictures = pictures[..., ::-1]
        size = self.embodiment.cameras[camera.name]
        if pictures.shape[1:3] != size:
            pictures = _resize(pictures, size, camera.fit)
        return np.ascontiguousarray(pictures)

    def _grey_levels(self, camera: CameraPart, pictures: np.ndarray, source_id: str) -> np.ndarray:
        if pictures.dtype == np.uint8 and camera.scale == 1.0:
            return pictures
        levels = np.rint(pictures.astype(np.float64) * camera.scale)
        where = f"{self.path}, {source_id!r}: {camera.key}"
        if not np.isfinite(levels).all() or levels.min() < 0 or levels.max() > 255:
            raise ForeignError(
                f"{where} times the scale {camera.scale:g} must lie in 0 to 255; "
                f"got {levels.min():g} to {levels.max():g}"
            )
        if camera.scale == 1.0 and pictures.dtype.kind == "f" and pictures.max() <= 1.0:
            raise ForeignError(f"{where} lies in 0 to 1: give the camera scale: 255 in {self._mapping.path}")
        return levels.astype(np.uint8)

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

    def _channel(self, place: str, parts: tuple[VectorPart, ...]) -> Channel:
        for part in parts:
            self._require_field(place, part.key)
            field = self._dataset.offer.fields[part.key]
            width = int(np.prod(field.shape))
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

    def _no_key(self, place: str, key: str, there: object) -> ForeignError:
        known = list(there) if isinstance(there, dict) else []
        hint = nearest(key, known)
        return self._error(place, f"there is no {key!r}{hint}; {self.path} offers:\n{self._dataset.offer}")

    def _error(self, place: str, message: str) -> ForeignError:
        return ForeignError(f"{self._mapping.path}: {place}: {message}")


def _bare(path: Path) -> str:
    name = path.absolute().name
    for suffix in (".zip", ".zarr", ".hdf5", ".h5"):
        name = name.removesuffix(suffix)
    return name


def _resize(pictures: np.ndarray, size: tuple[int, int], fit: str) -> np.ndarray:
    height, width = size
    if fit == "crop":
        rows, columns = pictures.shape[1:3]
        kept_rows = min(rows, round(columns * height / width))
        kept_columns = min(columns, round(rows * width / height))
        top, left = (rows - kept_rows) // 2, (columns - kept_columns) // 2
        pictures = pictures[:, top : top + kept_rows, left : left + kept_columns]
    shrinks = height * width < pictures.shape[1] * pictures.shape[2]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.stack([cv2.resize(np.ascontiguousarray(p), (width, height), interpolation=method) for p in pictures])
