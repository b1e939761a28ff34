"""Changes of a store on a real file system that is full: refused by name, undone, and done once there is room."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COMMON = """
import subprocess, sys
from pathlib import Path
import numpy as np
from vla_datasets.combine import merge_stores
from vla_datasets.convert import driver
from vla_datasets.schema import Episode, StoreError
from vla_datasets.store import DemonstrationStore
from vla_policy.embodiment import Channel, Embodiment

disk, elsewhere = Path(sys.argv[1]), Path(sys.argv[2])
mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
if subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
    sys.exit("no mount")
body = Embodiment("toy", "x", 10.0, {"front": (64, 64)}, Channel(("a",), ("1",)), Channel(("a",), ("1",)))
names = [f"toy/{number}" for number in range(6)]

def episode(name):  # half a megabyte that no codec makes smaller
    rng = np.random.default_rng(int(name[4:]))
    ones = np.ones((40, 1), np.float32)
    return Episode({"front": rng.integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)}, ones, ones, "t", "i", name, True)

def fill(path, *segments):
    store = DemonstrationStore.create(path, body)
    with store.writer() as writer:
        for segment in segments:
            writer.append([episode(name) for name in segment])
    return store

def check(wanted):
    store = DemonstrationStore.open(disk / "store")
    store.verify()
    found = [record.source_id for record in store.episodes]
    assert found == wanted, (found, wanted)
    for record in store.episodes:
        ours, given = store.read_episode(record.index), episode(record.source_id)
        assert np.array_equal(ours.images["front"], given.images["front"])
    named = {"zarr.json", *store.segment_ids}
    assert {path.name for path in (disk / "store/segments").iterdir()} == named

def refused(change):
    try:
        change()
    except StoreError as error:
        message = str(error)
    print(message)
    assert str(disk / "store/segments") in message and "No space left on device; the store is unchanged" in message
    return message

class Source:
    path, embodiment, streams, lengths = Path("toy"), body, {}, dict.fromkeys(names, 40)
    def read(self, source_id):
        return episode(source_id)

ballast = disk / "ballast"
"""
APPEND = """
store = fill(disk / "store", names[:2])
ballast.write_bytes(bytes(2_500_000))
def change():
    with store.writer() as writer:
        writer.append([episode(name) for name in names[2:]])
assert "append of 4 episodes from 'toy/2' on" in refused(change)
check(names[:2])
ballast.unlink()
change()
check(names)
"""
IMPORT = """
driver.BATCH_EPISODES = 2
ballast.write_bytes(bytes(2_500_000))
change = lambda: driver.import_episodes(Source(), disk / "store")
message = refused(change)
assert "append of 2 episodes from 'toy/2' on" in message and "Episodes committed before stay" in message
check(names[:2])
refused(change)
check(names[:2])
ballast.unlink()
progress = change()
assert (progress.present, progress.imported, progress.refused) == (2, 4, {})
check(names)
"""
MERGE = """
fill(disk / "store", names[:2])
sources = [fill(elsewhere / "a", names[2:4]), fill(elsewhere / "b", names[4:])]
ballast.write_bytes(bytes(1_600_000))
change = lambda: merge_stores(sources, disk / "store")
assert "merge failed" in refused(change)
check(names[:2])
ballast.unlink()
change()
check(names)
change()
check(names)
"""
COMPACT = """
store = fill(disk / "store", names[:2], names[2:4])
with store.writer() as writer:
    writer.delete([names[1]])
ballast.write_bytes(bytes(1_200_000))
kept = [names[0], *names[2:4]]
def change():
    with store.writer() as writer:
        writer.compact()
assert "compaction failed" in refused(change)
check(kept)
ballast.unlink()
change()
check(kept)
"""


@pytest.mark.parametrize("script", [APPEND, IMPORT, MERGE, COMPACT], ids=["append", "import", "merge", "compaction"])
def test_a_change_without_room_is_undone_and_repeated(tmp_path, script):
    (tmp_path / "disk").mkdir()
    paths = [str(tmp_path / "disk"), str(tmp_path)]
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", COMMON + script, *paths]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    except FileNotFoundError:
        pytest.skip("no unshare")
    if "no mount" in done.stderr or "unshare: " in done.stderr:
        pytest.skip("no right to mount a small file system")
    assert done.returncode == 0, done.stdout + done.stderr
