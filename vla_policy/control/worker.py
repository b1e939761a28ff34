"""A thread that works on the newest job only: a robot wants the answer to what it sees now."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class NewestJobWorker(Generic[Job, Result]):
    """Runs one job at a time in its own thread; a job that waits is replaced by a newer one.

    Args:
        work: turns a job into a result, in the worker's thread. What it raises is a result too.
        done: called in the worker's thread after each job; the result is read with `take`.
        name: thread name.
    """

    def __init__(self, work: Callable[[Job], Result], done: Callable[[], object], name: str) -> None:
        self._work, self._done = work, done
        self._condition = threading.Condition()
        self._job: Job | None = None
        self._result: tuple[Job, Result | Exception] | None = None
        self._busy = False
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits."""
        with self._condition:
            return self._busy or self._job is not None

    def submit(self, job: Job) -> bool:
        """Hands over a job; returns whether an older one that still waited was dropped for it."""
        with self._condition:
            dropped = self._job is not None
            self._job = job
            self._condition.notify()
        return dropped

    def take(self) -> tuple[Job, Result | Exception] | None:
        """Returns the newest finished job with its result or error, once; None when there is nothing new."""
        with self._condition:
            finished, self._result = self._result, None
        return finished

    def stop(self, timeout_s: float) -> bool:
        """Ends the thread after its present job; returns whether it ended in time."""
        with self._condition:
            self._stopped = True
            self._condition.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._job is not None or self._stopped)
                if self._stopped:
                    return
                job, self._job, self._busy = self._job, None, True
            result: Result | Exception
            try:
                result = self._work(job)  # type: ignore[arg-type]
            except Exception as error:  # noqa: BLE001  whatever a model raises, this thread has to live on and say so
                result = error
            with self._condition:
                self._result, self._busy = (job, result), False  # type: ignore[assignment]
            self._done()
