from __future__ import annotations

import threading

from vla_policy.control.worker import NewestJobWorker


def test_the_newest_waiting_job_wins_and_errors_are_results() -> None:
    gate, started, finished = threading.Event(), threading.Event(), threading.Semaphore(0)
    seen: list[int] = []

    def work(job: int) -> int:
        seen.append(job)
        started.set()
        gate.wait(5)
        if job == 3:
            raise ValueError("three")
        return job * 10

    worker = NewestJobWorker(work, finished.release, "test")
    assert worker.submit(1) is False
    assert started.wait(5)
    assert worker.submit(2) is False
    assert worker.submit(3) is True
    assert worker.busy
    gate.set()
    assert finished.acquire(timeout=5) and finished.acquire(timeout=5)
    assert seen == [1, 3]
    job, error = worker.take() or (0, 0)
    assert job == 3 and isinstance(error, ValueError)
    assert worker.take() is None
    assert worker.stop(5.0)
