"""HDF5 files of other formats: where they are, what is in them, and errors that name file and key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from vla_datasets.convert.foreign import Field, ForeignError, natural_order

SUFFIXES = (".hdf5", ".h5")


def find_files(path: Path) -> dict[str, Path]:
    """Returns name (below `path`, without suffix) -> file, in natural order; a single file has its own name.

    Raises:
        ForeignError: there is none.
    """
    if path.is_file():
        return {path.stem: path}
    files = [file for file in path.rglob("*") if file.suffix in SUFFIXES]
    named = {file.relative_to(path).with_suffix("").as_posix(): file for file in files}
    if not named:
        raise ForeignError(f"{path} holds no HDF5 file ({' or '.join(SUFFIXES)})")
    return {name: named[name] for name in sorted(named, key=natural_order)}


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Opens a file for reading.

    Raises:
        ForeignError: it is torn or no HDF5 file, or what is read of it within the block is.
    """
    try:
        with h5py.File(path, "r") as file:
            yield file
    except OSError as error:
        raise ForeignError(f"{path} is torn or no HDF5 file: {error}") from error


def frame_arrays(group: h5py.Group, length: int) -> dict[str, Field]:
    """Returns key -> field of every array of numbers below a group that has one row a frame."""
    found: dict[str, Field] = {}

    def visit(key: str, item: object) -> None:
        if not isinstance(item, h5py.Dataset) or item.ndim == 0:
            return
        if item.dtype.kind in "buif" and item.shape[0] == length:
            found[key] = Field(tuple(item.shape[1:]), str(item.dtype))

    group.visititems(visit)
    return found


def read_array(group: h5py.Group, key: str, path: Path) -> np.ndarray:
    """Returns an array.

    Raises:
        ForeignError: it is not there (lists what is), torn, or compressed in a way that HDF5 here does not know.
    """
    item = group.get(key)
    if not isinstance(item, h5py.Dataset):
        there: list[str] = []
        group.visititems(lambda name, thing: there.append(name) if isinstance(thing, h5py.Dataset) else None)
        raise ForeignError(f"{path}, {group.name}: there is no {key!r}; it has {', '.join(there) or 'nothing'}")
    try:
        return item[()]
    except OSError as error:
        filters = [item.id.get_create_plist().get_filter(i) for i in range(item.id.get_create_plist().get_nfilters())]
        known = ", ".join(f"{name.decode() or code}" for code, _, _, name in filters) or "none"
        raise ForeignError(
            f"{path}, {group.name}: {key} cannot be read: torn, or a filter of it is not registered (its filters: "
            f"{known}): {error}"
        ) from error
