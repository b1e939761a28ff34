"""Worker processes that each build one worker object (simulator, policy) and keep it for all of their jobs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

_POLL_S = 0.25
# One thread a process for OpenMP and BLAS: processes are the parallelism, and no sum depends on a thread count.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

_factory: Callable[[], Callable[[Any], Any]] | None = None
_worker: Callable[[Any], Any] | None = None


class WorkerDied(ValueError):
    """Worker processes keep dying: no job comes to its end."""


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

    When a worker process dies (out of memory, a crash in a renderer), all of them are started anew and what they were
    running runs again, with a `RuntimeWarning`.

    Args:
        factory: picklable; called once in every worker process, returns what runs a job there.
        jobs: taken from the left. The caller may add jobs while it iterates.
        processes: number of worker processes, started with ``spawn``.
        stop: once it returns True no further job starts; those that run are finished and yielded.

    Raises:
        ValueError: `processes` is less than 1.
        WorkerDied: workers died twice with no job finished in between.
    """
    if processes < 1:
        raise ValueError(f"--processes is the number of worker processes, at least 1; got {processes}")
    saved = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)
    pool = _pool(factory, processes)
    running: dict[Future[Result], Job] = {}
    deaths = 0
    try:
        while jobs or running:
            broken = False
            if stop():
                running = {future: job for future, job in running.items() if not future.cancel()}
                if not running:
                    return
            else:
                # Two jobs a worker: one runs, the next one waits, so that no worker idles while the caller writes.
                with _ctrl_c_kept_from_children():
                    while jobs and len(running) < 2 * processes and not broken:
                        try:
                            running[pool.submit(_call, jobs[0])] = jobs[0]
                            jobs.popleft()
                        except BrokenProcessPool:
                            broken = True
            done, _ = wait(running, timeout=_POLL_S, return_when=FIRST_COMPLETED)
            for future in done:
                if isinstance(future.exception(), BrokenProcessPool):
                    broken = True
                else:
                    deaths = 0
                    yield running.pop(future), future.result()
            if broken:
                deaths += 1
                lost = [running.pop(future) for future in tuple(running)]
                if deaths == 2:
                    raise WorkerDied(
                        f"worker processes died twice while they ran {lost}: they crashed, or the system ended them, "
                        f"mostly for want of memory (then try fewer --processes than {processes})"
                    )
                warnings.warn(f"a worker process died; what was running runs again: {lost}", stacklevel=2)
                jobs.extendleft(reversed(lost))
                pool.shutdown()
                pool = _pool(factory, processes)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _pool(factory: Callable[[], Callable[[Any], Any]], processes: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_start, initargs=(factory,))


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
