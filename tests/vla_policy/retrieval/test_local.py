"""Saving: before or after, never between; and nothing that is not ours is taken for ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vla_policy.retrieval.index import IndexFormatError
from vla_policy.retrieval.local import MANIFEST_NAME
from vla_policy.retrieval.opening import create_index, open_index

WIDTH = 8
VECTORS = np.random.default_rng(0).normal(size=(40, WIDTH)).astype(np.float32)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    index = create_index("exact", WIDTH, "model-a", location=tmp_path / "index")
    index.add(np.arange(20), VECTORS[:20])
    index.save()
    return tmp_path / "index"


# Every step of a save, by the call that it dies before; each in a child of one fresh interpreter. Without a source to
# copy it is the first save.
_STEPS = ("np.save", "index._write", "local.write_json", "os.replace", "Path.unlink")
_DIE = """
import os, shutil, signal, sys
from pathlib import Path
import numpy as np
from vla_policy.retrieval import local
from vla_policy.retrieval.opening import create_index, open_index

vectors = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
source, out, *steps = sys.argv[1:]
for step in steps:
    place = f"{out}/{step}"
    if source:
        shutil.copytree(source, place)
    child = os.fork()
    if not child:
        index = open_index(place) if source else create_index("exact", 8, "model-a", location=place)
        index.add(np.arange(len(index), 40), vectors[len(index) :])
        owner, name = step.split(".")
        setattr(globals()[owner], name, lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL))
        index.save()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
"""


def test_a_save_that_is_killed_leaves_the_index_before_or_after(saved: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _DIE, str(saved), str(tmp_path), *_STEPS], check=True)
    for step in _STEPS:
        directory = tmp_path / step
        index = open_index(directory)
        assert len(index) == (40 if step == "Path.unlink" else 20), step
        assert index.search(VECTORS[:1], 1).ids[0, 0] == 0
        if len(index) == 20:
            index.add(np.arange(20, 40), VECTORS[20:])
        index.save()
        assert len(open_index(directory)) == 40
        assert len(list(directory.iterdir())) == 3, "what the dead save left behind is gone"


def test_a_first_save_that_is_killed_leaves_room_for_another(tmp_path: Path) -> None:
    steps = [step for step in _STEPS if step != "Path.unlink"]  # there is nothing old to remove
    subprocess.run([sys.executable, "-c", _DIE, "", str(tmp_path), *steps], check=True)
    for step in steps:
        directory = tmp_path / step
        with pytest.raises(FileNotFoundError, match="no index at"):
            open_index(directory)
        index = create_index("exact", WIDTH, "model-a", location=directory)
        index.add(np.arange(40), VECTORS)
        index.save()
        assert len(open_index(directory)) == 40
        assert len(list(directory.iterdir())) == 3, "what the dead save left behind is gone"


@pytest.mark.parametrize("name", ["ids-", "vectors-"])
@pytest.mark.parametrize("damage", ["torn", "flipped", "missing"])
def test_damage_is_an_error(saved: Path, name: str, damage: str) -> None:
    path = next(saved.glob(f"{name}*"))
    data = path.read_bytes()
    if damage == "torn":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    else:
        path.unlink()
    with pytest.raises(IndexFormatError, match=r"is torn|SHA-256 differs|is missing"):
        open_index(saved)
    if damage != "flipped":
        with pytest.raises(IndexFormatError, match=r"is torn|is missing"):
            open_index(saved, memory_map=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "is not an index of vla_policy"),
        ({"version": 99}, "format version 99"),
        ({"kind": "annoy"}, "unknown kind 'annoy'"),
        ({"surprise": 1}, "must have the keys"),
        ({"count": 21}, "names 21 vectors and holds 20"),
        ({"width": 9}, "holds vectors of 8 numbers"),
    ],
)
def test_a_foreign_manifest_is_an_error(saved: Path, change: dict, message: str) -> None:
    path = saved / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(IndexFormatError, match=message):
        open_index(saved)


def test_a_torn_manifest_is_an_error(saved: Path) -> None:
    path = saved / MANIFEST_NAME
    path.write_text(path.read_text()[:50])
    with pytest.raises(IndexFormatError, match="is not valid JSON"):
        open_index(saved)


def test_what_another_process_saved_is_not_overwritten(saved: Path) -> None:
    mine, other = open_index(saved), open_index(saved)
    other.delete([0])
    other.save()
    mine.delete([1])
    with pytest.raises(IndexFormatError, match="has changed since this index was opened"):
        mine.save()
    assert len(open_index(saved)) == 19


@pytest.mark.parametrize("name", ["notes.txt", "vectors-of-mine.bin"])
def test_a_directory_with_other_things_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match="choose another path"):
        create_index("exact", WIDTH, "model-a", location=tmp_path)
