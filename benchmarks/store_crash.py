"""Kills and power losses in every stage of what changes a store, and what is left of it.

python benchmarks/store_crash.py

A child process appends, merges, compacts or imports; it is killed at a random moment after a randomly chosen request
to the file system. SIGKILL leaves what was written, synced or not; therefore the requests of an undisturbed run are
recorded too, and the states that a power loss may leave after each of them are built and opened (see write_trace.py).
Every time: the store must be as it was before or after one of its commits, every committed episode must be there once,
bit for bit, and the same command must then finish the job. Controls leave out the fsyncs of files or of directories
from the record and must be caught.
"""

from __future__ import annotations

import logging
import mmap
import os
import random
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from result_files import write_result
from write_trace import DiskState, Policy, Recorder, Step, power_loss, state_before

from vla_datasets.combine import merge_stores
from vla_datasets.convert import driver
from vla_datasets.schema import Episode, StoreError, Stream
from vla_datasets.store import DemonstrationStore
from vla_policy.embodiment import Channel, Embodiment

BODY = Embodiment("toy", "joint_position", 10.0, {"front": (48, 48)}, Channel(("a",), ("1",)), Channel(("a",), ("1",)))
STAGES = ("prepare", "write", "sync", "manifest", "commit", "clean")
POLICIES: tuple[Policy, ...] = ("lost", "kept", "names only", "random", "random", "random")


@dataclass(frozen=True)
class Operation:
    """What is interrupted.

    Args:
        prepare: makes what is there before, given the directory of the work and one beside it for sources.
        run: does the work, or what is left of it.
        states: source ids of the store after 0, 1, 2, ... commits; before the first there may be no store.
        stages: those in which it is killed.
    """

    prepare: Callable[[Path, Path], None]
    run: Callable[[Path, Path], None]
    states: tuple[tuple[str, ...], ...]
    stages: tuple[str, ...]


@dataclass
class Damage:
    """Totals of what must be zero."""

    committed_lost: int = 0
    duplicated: int = 0
    unreadable: int = 0
    between_commits: int = 0
    not_resumed: int = 0
    examples: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, int]:
        return {name: value for name, value in vars(self).items() if name != "examples"}

    @property
    def total(self) -> int:
        return sum(self.figures().values())


def episode(name: str) -> Episode:
    rng = np.random.default_rng(int(name))
    length = int(rng.integers(3, 9))
    values = rng.normal(size=(length, 1)).astype(np.float32)
    images = {"front": rng.integers(0, 256, (length, 48, 48, 3), dtype=np.uint8)}
    return Episode(images, values, -values, "task", "do it", name, True)


def names(*numbers: int) -> tuple[str, ...]:
    return tuple(str(number) for number in numbers)


def fill(path: Path, *segments: Sequence[str]) -> DemonstrationStore:
    store = DemonstrationStore.create(path, BODY)
    with store.writer() as writer:
        for segment in segments:
            writer.append([episode(name) for name in segment])
    return store


class Source:
    """Eight episodes to import, as `vla_datasets.convert` sees a data set."""

    path = Path("made-up")
    embodiment = BODY
    streams: Mapping[str, Stream] = {}
    lengths = dict.fromkeys(names(*range(8)))

    def read(self, source_id: str) -> Episode:
        return episode(source_id)


def append(work: Path, sources: Path) -> None:
    store = DemonstrationStore.open(work / "store")
    with store.writer() as writer:
        for batch in (names(4, 5), names(6, 7)):
            if batch[0] not in {record.source_id for record in store.episodes}:
                writer.append([episode(name) for name in batch])


def merge(work: Path, sources: Path) -> None:
    merge_stores([DemonstrationStore.open(sources / name) for name in "ab"], work / "store")


def prepare_compaction(work: Path, sources: Path) -> None:
    with fill(work / "store", names(0, 1), names(2, 3), names(4, 5)).writer() as writer:
        writer.delete(names(1, 2))


def compact(work: Path, sources: Path) -> None:
    with DemonstrationStore.open(work / "store").writer() as writer:
        writer.compact()


def prepare_merge(work: Path, sources: Path) -> None:
    fill(sources / "a", names(0, 1), names(2))
    fill(sources / "b", names(3, 4))


def import_(work: Path, sources: Path) -> None:
    driver.BATCH_EPISODES = 4
    driver.import_episodes(Source(), work / "store")


BASIC = ("write", "sync", "manifest", "commit")
OPERATIONS = {
    "append": Operation(
        lambda work, sources: fill(work / "store", names(0, 1), names(2, 3)) and None,
        append,
        (names(*range(4)), names(*range(6)), names(*range(8))),
        BASIC,
    ),
    "merge": Operation(prepare_merge, merge, ((), (), names(*range(5))), BASIC),
    "compaction": Operation(prepare_compaction, compact, (names(0, 3, 4, 5), names(0, 3, 4, 5)), (*BASIC, "clean")),
    "import": Operation(lambda work, sources: None, import_, ((), (), names(*range(4)), names(*range(8))), BASIC),
}


def stage_of(kind: str, path: str) -> str:
    if path.endswith("manifest.json.tmp"):
        return "manifest"
    if kind == "rename" or (kind == "sync" and path in ("", "store")):
        return "commit"
    if kind in ("unlink", "rmdir"):
        return "clean"
    return "sync" if kind == "sync" else "write"


class Commits:
    """Counts the commits that are safe: the manifest was renamed and the fsync of its directory has returned."""

    def __init__(self) -> None:
        self.count = 0
        self._is_renamed = False

    def __call__(self, kind: str, path: str) -> None:
        if kind == "rename":
            self._is_renamed = True
        elif kind == "sync" and path == "store" and self._is_renamed:
            self.count, self._is_renamed = self.count + 1, False


def check(operation: Operation, work: Path, commits: int, damage: Damage, what: str) -> None:
    """Counts what is wrong with the store after at least so many commits."""
    before = damage.total
    found: tuple[str, ...] = ()
    try:
        store = DemonstrationStore.open(work / "store")
        found = tuple(record.source_id for record in store.episodes)
        store.verify()
        for record in store.episodes:
            ours, given = store.read_episode(record.index), episode(record.source_id)
            if not all(
                np.array_equal(a, b)
                for a, b in ((ours.state, given.state), (ours.images["front"], given.images["front"]))
            ):
                damage.unreadable += 1
    except FileNotFoundError:
        if operation.states[0]:
            damage.unreadable += 1
    except StoreError:
        damage.unreadable += 1
    damage.committed_lost += len(set(operation.states[commits]) - set(found))
    damage.duplicated += len(found) - len(set(found))
    damage.between_commits += found not in operation.states
    if damage.total > before:
        damage.examples.append(what)


def resume(operation: Operation, work: Path, sources: Path, damage: Damage, what: str) -> None:
    """Does the rest of the work and counts what is wrong then."""
    try:
        operation.run(work, sources)
    except (ValueError, OSError) as error:
        damage.not_resumed += 1
        damage.examples.append(f"{what}: {error}")
        return
    check(operation, work, len(operation.states) - 1, damage, f"{what}, resumed")


def kill_once(operation: Operation, target: str, root: Path, rng: random.Random, damage: Damage) -> str:
    """Starts the work on a copy, kills it at a random moment of a stage and checks what is left.

    Returns:
        The stage in which it died: that of its last request to the file system.
    """
    work = root / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(root / "before", work)
    shared = mmap.mmap(-1, 3)  # the stage, whether the moment has come, commits
    skipped = rng.randrange(int(rng.choice((1, 4, 16))))
    child = os.fork()
    if child == 0:
        left = iter(range(skipped, -1, -1))
        commits = Commits()

        def on_step(kind: str, path: str) -> None:
            stage = stage_of(kind, path)
            shared[0] = STAGES.index(stage)
            if stage == target and next(left, -1) == 0:
                shared[1] = 1

        def on_done(kind: str, path: str) -> None:
            commits(kind, path)
            shared[2] = commits.count

        try:
            with Recorder(work, on_step, on_done).recording():
                operation.run(work, root / "sources")
        except BaseException:  # noqa: BLE001 - a fork must not go on with what its parent does
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    while shared[1] == 0:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return _finished(status)
        time.sleep(1e-4)
    time.sleep(rng.choice((0.0, rng.expovariate(2000.0), rng.expovariate(200.0))))
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status):
        return _finished(status)
    stage = STAGES[shared[0]]
    check(operation, work, shared[2], damage, f"killed in {stage}")
    resume(operation, work, root / "sources", damage, f"killed in {stage}")
    return stage


def _finished(status: int) -> str:
    if status:
        raise RuntimeError("the work failed without being killed: see above")
    return "finished"


def kills(operation: Operation, root: Path, per_stage: int, rng: random.Random, damage: Damage) -> dict[str, int]:
    """Kills until every stage has had its share; returns the number of kills in each."""
    counts: dict[str, int] = dict.fromkeys(STAGES, 0)
    while any(counts[stage] < per_stage for stage in operation.stages):
        target = rng.choice([stage for stage in operation.stages if counts[stage] < per_stage])
        stage = kill_once(operation, target, root, rng, damage)
        if stage in counts:
            counts[stage] += 1
    return {stage: count for stage, count in counts.items() if count}


def record(operation: Operation, root: Path) -> tuple[DiskState, list[Step]]:
    """Returns the state before and all requests of an undisturbed run."""
    work = root / "recorded"
    shutil.copytree(root / "before", work)
    recorder = Recorder(work)
    before = state_before(work, recorder.inodes)
    with recorder.recording():
        operation.run(work, root / "sources")
    shutil.rmtree(work)
    return before, recorder.steps


def replay(
    operation: Operation, root: Path, rng: random.Random, every: int, ignored: Sequence[str] = ()
) -> tuple[int, Damage]:
    """Opens what power losses after every (n-th) request leave; returns the number of states and the damage."""
    before, steps = record(operation, root)
    damage, states = Damage(), 0
    fsync = os.fsync
    os.fsync = lambda descriptor: None  # what is checked here is written to be thrown away
    try:
        for end in sorted({*range(0, len(steps), every), len(steps)}):
            commits = Commits()
            for step in steps[:end]:
                commits(step.kind, step.path)
            for policy in POLICIES:
                work = root / "replayed"
                shutil.rmtree(work, ignore_errors=True)
                work.mkdir()
                power_loss(before, steps[:end], policy, rng, ignored).write_to(work)
                what = f"power loss after request {end} of {len(steps)}, {policy}"
                check(operation, work, commits.count, damage, what)
                if not ignored:
                    resume(operation, work, root / "sources", damage, what)
                states += 1
    finally:
        os.fsync = fsync
    return states, damage


def measure(kills_per_stage: int = 20, replay_every: int = 1, seed: int = 0, out: Path | None = None) -> None:
    """Measure and write results/store_crash.json.

    Args:
        kills_per_stage: kills of each operation in each of its stages.
        replay_every: power losses after every n-th request.
        seed: of moments and states.
        out: directory of the result file; None = benchmarks/results.
    """
    logging.getLogger("vla_datasets").setLevel(logging.ERROR)
    rng = random.Random(seed)
    killed: dict[str, dict[str, int]] = {}
    damage = Damage()
    replayed: dict[str, Any] = {}
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory() as directory,
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as fast,
    ):
        for name, operation in OPERATIONS.items():
            root = Path(directory, name)
            (root / "before").mkdir(parents=True)
            (root / "sources").mkdir()
            operation.prepare(root / "before", root / "sources")
            killed[name] = kills(operation, root, kills_per_stage, rng, damage)
            print(f"{name}: killed {killed[name]}: {damage.figures()} {damage.examples[:3]}", flush=True)
            # States that are built to be thrown away need no disk.
            shutil.move(root, Path(fast, name))
            states, lost = replay(operation, Path(fast, name), rng, replay_every)
            controls = {
                f"without_{kind}_syncs": replay(operation, Path(fast, name), rng, replay_every, [kind])[1].total
                for kind in ("file", "directory")
            }
            replayed[name] = {"states": states, **lost.figures(), "found_in_controls": controls}
            print(f"{name}: replayed {replayed[name]} {lost.examples[:3]}", flush=True)
    figures = {
        "kills": sum(sum(stages.values()) for stages in killed.values()),
        **damage.figures(),
        "kills_by_stage": killed,
        "power_losses": replayed,
    }
    write_result("store_crash", figures, **({} if out is None else {"directory": out}))


if __name__ == "__main__":
    tyro.cli(measure)
