"""
A thread beside the event loop that does one blocking thing after another, and waits for the next.

`trio.to_thread` is made for any work at all: it goes by a limiter and a pool, and takes two more
turns of the scheduler. A sync of the order journal is what an order waits for, so it has a thread
that waits for it.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class Job(Generic[T]):
    """Something to do, and what came of it: one value, or an error."""

    def __init__(self, work: Callable[[], T], after: Callable[[], None] | None, done: int) -> None:
        self._work = work
        self._after = after
        self._done = done
        self._values: list[T] = []
        self._error: BaseException | None = None

    def do(self) -> None:
        """Do it, say so, and then what comes after it; runs in the thread."""
        try:
            self._values.append(self._work())
        except BaseException as error:  # relay: to who waits for it
            self._error = error
        os.eventfd_write(self._done, 1)
        if self._after is not None and self._error is None:
            self._after()

    async def wait(self) -> T:
        """Wait until it is done, and `take`."""
        await self.wait_done()
        return self.take()

    async def wait_done(self) -> None:
        """
        Wait until it is done.

        Cancelled only behind that: half a write has no known outcome.
        """
        with trio.CancelScope(shield=True):
            await trio.lowlevel.wait_readable(self._done)

    def is_done_within(self, seconds: float) -> bool:
        """Whether it is done within `seconds`, for which the event loop stands still."""
        poll = select.poll()
        poll.register(self._done, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def take(self) -> T:
        """Return what the work has returned, or raise what it has raised; once, when it is done."""
        os.eventfd_read(self._done)
        if self._error is not None:
            raise self._error
        return self._values[0]


class Worker:
    """One thread, from here to `close`; it ends with the process at the latest."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._done = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        threading.Thread(target=_work, args=(self._jobs,), name=name, daemon=True).start()

    def begin(self, work: Callable[[], T], after: Callable[[], None] | None = None) -> Job[T]:
        """Have `work` done, and then `after`; the job is waited for before the next is begun."""
        job = Job(work, after, self._done)
        self._jobs.put(job.do)
        return job

    def close(self) -> None:
        """Let the thread end when it is done; nobody may wait for a job."""
        self._jobs.put(None)
        os.close(self._done)


def _work(jobs: SimpleQueue[Callable[[], None] | None]) -> None:
    """Do what comes until there is a None."""
    while (job := jobs.get()) is not None:
        job()
