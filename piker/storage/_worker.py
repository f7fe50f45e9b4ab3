"""
A thread beside the event loop that does one blocking thing after another, and waits for the next.

`trio.to_thread` is made for any work at all: it goes by a limiter and a pool, and takes two more
turns of the scheduler. A sync of the order journal is what an order waits for, so it has a thread
that waits for it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class _Job(Generic[T]):
    """Something to do, and what came of it: one `value`, or an error."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self.values: list[T] = []
        self.error: BaseException | None = None

    def do(self) -> None:
        try:
            self.values.append(self._work())
        except BaseException as error:  # relay: to who waits in `run`
            self.error = error


class Worker:
    """One thread, from here to `close`; it ends with the process at the latest."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._done = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        work = (self._jobs, self._done)
        threading.Thread(target=_work, args=work, name=name, daemon=True).start()

    async def run(self, work: Callable[[], T]) -> T:
        """
        Run blocking `work` in the thread and return what it returns, or raise what it raises.

        One caller at a time. Once begun it is not cancelled: half a write has no known outcome.
        """
        job = _Job(work)
        self._jobs.put(job.do)
        with trio.CancelScope(shield=True):
            await trio.lowlevel.wait_readable(self._done)
        os.eventfd_read(self._done)
        if job.error is not None:
            raise job.error
        return job.values[0]

    def close(self) -> None:
        """Let the thread end; nothing may be under way."""
        self._jobs.put(None)
        os.close(self._done)


def _work(jobs: SimpleQueue[Callable[[], None] | None], done: int) -> None:
    """Do what comes until there is a None."""
    while (job := jobs.get()) is not None:
        job()
        os.eventfd_write(done, 1)
