"""The order client: revisions, bounds, and what is told after `emsd` was lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
import trio
from ems_world import FQME, FakeWorld, Pipe, open_order_client, open_router, settle

from piker.clearing import _order_tables
from piker.clearing._client import REQUEST_AGE_NS, REQUESTS_MAX, OrderClient, open_client
from piker.clearing._messages import Status
from piker.clearing._session import Hello
from piker.errors import ConnectionLost, OrderRejected


async def resting(world: FakeWorld, client: OrderClient) -> tuple[Any, str]:
    """Enter an order and have the engine say that it rests."""
    engine = await world.engine()
    order = client.order("buy", "99", "1")
    await client.send(order)
    await engine.open(await engine.receive())
    while (await client.trades.receive()).resp != "open":
        pass
    return engine, order.oid


async def test_amends_in_a_row_name_the_revisions_that_they_make(autojump_clock: Any) -> None:
    world = FakeWorld()
    async with open_router(world) as router, open_order_client(world, lambda: router) as client:
        engine, oid = await resting(world, client)
        client.update_nowait(oid, price="98")
        client.update_nowait(oid, price="97")
        first = await engine.receive()
        await engine.open(first)
        second = await engine.receive()
        await engine.open(second)
        assert (first["price"], second["price"]) == ("98", "97")
        await settle()
        assert client.statuses[oid].revision == 3
        assert client.statuses[oid].resp == "open"


async def test_an_amend_between_two_answers_names_the_revision_behind_both(
    autojump_clock: Any,
) -> None:
    world = FakeWorld()
    async with open_router(world) as router, open_order_client(world, lambda: router) as client:
        _, oid = await resting(world, client)
        world.disk.delay_s = 0.1
        for price in ("98", "97"):
            await client.update(oid, price=price)
            await settle()  # each is a record of its own
        assert (await client.trades.receive()).revision == 2
        await client.update(oid, price="96")
        with trio.fail_after(5):
            answers = [await client.trades.receive() for _ in range(2)]
        assert [(one.revision, one.refused) for one in answers] == [(3, ""), (4, "")]


async def test_after_a_refused_amend_the_next_is_based_on_what_is(autojump_clock: Any) -> None:
    world = FakeWorld()
    async with open_router(world) as router, open_order_client(world, lambda: router) as client:
        engine, oid = await resting(world, client)
        await client.update(oid, price="98.001")  # no multiple of the tick
        [refused] = [await client.trades.receive()]
        assert (refused.refused, refused.revision) == ("amend", 1)
        await client.update(oid, price="98")
        assert (await engine.receive())["price"] == "98"


@asynccontextmanager
async def open_deaf_emsd() -> AsyncIterator[tuple[OrderClient, str, Callable[[], None]]]:
    """Yield a client, its resting order, and what kills the `emsd` that records nothing more."""
    world = FakeWorld()
    async with open_router(world) as first:
        routers = [first]
        async with open_order_client(world, lambda: routers[-1]) as client:
            _, oid = await resting(world, client)
            async with open_router(world.restarted()) as second:
                world.disk.delay_s = 1e6

                def kill() -> None:
                    routers.append(second)
                    first.sessions[0].close("killed")

                yield client, oid, kill
                world.disk.delay_s = 0.0


@pytest.mark.parametrize(
    "asked",
    [["amend"], ["cancel"], ["amend", "amend"], ["amend", "cancel"], ["cancel", "amend"]],
)
async def test_each_request_that_emsd_never_took_is_told_as_refused(
    autojump_clock: Any, asked: list[str]
) -> None:
    async with open_deaf_emsd() as (client, oid, kill):
        for what in asked:
            if what == "amend":
                await client.update(oid, price="98")
            else:
                await client.cancel(oid)
        await settle()
        kill()
        with trio.fail_after(5):
            answers = [await client.trades.receive() for _ in asked]
        for what, answer in zip(asked, answers, strict=True):
            assert (answer.oid, answer.refused, answer.revision) == (oid, what, 1)
            assert "was not taken" in answer.reason
            assert not answer.is_terminal


@pytest.mark.parametrize("what", ["amend", "cancel"])
async def test_a_request_is_answered_by_no_word_but_its_own(autojump_clock: Any, what: str) -> None:
    async with open_deaf_emsd() as (client, oid, kill):
        await (client.cancel(oid) if what == "cancel" else client.update(oid, price="98"))
        await settle()
        client.hear(client.statuses[oid])  # a word that left before the request came
        assert (await client.trades.receive()).refused == ""
        kill()
        with trio.fail_after(5):
            answer = await client.trades.receive()
        assert (answer.oid, answer.refused) == (oid, what)
        await client.update(oid, price="97")
        with trio.fail_after(5):
            assert (await client.trades.receive()).revision == 2


async def test_a_request_that_waited_too_long_does_not_leave(autojump_clock: Any) -> None:
    world = FakeWorld()
    async with open_router(world) as router:
        is_away = False

        def find() -> Any:
            if is_away:
                raise ConnectionLost("emsd is away")
            return router

        async with open_order_client(world, find) as client:
            engine = await world.engine()
            is_away = True
            router.sessions[0].close("away")
            with trio.fail_after(2):
                while client.state != "reconnecting":
                    await client.wait_state_change()
            order = client.order("buy", "99", "1")
            await client.send(order)
            await trio.sleep(REQUEST_AGE_NS / 1e9 + 1)
            is_away = False
            with trio.fail_after(5):
                answer = await client.trades.receive()
            assert (answer.oid, answer.resp) == (order.oid, "error")
            assert answer.reason == "was not sent: emsd was away"
            assert await engine.quiet()


async def test_too_many_waiting_requests_are_refused(
    autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pipe, "send_nowait", lambda *_: False)  # the wire is full
    world = FakeWorld()
    async with open_router(world) as router, open_order_client(world, lambda: router) as client:
        for _ in range(REQUESTS_MAX + 1):  # one is on its way at once
            client.send_nowait(client.order("buy", "99", "1"))
        with pytest.raises(OrderRejected, match=f"{REQUESTS_MAX} requests wait"):
            client.send_nowait(client.order("buy", "99", "1"))


async def test_a_caller_that_does_not_read_is_told_how_much_it_missed(
    autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_order_tables, "NEWS_MAX", 10)
    world = FakeWorld()
    async with open_router(world) as router, open_order_client(world, lambda: router) as client:
        for _ in range(15):
            await client.send(client.order("sell", "150", "1", exec_mode="dark"))
        await settle(2000)
        assert client.trades.missed == 5
        assert len(client.dialogs) == 15


async def test_ended_orders_beyond_a_bound_are_forgotten(
    autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_order_tables, "ENDED_MAX", 3)
    world = FakeWorld()
    async with open_router(world) as router, open_order_client(world, lambda: router) as client:
        for _ in range(10):
            order = client.order("sell", "150", "1", exec_mode="dark")
            await client.send(order)
            await client.cancel(order.oid)
        await settle(2000)
        assert len(client.statuses) == 3


async def test_the_tables_follow_what_is_told(autojump_clock: Any) -> None:
    world = FakeWorld()
    async with open_router(world) as router, open_order_client(world, lambda: router) as client:
        engine, oid = await resting(world, client)
        await engine.fill(oid, "0.4")
        await settle()
        assert client.dialogs[oid]["fills"][0]["size"] == "0.4"
        assert client.statuses[oid].state == "partially_filled"
        assert Decimal(client.positions["binance", "paper"][FQME]["size"]) == Decimal("0.4")
        await engine.fill(oid, "0.6")
        await engine.status("closed", oid=oid, reqid=None)
        await settle()
        assert client.dialogs == {}
        assert client.statuses[oid].resp == "closed"
        await client.cancel(oid)
        await settle()
        assert client.dialogs == {}, "a refused cancel does not bring it back"
        assert client.statuses[oid].is_terminal


async def test_the_first_attempt_that_fails_is_told_to_the_caller() -> None:
    @asynccontextmanager
    async def connect(hello: Hello) -> Any:
        raise ConnectionLost("nobody there")
        yield

    world = FakeWorld()
    with pytest.raises(ConnectionLost, match="nobody there"):
        async with open_client(connect, Hello(fqme=FQME), world.now_ns, world.new_id):
            pass


async def test_a_state_of_the_gate_reaches_every_client(autojump_clock: Any) -> None:
    world = FakeWorld()
    async with open_router(world) as router, open_order_client(world, lambda: router) as client:
        assert client.state == "ready"
        router.named("binance.paper")[0].stop("enough")
        with trio.fail_after(1):
            await client.wait_state_change()
        assert client.state == "stopped"
        assert "enough" in client.cause
        order = client.order("buy", "99", "1")
        await client.send(order)
        answer = await client.trades.receive()
        assert isinstance(answer, Status)
        assert answer.resp == "error"
