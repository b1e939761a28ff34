"""ALOHA: one HDF5 file an episode, pictures as arrays or as padded JPEG."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import cv2
import h5py
import numpy as np

from vla_datasets.convert.foreign import Field, ForeignError, Offer
from vla_datasets.convert.hdf5 import find_files, frame_arrays, opened, read_array

ACTION = "action"
_IMAGES = "observations/images"


class AlohaDataset:
    """A directory of ``episode_<n>.hdf5``, or one such file; an episode's id is the file's name.

    The format says neither rate, robot, names, units nor instruction; ALOHA's own scripts record at 50 Hz. Compressed
    pictures come as ``cv2.imdecode`` returns them: whether that is RGB or BGR depends on the recorder.

    Args:
        path: a file or directory.

    Raises:
        ForeignError: a file is torn or has no action.

    Source: record_sim_episodes.py of tonyzhaozh/act and record_episodes.py of tonyzhaozh/aloha.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = find_files(path)
        self.lengths: dict[str, int] = {}
        for episode, file in self._files.items():
            with opened(file) as content:
                action = content.get(ACTION)
                if not isinstance(action, h5py.Dataset):
                    raise ForeignError(f"{file} has no {ACTION}; it has {', '.join(content) or 'nothing'}")
                self.lengths[episode] = action.shape[0]
        self.offer = self._offer()

    def read(self, episode: str, keys: Collection[str]) -> dict[str, np.ndarray | str]:
        """Returns arrays of an episode; pictures are (t, h, w, 3) uint8.

        Raises:
            ForeignError: a key is missing, a picture does not decode, or the file is torn.
        """
        file = self._files[episode]
        with opened(file) as content:
            found = {key: read_array(content, key, file) for key in keys}
        return {
            key: _decode(array, f"{file}: {key}") if _is_compressed(key, array) else array
            for key, array in found.items()
        }

    def _offer(self) -> Offer:
        episode, file = next(iter(self._files.items()))
        with opened(file) as content:
            fields = frame_arrays(content, self.lengths[episode])
            for key, field in list(fields.items()):
                if key.startswith(_IMAGES) and len(field.shape) == 1:
                    first = _decode(read_array(content, key, file)[:1], f"{file}: {key}")
                    fields[key] = Field(first.shape[1:], "uint8", order_is_unknown=True)
        return Offer(fields)


def _is_compressed(key: str, array: np.ndarray) -> bool:
    return key.startswith(_IMAGES) and array.ndim == 2


def _decode(rows: np.ndarray, where: str) -> np.ndarray:
    pictures = []
    for frame, row in enumerate(rows):
        picture = cv2.imdecode(np.ascontiguousarray(row), cv2.IMREAD_COLOR)
        if picture is None:
            raise ForeignError(f"{where}, frame {frame}: is no picture that OpenCV decodes")
        pictures.append(picture)
    if len({picture.shape for picture in pictures}) > 1:
        raise ForeignError(f"{where}: pictures must all have one size; got {sorted({p.shape for p in pictures})}")
    return np.stack(pictures)
