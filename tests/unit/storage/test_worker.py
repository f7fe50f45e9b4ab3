"""A worker does one thing after another in one thread, and its caller hears what came of it."""

from __future__ import annotations

import threading

import pytest
import trio

from piker.storage._worker import Worker


async def test_what_is_done_is_done_in_one_thread_and_its_result_comes_back() -> None:
    worker = Worker("test worker")
    seen = [await worker.run(threading.get_ident) for _ in range(3)]
    assert len(set(seen)) == 1
    assert seen[0] != threading.get_ident()
    worker.close()


async def test_what_fails_raises_where_it_is_waited_for_and_the_next_runs() -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device")

    worker = Worker("test worker")
    with pytest.raises(OSError, match="No space left"):
        await worker.run(fail)
    assert await worker.run(lambda: 7) == 7
    worker.close()


async def test_what_has_begun_is_not_cancelled() -> None:
    worker, may_end, begun = Worker("test worker"), threading.Event(), threading.Event()
    done = []

    def work() -> None:
        begun.set()
        may_end.wait(5)
        done.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run, work)
        while not begun.is_set():
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
        await trio.lowlevel.cancel_shielded_checkpoint()
        assert not done
        may_end.set()
    assert done == [True]
    worker.close()


async def test_the_event_loop_goes_on_meanwhile() -> None:
    worker, may_end = Worker("test worker"), threading.Event()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run, lambda: may_end.wait(60))
            await trio.sleep(0.01)
            may_end.set()
    worker.close()


def test_a_closed_worker_has_no_thread() -> None:
    before = set(threading.enumerate())
    worker = Worker("test worker")
    (thread,) = set(threading.enumerate()) - before
    worker.close()
    thread.join(5)
    assert not thread.is_alive()
