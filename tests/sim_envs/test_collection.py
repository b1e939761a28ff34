from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sim_envs.collection import SEGMENT_EPISODES, CollectionConfig, CollectionProgress, ExpertFailed, collect
from sim_envs.demonstrator import Demonstration, Demonstrator, NoiseConfig, source_id
from sim_envs.seeds import COLLECTION_SEEDS
from sim_envs.suite import build_suite
from sim_envs.tabletop.landmarks import STREAMS
from sim_envs.tasksets import select_tasks, training_only
from sim_envs.workers import WorkerDied
from vla_datasets.schema import Episode, Stream
from vla_datasets.store import DemonstrationStore
from vla_policy.embodiment import Channel, EmbodimentMismatch

TASKS = ("pick_red_cube", "touch_red_cube")
CONFIG = CollectionConfig(TASKS, episodes_per_task=6, image_size=8)


class FakeDemonstrator:
    """Fails on every layout whose number divides by 4."""

    crash_on: int | None = None
    fail_always = False

    def __init__(self, noise: NoiseConfig, image_size: int, environment: str) -> None:
        self.image_size = image_size

    def __call__(self, job: tuple[str, int]) -> Demonstration:
        task, seed = job
        if seed == self.crash_on:
            os._exit(1)
        rng = np.random.default_rng(seed)
        if seed % 4 == 0 or self.fail_always:
            return Demonstration(None, "never moved")
        length = int(rng.integers(2, 5))
        images = {
            name: rng.integers(0, 255, (length, self.image_size, self.image_size, 3), np.uint8)
            for name in ("front", "wrist")
        }
        vectors = rng.normal(size=(2, length, 7)).astype(np.float32)
        streams = {
            name: rng.random((length, len(stream.channel.names)), np.float32) for name, stream in STREAMS.items()
        }
        episode = Episode(images, *vectors, task, f"do {task}", source_id(task, seed), True, streams=streams)
        return Demonstration(episode)


class CrashingDemonstrator(FakeDemonstrator):
    crash_on = COLLECTION_SEEDS[5]


class HopelessDemonstrator(FakeDemonstrator):
    fail_always = True


fake_collect = partial(collect, demonstrator=FakeDemonstrator)


@pytest.fixture
def any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs jobs in this process, up to four at once, finishing in an order drawn anew every time."""
    rng = np.random.default_rng(0)

    def run_here(factory, jobs, *, processes, stop):
        worker, running = factory(), []
        while running or (jobs and not stop()):
            while jobs and len(running) < 4 and not stop():
                running.append(jobs.popleft())
            job = running.pop(int(rng.integers(len(running))))
            yield job, worker(job)

    monkeypatch.setattr("sim_envs.collection.run_jobs", run_here)


def ids(path: Path) -> list[str]:
    return [record.source_id for record in DemonstrationStore.open(path).episodes]


def expected_ids(config: CollectionConfig) -> list[str]:
    solved = [seed for seed in config.layouts if seed % 4][: config.episodes_per_task]
    return [source_id(task, seed) for task in config.tasks for seed in solved]


def test_a_collection_is_the_first_solved_layouts_in_order(tmp_path: Path) -> None:
    out = tmp_path / "demonstrations.zarr"
    progress = fake_collect(out, CONFIG, processes=2)
    assert ids(out) == expected_ids(CONFIG)
    assert progress.finished
    assert progress.collected == progress.wanted == 12
    assert progress.failures == {(task, "never moved"): 2 for task in TASKS}


def test_a_store_that_records_other_streams_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "demonstrations.zarr"
    env = build_suite("tabletop").make_env(CONFIG.image_size, None)
    env.close()
    wrench = Stream(Channel(("force_x",), ("N",)), samples_per_frame=2)
    DemonstrationStore.create(out, env.embodiment, streams={"wrench": wrench})
    with pytest.raises(
        ValueError,
        match=r"records the streams wrench .*Tabletop-v0 has landmarks_front, landmarks_wrist now.*another --out",
    ):
        fake_collect(out, CONFIG)


@pytest.mark.usefixtures("any_order")
def test_the_order_of_finishing_does_not_matter(tmp_path: Path) -> None:
    for attempt in range(8):
        out = tmp_path / f"{attempt}.zarr"
        fake_collect(out, CONFIG)
        assert ids(out) == expected_ids(CONFIG)
    assert fake_collect(out, CONFIG).present == 12  # again: nothing left to do
    assert ids(out) == expected_ids(CONFIG)


@pytest.mark.usefixtures("any_order")
@pytest.mark.parametrize("stops", [(0, 1, 2, 3), (5,), (9, 1), (1,) * 12])
def test_an_interrupted_collection_loses_and_repeats_nothing(tmp_path: Path, stops: tuple[int, ...]) -> None:
    out = tmp_path / "demonstrations.zarr"
    before: list[str] = []
    for attempts in (*stops, 1000):
        seen: list[CollectionProgress] = []
        progress = fake_collect(out, CONFIG, stop=partial(_more_than, seen, attempts), on_progress=seen.append)
        after = ids(out)
        assert after[: len(before)] == before
        assert len(after) == progress.present + progress.collected
        assert progress.finished == (len(after) == 12)
        before = after
    assert sorted(after) == sorted(expected_ids(CONFIG))


def _more_than(seen: list[CollectionProgress], attempts: int) -> bool:
    return len(seen) > attempts


@pytest.mark.usefixtures("any_order")
def test_more_episodes_can_be_added_and_fewer_change_nothing(tmp_path: Path) -> None:
    out = tmp_path / "demonstrations.zarr"
    for episodes in (4, 7, 5):
        config = CollectionConfig(TASKS, episodes, image_size=8)
        assert fake_collect(out, config).finished
    assert sorted(ids(out)) == sorted(expected_ids(CollectionConfig(TASKS, 7)))


@pytest.mark.usefixtures("any_order")
def test_segments_are_bounded(tmp_path: Path) -> None:
    out = tmp_path / "demonstrations.zarr"
    fake_collect(out, CollectionConfig(TASKS, 70, image_size=8))
    store = DemonstrationStore.open(out)
    sizes = [sum(record.segment == segment for record in store.episodes) for segment in store.segment_ids]
    assert sum(sizes) == 140
    assert sizes[0] == SEGMENT_EPISODES
    assert max(sizes) <= SEGMENT_EPISODES + 4


def test_a_dead_worker_costs_only_what_it_was_doing(tmp_path: Path) -> None:
    out = tmp_path / "demonstrations.zarr"
    with pytest.warns(match="died"), pytest.raises(WorkerDied, match="twice"):
        collect(out, CONFIG, processes=1, demonstrator=CrashingDemonstrator)
    left = ids(out)
    assert set(left) < set(expected_ids(CONFIG))
    assert left


@pytest.mark.usefixtures("any_order")
def test_an_expert_that_always_fails_is_an_error_soon(tmp_path: Path) -> None:
    config = CollectionConfig(TASKS, 1, image_size=8)
    with pytest.raises(ExpertFailed, match=r"layouts of '.*never moved"):
        collect(tmp_path / "demonstrations.zarr", config, demonstrator=HopelessDemonstrator)


@pytest.mark.usefixtures("any_order")
def test_other_noise_or_images_need_another_store(tmp_path: Path) -> None:
    out = tmp_path / "demonstrations.zarr"
    fake_collect(out, CollectionConfig(TASKS[:1], 1, image_size=8))
    with pytest.raises(ValueError, match=r"0\.025.*0\.05.*another --out"):
        fake_collect(out, CollectionConfig(TASKS, 2, noise=NoiseConfig(std=0.05), image_size=8))
    with pytest.raises(EmbodimentMismatch, match=r"cameras"):
        fake_collect(out, CollectionConfig(TASKS, 2, image_size=16))
    assert len(ids(out)) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CollectionConfig(TASKS, 0), "episodes-per-task"),
        (lambda: CollectionConfig(TASKS, seed=100), "seed"),
        (lambda: NoiseConfig(share=1.5), "share"),
        (lambda: NoiseConfig(std=-1.0), "rad"),
        (lambda: select_tasks("pick_red_cub"), "pick_red_cube"),
        (lambda: select_tasks(" , "), "no task"),
        (lambda: training_only(select_tasks("all")), "held-out combinations.*pick_purple_puck"),
    ],
)
def test_wrong_flags_are_named(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_blocks_of_layouts_are_disjoint() -> None:
    first, second = (set(CollectionConfig(TASKS, seed=seed).layouts) for seed in (0, 1))
    assert not first & second
    assert first | second <= set(COLLECTION_SEEDS)


def test_a_demonstration_is_a_function_of_task_seed_and_noise() -> None:
    job = ("touch_red_cube", COLLECTION_SEEDS[0])
    noisy = NoiseConfig(share=1.0, std=0.02)
    one, two, clean = (Demonstrator(noise, 32)(job).episode for noise in (noisy, noisy, NoiseConfig(share=0.0)))
    assert one is not None
    assert two is not None
    assert clean is not None
    assert np.array_equal(one.state, two.state)
    assert np.array_equal(one.actions, two.actions)
    assert all(np.array_equal(one.images[name], two.images[name]) for name in one.images)
    assert np.array_equal(one.actions[0], clean.actions[0])  # before the first disturbance shows
    assert not np.array_equal(one.state[: len(clean.state)], clean.state[: len(one.state)])


_CLI = """
import sys
from pathlib import Path
from vla_policy.cli.collect import collect

if __name__ == "__main__":
    sys.exit(collect(Path(sys.argv[1]), "touch_red_cube,touch_blue_cube", int(sys.argv[2]), image_size=32))
"""


def test_ctrl_c_commits_and_the_same_command_goes_on(tmp_path: Path) -> None:
    script, out = tmp_path / "run.py", tmp_path / "demonstrations.zarr"
    script.write_text(_CLI)
    command = [sys.executable, str(script), str(out), "40"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        command, env=env, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    while not ((out / "collection.json").exists() and ids(out)):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
    output = process.communicate(timeout=30)[0].decode()
    interrupted = ids(out)
    assert "Traceback" not in output
    assert process.returncode == 130, output
    assert 0 < len(interrupted) < 80
    assert subprocess.run(command, env=env, check=False).returncode == 0
    assert ids(out)[: len(interrupted)] == interrupted
    assert len(set(ids(out))) == 80
