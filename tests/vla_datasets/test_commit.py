"""The commit protocol under crashes, and the one-writer lock."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from vla_datasets.lock import StoreLockedError
from vla_datasets.schema import StoreError
from vla_datasets.store import DemonstrationStore

WRITER = """
import sys
import numpy as np
from vla_datasets.schema import Episode
from vla_datasets.store import DemonstrationStore

store = DemonstrationStore.open(sys.argv[1])
body = store.embodiment
with store.writer() as writer:
    print("recovered", *writer.recovered, flush=True)
    number = len(store.episodes)
    while True:
        rng = np.random.default_rng(number)
        episode = Episode(
            images={c: rng.integers(0, 256, (20, h, w, 3), dtype=np.uint8) for c, (h, w) in body.cameras.items()},
            state=rng.normal(size=(20, len(body.state))).astype(np.float32),
            actions=rng.normal(size=(20, len(body.action))).astype(np.float32),
            task=f"task_{number % 3}", instruction=f"do thing {number % 3}",
            source_id=f"source-{number}", success=number % 2 == 0,
        )
        writer.append([episode])
        print("committed", number, flush=True)
        number += 1
"""


@pytest.fixture
def store(tmp_path, embodiment):
    return DemonstrationStore.create(tmp_path / "store", embodiment)


def start_writer(store: DemonstrationStore) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(store.path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("recovered")
    return process


def test_killed_writers_lose_and_repeat_nothing(store, make_episode, same_episode):
    rng = random.Random(0)
    reported: list[int] = []
    for _ in range(5):
        process = start_writer(store)
        reported.append(int(process.stdout.readline().split()[1]))
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        reported += [int(line.split()[1]) for line in process.communicate()[0].splitlines()]
        reopened = DemonstrationStore.open(store.path)
        numbers = [int(record.source_id.removeprefix("source-")) for record in reopened.episodes]
        assert numbers == list(range(len(numbers)))
        assert set(reported) <= set(numbers)
        reopened.verify()
    assert reported
    for record in reopened.episodes:
        assert same_episode(reopened.read_episode(record.index), make_episode(record.index, 20))
    with reopened.writer() as writer:
        writer.append([make_episode(len(numbers))])
    assert len(DemonstrationStore.open(store.path).episodes) == len(numbers) + 1


def crash_in_child(store: DemonstrationStore, episodes, at_sync: int) -> bool:
    """Appends in a forked child that dies at its n-th fsync; returns whether it died (False: the append ended)."""
    child = os.fork()
    if child == 0:
        fsync, calls = os.fsync, iter(range(10**6))

        def dying_fsync(descriptor: int) -> None:
            if next(calls) == at_sync:
                os._exit(9)
            fsync(descriptor)

        os.fsync = dying_fsync
        with store.writer() as writer:
            writer.append(episodes)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def test_a_crash_at_any_sync_leaves_the_old_or_the_new_state(store, make_episode, same_episode, caplog):
    with store.writer() as writer:
        writer.append([make_episode(0)])
    added = [make_episode(1), make_episode(2)]
    recoveries = set()
    for at_sync in range(1000):
        died = crash_in_child(store, added, at_sync)
        episodes = DemonstrationStore.open(store.path).episodes
        assert len(episodes) in (1, 3)
        if len(episodes) == 3:
            break
        assert died
        DemonstrationStore.open(store.path).verify()
        with caplog.at_level(logging.WARNING), store.writer() as writer:
            recoveries.add(writer.recovered)
            assert writer.recovered[0] == "segments/000001"
            assert "segments/000001" in caplog.text
            assert not (store.path / "segments" / "000001").exists()
            caplog.clear()
    assert recoveries == {("segments/000001",), ("segments/000001", "manifest.json.tmp")}
    with store.writer() as writer:
        assert writer.recovered == ()
    store.verify()
    for number in range(3):
        assert same_episode(store.read_episode(number), make_episode(number))


def test_a_failed_append_leaves_a_writer_that_goes_on(store, make_episode, same_episode, monkeypatch):
    replace = os.replace
    with store.writer() as writer:
        writer.append([make_episode(0)])
        with monkeypatch.context() as patch:

            def full_disk(source, target):
                if os.path.basename(target) == "manifest.json":
                    raise OSError(28, "No space left on device")
                replace(source, target)

            patch.setattr(os, "replace", full_disk)
            with pytest.raises(StoreError, match=r"'source-1' on failed.*No space left.*unchanged"):
                writer.append([make_episode(1)])
        assert len(DemonstrationStore.open(store.path).episodes) == len(store.episodes) == 1
        writer.append([make_episode(2)])
        assert writer.recovered == ("segments/000001", "manifest.json.tmp")
    assert [record.source_id for record in store.episodes] == ["source-0", "source-2"]
    assert same_episode(store.read_episode(1), make_episode(2))
    store.verify()


def test_the_second_writer_gets_a_clear_error(store, make_episode):
    process = start_writer(store)
    try:
        with pytest.raises(StoreLockedError, match=f"pid {process.pid} .*one writer at a time"), store.writer():
            pass
    finally:
        process.kill()
        process.communicate()
    with store.writer() as writer:
        with pytest.raises(StoreLockedError), DemonstrationStore.open(store.path).writer():
            pass
        writer.append([make_episode(10**6)])


def test_a_forked_child_neither_keeps_the_lock_nor_writes(store, make_episode):
    reading, writing = os.pipe()
    context = store.writer()
    writer = context.__enter__()
    child = os.fork()
    if child == 0:
        os.close(writing)
        refused = 1
        try:
            writer.append([make_episode(0)])
        except StoreError:
            refused = 0
        os.read(reading, 1)
        os._exit(refused)
    os.close(reading)
    writer.append([make_episode(1)])
    context.__exit__(None, None, None)
    store.files.lock().release()
    os.close(writing)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [record.source_id for record in store.episodes] == ["source-1"]


def test_a_writer_is_of_no_use_after_its_block(store, make_episode):
    with store.writer() as writer:
        pass
    with pytest.raises(StoreError, match="writer lock"):
        writer.append([make_episode(0)])


def test_readers_follow_a_writer_in_another_process(store):
    process = start_writer(store)
    try:
        seen = 0
        deadline = time.monotonic() + 60
        while seen < 10 and time.monotonic() < deadline:
            reader = DemonstrationStore.open(store.path)
            assert len(reader.episodes) >= seen
            seen = len(reader.episodes)
            if seen:
                assert len(reader.read_episode(seen - 1)) == 20
        assert seen >= 10
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("syncs", [0, 1, 2, 4, 5])
def test_an_interrupted_create_can_be_repeated(tmp_path, embodiment, make_episode, syncs):
    child = os.fork()
    if child == 0:
        fsync, calls = os.fsync, iter(range(10))
        os.fsync = lambda descriptor: os._exit(9) if next(calls) == syncs else fsync(descriptor)
        DemonstrationStore.create(tmp_path / "store", embodiment)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    with pytest.raises(FileNotFoundError):
        DemonstrationStore.open(tmp_path / "store")
    store = DemonstrationStore.create(tmp_path / "store", embodiment)
    with store.writer() as writer:
        writer.append([make_episode(0)])
    assert len(DemonstrationStore.open(tmp_path / "store").episodes) == 1
