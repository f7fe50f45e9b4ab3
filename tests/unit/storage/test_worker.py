"""A worker does one thing after another in one thread, and its caller hears what came of it."""

from __future__ import annotations

import threading

import pytest
import trio

from piker.storage._worker import Worker


async def test_what_is_done_is_done_in_one_thread_and_its_result_comes_back() -> None:
    worker = Worker("test worker")
    seen = [await worker.begin(threading.get_ident).wait() for _ in range(3)]
    assert len(set(seen)) == 1
    assert seen[0] != threading.get_ident()
    worker.close()


async def test_what_fails_raises_where_it_is_waited_for_and_the_next_runs() -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device")

    worker = Worker("test worker")
    with pytest.raises(OSError, match="No space left"):
        await worker.begin(fail).wait()
    assert await worker.begin(lambda: 7).wait() == 7
    worker.close()


async def test_who_only_looks_waits_no_longer_than_asked_for() -> None:
    worker, may_end = Worker("test worker"), threading.Event()
    slow = worker.begin(lambda: may_end.wait(5))
    assert not slow.is_done_within(0.001)
    may_end.set()
    assert slow.is_done_within(5)
    assert slow.is_done_within(0), "it still is"
    assert slow.take()
    failing = worker.begin(lambda: 1 // 0)
    assert failing.is_done_within(5)
    with pytest.raises(ZeroDivisionError):
        failing.take()
    assert await worker.begin(lambda: 7).wait() == 7
    worker.close()


async def test_what_has_begun_is_not_cancelled() -> None:
    worker, may_end, begun = Worker("test worker"), threading.Event(), threading.Event()
    done = []

    def work() -> None:
        begun.set()
        may_end.wait(5)
        done.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.begin(work).wait)
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
            nursery.start_soon(worker.begin(lambda: may_end.wait(60)).wait)
            await trio.sleep(0.01)
            may_end.set()
    worker.close()


async def test_what_comes_after_holds_up_the_next_job_and_not_the_waiter() -> None:
    worker, may_end, done = Worker("test worker"), threading.Event(), list[str]()

    def after() -> None:
        may_end.wait(5)
        done.append("after")

    with trio.fail_after(2):
        await worker.begin(lambda: done.append("first"), after).wait()
    assert done == ["first"]
    second = worker.begin(lambda: done.append("second"))
    may_end.set()
    await second.wait()
    assert done == ["first", "after", "second"]
    worker.close()


async def test_nothing_comes_after_what_failed() -> None:
    worker, done = Worker("test worker"), list[int]()
    with pytest.raises(ZeroDivisionError):
        await worker.begin(lambda: 1 // 0, lambda: done.append(1)).wait()
    await worker.begin(lambda: None).wait()
    assert done == []
    worker.close()


def test_a_closed_worker_has_no_thread() -> None:
    before = set(threading.enumerate())
    worker = Worker("test worker")
    (thread,) = set(threading.enumerate()) - before
    worker.close()
    thread.join(5)
    assert not thread.is_alive()
