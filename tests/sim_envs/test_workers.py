from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from functools import partial
from pathlib import Path

import pytest

from sim_envs.workers import WorkerDied, run_jobs


class Square:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, job: int) -> tuple[int, int, int]:
        self.calls += 1
        if job == 13:
            raise ValueError("thirteen is not squared here")
        if job == 666:
            os._exit(1)
        return job * job, self.calls, os.getpid()


def test_every_job_runs_once_also_those_added_meanwhile() -> None:
    jobs = deque([1, 2, 3])
    results = {}
    for job, (square, _, _) in run_jobs(Square, jobs, processes=2):
        assert job not in results
        results[job] = square
        if job < 4:
            jobs.append(job + 10 if job != 3 else 20)
    assert results == {job: job * job for job in (1, 2, 3, 11, 12, 20)}


def test_a_worker_is_built_once_per_process() -> None:
    results = [result for _, result in run_jobs(Square, deque(range(6)), processes=1)]
    assert sorted(calls for _, calls, _ in results) == [1, 2, 3, 4, 5, 6]
    assert len({pid for _, _, pid in results}) == 1


def test_an_error_in_a_worker_reaches_the_caller_as_it_is() -> None:
    with pytest.raises(ValueError, match="thirteen"):
        list(run_jobs(Square, deque([13]), processes=1))


class DiesOnce:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __call__(self, job: int) -> int:
        if job == 3 and not self.mark.exists():
            self.mark.touch()
            os._exit(1)
        return job


@pytest.mark.parametrize("processes", [1, 2])
def test_what_a_dead_worker_was_doing_is_done_by_another(tmp_path: Path, processes: int) -> None:
    factory = partial(DiesOnce, tmp_path / "died")
    with pytest.warns(match="a worker process died; what was running runs again"):
        results = sorted(run_jobs(factory, deque(range(8)), processes=processes))
    assert results == [(job, job) for job in range(8)]


def test_a_job_that_kills_its_workers_is_an_error() -> None:
    with pytest.warns(match="died"), pytest.raises(WorkerDied, match=r"died twice while they ran \[666\].*--processes"):
        list(run_jobs(Square, deque([666]), processes=1))


def test_no_process_is_no_way_to_work() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        list(run_jobs(Square, deque([1]), processes=0))


def test_stop_finishes_what_runs_and_starts_nothing_more() -> None:
    finished: list[int] = []
    jobs = deque(range(100))
    for job, _ in run_jobs(Square, jobs, processes=1, stop=lambda: len(finished) >= 3):
        finished.append(job)
    assert 3 <= len(finished) <= 6
    assert len(jobs) >= 94


_SLEEPER = """
import os, sys, time
from collections import deque
from pathlib import Path
from sim_envs.workers import run_jobs

class Sleeper:
    def __call__(self, job):
        Path(sys.argv[1]).write_text(str(os.getpid()))
        time.sleep(60)

if __name__ == "__main__":
    list(run_jobs(Sleeper, deque([1]), processes=1))
"""


def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    script, pid_file = tmp_path / "sleeper.py", tmp_path / "pid"
    script.write_text(_SLEEPER)
    parent = subprocess.Popen(
        [sys.executable, script, pid_file], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    _wait_until(lambda: pid_file.exists() and pid_file.read_text() != "")
    worker = Path("/proc", pid_file.read_text())
    parent.kill()
    parent.wait()
    _wait_until(lambda: not worker.exists() or "State:\tZ" in (worker / "status").read_text())


def _wait_until(condition: object, timeout_s: float = 30.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.05)
