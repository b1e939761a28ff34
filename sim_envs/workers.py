"""Worker processes that each build one worker object (simulator, policy) and keep it for all of their jobs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

_POLL_S = 0.25
# One thread a process for OpenMP and BLAS: processes are the parallelism, and no sum depends on a thread count.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

_factory: Callable[[], Callable[[Any], Any]] | None = None
_worker: Callable[[Any], Any] | None = None


def never() -> bool:
    """Returns False: the stop condition of work that is not to be interrupted."""
    return False


def run_jobs(
    factory: Callable[[], Callable[[Job], Result]],
    jobs: deque[Job],
    *,
    processes: int,
    stop: Callable[[], bool] = never,
) -> Iterator[tuple[Job, Result]]:
    """Yields (job, result) as the workers finish, in no particular order.

    Args:
        factory: picklable; called once in every worker process, returns what runs a job there.
        jobs: taken from the left. The caller may add jobs while it iterates.
        processes: number of worker processes, started with ``spawn``.
        stop: once it returns True no further job starts; those that run are finished and yielded.

    Raises:
        ValueError: `processes` is less than 1.
        concurrent.futures.process.BrokenProcessPool: a worker process died.
    """
    if processes < 1:
        raise ValueError(f"--processes is the number of worker processes, at least 1; got {processes}")
    saved = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_start, initargs=(factory,))
    try:
        running: dict[Future[Result], Job] = {}
        while jobs or running:
            if stop():
                running = {future: job for future, job in running.items() if not future.cancel()}
                if not running:
                    return
            else:
                # Two jobs a worker: one runs, the next one waits, so that no worker idles while the caller writes.
                with _ctrl_c_kept_from_children():
                    while jobs and len(running) < 2 * processes:
                        job = jobs.popleft()
                        running[pool.submit(_call, job)] = job
            done, _ = wait(running, timeout=_POLL_S, return_when=FIRST_COMPLETED)
            for future in done:
                yield running.pop(future), future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _ctrl_c_kept_from_children() -> Iterator[None]:
    """Processes that are started inside the block never see SIGINT, from their first instruction on.

    Ctrl-C reaches the whole process group, and the parent decides what follows; here it comes after the block.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _start(factory: Callable[[], Callable[[Any], Any]]) -> None:
    global _factory
    _factory = factory
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _call(job: Any) -> Any:
    # Built on the first job, not in the initializer, so that its errors reach the caller as they are.
    global _worker
    if _worker is None:
        if _factory is None:
            raise RuntimeError("a worker process got a job before it was started")
        _worker = _factory()
    return _worker(job)
