"""The heart of emsd, without actors: durable before it leaves, told once, bounded, recovered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
import trio
from ems_world import (
    FQME,
    FREE,
    FakeWorld,
    Peer,
    open_desk,
    open_order_client,
    open_peer,
    open_router,
    order,
    settle,
)

from piker.clearing import _keeper
from piker.clearing._messages import Cancel
from piker.clearing._router import Router
from piker.clearing._session import OUTBOX_MAX, Hello
from piker.errors import ConfigError, ConnectionLost, ServiceUnavailable

A, B = "a" * 32, "b" * 32


async def test_an_order_leaves_only_once_it_is_durable(autojump_clock: Any) -> None:
    async with open_desk() as (world, _, peer, engine):
        world.disk.delay_s = 0.5
        await peer.ask(order())
        assert await engine.quiet()
        with trio.fail_after(2):
            sent = await engine.pipe._receive.receive()
        assert (sent["oid"], sent["symbol"]) == (A, "btcusdt.spot")
        assert await peer.words(1) == ["pending"]


async def test_what_becomes_durable_at_the_end_of_a_desk_is_left_to_its_next_life(
    autojump_clock: Any,
) -> None:
    async with open_desk() as (world, router, peer, _):
        world.disk.delay_s = 0.5
        await peer.ask(order())
        await settle()
    assert not router.keepers["binance", "paper"].told.orders
    async with open_router(world.restarted()) as again:
        assert A in again.keepers["binance", "paper"].told.orders


async def test_a_paper_order_goes_from_entry_to_ledger(autojump_clock: Any) -> None:
    async with open_desk() as (world, router, peer, engine):
        await peer.ask(order())
        sent = await engine.receive()
        await engine.open(sent)
        await engine.fill(A, "0.4")
        await engine.fill(A, "0.6", "101")
        await engine.status("closed", oid=A, reqid=None, filled="1")
        assert await peer.words(5) == ["pending", "open", "fill", "fill", "closed"]
        await settle()
        [position] = router.keepers["binance", "paper"].book.held_positions()
        assert (position.size, position.avg_price) == (1, Decimal("100.6"))
        balances = router.keepers["binance", "paper"].book.balances(Decimal(1000))
        assert balances == {"btc": 1, "usdt": Decimal("899.2")}
        assert b'["t2"]' in world.ledgers.read("trades_binance_paper.toml")


async def test_a_market_whose_datad_dies_as_it_is_opened_is_opened_again(
    autojump_clock: Any,
) -> None:
    world = FakeWorld()
    world.refuse_market = ConnectionLost("datad.binance: peer is gone")
    async with open_router(world) as router, trio.open_nursery() as nursery:

        async def restart() -> None:
            await trio.sleep(1)
            world.refuse_market = None

        nursery.start_soon(restart)
        async with open_peer(router) as peer:
            assert peer.first["fqme"] == FQME


async def test_a_market_whose_datad_stays_away_is_an_error_in_time(autojump_clock: Any) -> None:
    world = FakeWorld()
    world.refuse_market = ConnectionLost("datad.binance: peer is gone")
    async with open_router(world) as router:
        begun = trio.current_time()
        with pytest.raises(ConnectionLost, match="peer is gone"):
            await router.attach(Hello(fqme=FQME))
        assert 5 < trio.current_time() - begun < 12


async def test_a_cancel_of_what_has_not_left_kills_it(autojump_clock: Any) -> None:
    async with open_desk() as (world, _, peer, engine):
        world.disk.delay_s = 0.5
        await peer.ask(order())
        await peer.ask(Cancel(oid=A, symbol=FQME))
        await trio.sleep(3)
        assert await engine.quiet()
        assert await peer.words(2) == ["pending", "canceled"]


async def test_a_slow_journal_never_holds_a_cancel_back(autojump_clock: Any) -> None:
    async with open_desk() as (world, _, peer, engine):
        await peer.ask(order())
        await engine.open(await engine.receive())
        assert await peer.words(2) == ["pending", "open"]
        world.disk.delay_s = 60
        await peer.ask(Cancel(oid=A, symbol=FQME))
        assert (await engine.receive())["action"] == "cancel"


@pytest.mark.parametrize(
    ("rubbish", "says"),
    [
        (5, "got `int`"),
        ({"action": "buy"}, "missing required field `exec_mode`"),
        ({**order().to_dict(), "price": "nan"}, "price: was NaN"),
        ({**order().to_dict(), "size": "0"}, "size: was 0"),
        ({**order().to_dict(), "symbol": "ethusdt.spot.binance"}, "symbol: was ethusdt"),
        ({**order().to_dict(), "account": "other"}, "account: was 'other', expected one of paper"),
        ({**order().to_dict(), "price": "99.001"}, "price: was 99.001"),
        ({**order().to_dict(), "revision": 3}, "oid: was"),
        ({"action": "cancel", "oid": B, "symbol": FQME}, "expected a known order"),
    ],
)
async def test_rubbish_is_answered_and_the_dialog_lives(
    rubbish: Any, says: str, autojump_clock: Any
) -> None:
    world = FakeWorld()
    async with open_router(world) as router, open_peer(router) as peer:
        await peer.pipe.send(rubbish)
        answer = await peer.receive()
        assert answer["resp"] == "error"
        assert says in answer["reason"]
        await peer.ask(order())
        assert (await peer.receive())["resp"] == "pending"


async def test_an_entry_under_a_known_oid_is_refused(autojump_clock: Any) -> None:
    async with open_desk() as (_, _, peer, engine):
        await peer.ask(order())
        await engine.receive()
        await peer.ask(order(price="98"))
        assert await peer.words(1) == ["pending"]
        answer = await peer.receive()
        assert (answer["refused"], answer["revision"]) == ("amend", 1)
        assert "the oid is in use" in answer["reason"]
        assert await engine.quiet()


async def test_of_two_amends_of_one_revision_the_second_is_refused(autojump_clock: Any) -> None:
    world = FakeWorld()
    async with (
        open_router(world) as router,
        open_peer(router) as peer,
        open_peer(router) as other,
    ):
        engine = await world.engine()
        await peer.ask(order())
        await engine.open(await engine.receive())
        await settle()
        await peer.ask(order(price="98", revision=1))
        await settle()
        await other.ask(order(price="97", revision=1))
        sent = await engine.receive()
        assert (sent["price"], sent["number"], sent["reqid"]) == ("98", 2, sent["reqid"])
        await engine.open(sent)
        for client in (peer, other):
            words = [await client.receive() for _ in range(5)]
            assert [word["resp"] for word in words] == [
                "pending", "open", "pending", "pending", "open",
            ]  # fmt: skip
            assert [word["refused"] for word in words][3] == "amend"
            assert words[4]["req"]["price"] == "98"


async def test_a_client_that_never_reads_is_sent_away_alone(autojump_clock: Any) -> None:
    world = FakeWorld()
    async with (
        open_router(world) as router,
        open_peer(router, size=1) as idle,
        open_peer(router) as peer,
    ):
        for number in range(OUTBOX_MAX + 10):
            await peer.ask({"action": "cancel", "oid": str(number), "symbol": FQME})
            await peer.receive()
            await peer.ask(order(f"{number:032x}", exec_mode="dark", price="500"))
            await peer.receive()
            await peer.ask(Cancel(oid=f"{number:032x}", symbol=FQME))
            await peer.receive()
            if idle.ended:
                break
        await settle()
        assert "messages were not read" in idle.ended
        assert len(router.sessions) == 1


async def test_bots_of_one_account_see_what_is_theirs(autojump_clock: Any) -> None:
    world = FakeWorld()
    async with (
        open_router(world) as router,
        open_peer(router, client_ref="one") as one,
        open_peer(router, client_ref="two") as two,
        open_peer(router) as everything,
    ):
        await one.ask(order(A))
        await two.ask(order(B))
        assert (await one.receive())["oid"] == A
        assert (await two.receive())["oid"] == B
        assert {(await everything.receive())["oid"] for _ in range(2)} == {A, B}
        await one.ask(order("c" * 32, client_ref="two"))
        assert "client_ref: was 'two'" in (await one.receive())["reason"]


async def test_a_late_client_gets_open_orders_with_their_fills(autojump_clock: Any) -> None:
    async with open_desk() as (_, router, peer, engine):
        await peer.ask(order())
        await engine.open(await engine.receive())
        await engine.fill(A, "0.4")
        await peer.words(3)
        async with open_peer(router) as late:
            [dialog] = late.dialogs
            assert (dialog["resp"], dialog["state"]) == ("open", "partially_filled")
            assert dialog["brokerd_msg"]["filled"] == "0.4"
            assert [fill["tid"] for fill in late.fills[A]] == ["t1"]
            assert late.positions[0]["size"] == "0.4"


async def test_a_long_handshake_comes_in_pages(autojump_clock: Any) -> None:
    world = FakeWorld()
    async with open_router(world) as router, open_peer(router) as peer:
        for number in range(400):
            await peer.ask(order(f"{number:032x}", exec_mode="dark", price="500"))
            await peer.receive()
        async with open_peer(router) as late:
            assert [dialog["oid"] for dialog in late.dialogs] == [f"{n:032x}" for n in range(400)]


async def test_an_unanswered_paper_order_is_asked_again(autojump_clock: Any) -> None:
    async with open_desk() as (world, _, peer, engine):
        await peer.ask(order())
        await engine.receive()  # and no answer
        assert await peer.words(1) == ["pending"]
        await trio.sleep(3.2)
        assert await peer.words(1) == ["pending"]
        again = await world.engine()
        assert [told["msg"] for told in again.told] == ["paper_account"]
        answer = await peer.receive()
        assert (answer["resp"], answer["state"]) == ("canceled", "canceled")
        assert await again.quiet()


async def test_a_new_paper_engine_is_told_what_rests(autojump_clock: Any) -> None:
    async with open_desk() as (world, _, peer, engine):
        await peer.ask(order())
        first = await engine.receive()
        await engine.open(first)
        await engine.fill(A, "0.4")
        await peer.ask(order(price="98", revision=1))
        amend = await engine.receive()
        await peer.ask(order(B))
        entry = await engine.receive()
        await settle()
        engine.pipe.close()
        again = await world.engine()
        resting, account = again.told
        assert (resting["msg"], account["msg"]) == ("paper_order", "paper_account")
        assert resting["order"]["reqid"] == first["client_id"]
        assert (resting["order"]["price"], resting["filled"], resting["fills"]) == ("99", "0.4", 1)
        assert account["positions"] == {FQME: "0.4"}
        asked = [await again.receive() for _ in range(2)]
        assert [each["client_id"] for each in asked] == [amend["client_id"], entry["client_id"]]
        assert asked[0]["reqid"] == first["client_id"]
        assert asked[1]["reqid"] is None


async def test_an_order_whose_last_fill_is_known_is_closed_though_its_end_was_not_recorded(
    autojump_clock: Any,
) -> None:
    async with open_desk() as (world, router, peer, engine):
        await peer.ask(order())
        await engine.open(await engine.receive())
        await engine.fill(A, "0.4")
        await engine.fill(A, "0.6")
        assert await peer.words(4) == ["pending", "open", "fill", "fill"]
        engine.pipe.close()
        again = await world.engine()
        assert [told["msg"] for told in again.told] == ["paper_account"]
        assert await peer.words(1) == ["closed"]
        assert not router.keepers["binance", "paper"].book.active()


async def test_a_restart_after_a_kill_holds_everything_again(autojump_clock: Any) -> None:
    async with open_desk() as (world, router, peer, engine):
        await peer.ask(order())
        await engine.open(await engine.receive())
        await engine.fill(A, "0.4")
        await peer.ask(order(B, action="sell", exec_mode="dark", price="150"))
        await peer.words(4)
        before = router.keepers["binance", "paper"].book.snapshot()
        killed = world.restarted()
    await trio.sleep(10)
    async with open_router(killed) as router:
        again = await killed.engine()
        assert [told["msg"] for told in again.told] == ["paper_order", "paper_account"]
        keeper = router.keepers["binance", "paper"]
        assert keeper.book.snapshot() == before
        assert B in keeper.darks
        assert keeper.not_watched is not None
        assert keeper.not_watched["held"] == 2
        async with open_peer(router) as peer:
            killed.market.trade(151.0)
            fired = await peer.receive()
            assert (fired["oid"], fired["resp"], fired["gapped"]) == (B, "triggered", False)
            sent = await again.receive()
            assert sent["oid"] == B
            killed.market.trade(152.0)
            assert await again.quiet()


async def test_no_amend_leaves_for_an_order_that_is_known_to_have_ended(
    autojump_clock: Any,
) -> None:
    async with open_desk() as (world, _, peer, engine):
        await peer.ask(order())
        sent = await engine.receive()
        await peer.ask(order(price="98", revision=1))
        await settle()
        world.disk.delay_s = 0.5
        await engine.open(sent)  # lets the amend go, once that is durable
        await engine.fill(A, "1")
        await engine.status("closed", oid=A, reqid=None, filled="1")
        await trio.sleep(3)
        assert await engine.quiet()
        words = [await peer.receive() for _ in range(7)]
        assert [word["reason"] for word in words if word["refused"]] == ["the order is closed"]
        assert words[-1]["resp"] == "closed"


@asynccontextmanager
async def open_armed_alert(world: FakeWorld, price: str) -> AsyncIterator[tuple[Router, Peer]]:
    """Yield a router that holds the alert `B` at a price, and the client that has placed it."""
    async with open_router(world) as router, open_peer(router) as peer:
        await peer.ask(order(B, action="alert", exec_mode="live", price=price))
        assert await peer.words(1) == ["dark_open"]
        yield router, peer


async def test_lost_records_fire_nothing_by_a_trade_that_was_known_before(
    autojump_clock: Any,
) -> None:
    world = FakeWorld()
    async with open_armed_alert(world, "100") as (router, peer):
        world.market.gap()
        await settle()
        assert B in router.keepers["binance", "paper"].darks
        world.market.trade(100.0)
        fired = await peer.receive()
        assert (fired["resp"], fired["gapped"]) == ("triggered", False)


async def test_a_trade_among_lost_records_fires_as_gapped(autojump_clock: Any) -> None:
    world = FakeWorld()
    async with open_armed_alert(world, "101") as (_, peer):
        world.market.last = 102.0
        world.market.gap()
        fired = await peer.receive()
        assert (fired["resp"], fired["gapped"]) == ("triggered", True)


async def test_a_trigger_crossed_while_down_fires_once_and_gapped(autojump_clock: Any) -> None:
    world = FakeWorld()
    async with open_router(world) as router, open_peer(router) as peer:
        await peer.ask(order(B, action="alert", exec_mode="live", price="150"))
        await peer.words(1)
        killed = world.restarted()
    killed.market.last = 155.0
    async with open_router(killed) as router, open_peer(router, known=(B,)) as peer:
        [status] = peer.dialogs
        assert (status["resp"], status["gapped"]) == ("closed", True)
        killed.market.trade(160.0)
        await settle()
        twice = killed.restarted()
    async with open_router(twice) as router, open_peer(router) as peer:
        assert peer.dialogs == []


async def test_a_full_disk_refuses_new_orders_and_mends(
    autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_desk() as (world, router, peer, engine):
        await peer.ask(order())
        await engine.open(await engine.receive())
        await peer.words(2)
        keeper = router.keepers["binance", "paper"]
        world.disk.bytes_max = 0
        keeper.line.journal._tail._size = keeper.line.journal._tail._offset  # the segment is full
        await peer.ask(order(B))
        words = [await peer.receive() for _ in range(2)]
        assert words[-1]["state"] == "canceled"
        assert "not recorded" in words[-1]["reason"]
        assert await engine.quiet()
        await peer.ask(order("c" * 32))
        assert "no room for the order journal" in (await peer.receive())["reason"]
        await peer.ask(Cancel(oid=A, symbol=FQME))
        assert (await engine.receive())["action"] == "cancel"
        assert router.status()["state"] == "degraded"
        world.disk.bytes_max = 1 << 40
        await trio.sleep(2)
        assert keeper.gate_state == ("ready", "")
        await peer.ask(order("d" * 32))
        assert (await engine.receive())["oid"] == "d" * 32


async def test_a_fill_that_cannot_be_recorded_does_not_happen(autojump_clock: Any) -> None:
    async with open_desk() as (world, router, peer, engine):
        await peer.ask(order())
        await engine.open(await engine.receive())
        await peer.words(2)

        def fail(operation: str, name: str) -> None:
            if name.startswith("journal-"):
                raise OSError(5, "broken")

        world.disk.on_step = fail
        await engine.fill(A, "0.4")
        await settle()
        with pytest.raises((trio.ClosedResourceError, trio.BrokenResourceError)):
            await engine.fill(A, "0.4")
        world.disk.on_step = None
        assert router.status()["state"] == "degraded"
        async with open_peer(router) as late:
            assert late.first["state"] == "no_new_risk"
            assert late.dialogs[0]["state"] == "open"
            assert late.positions == []
        killed = world.restarted()
    async with open_router(killed) as router, open_peer(router) as peer:
        assert peer.dialogs[0]["state"] == "open"


async def test_a_damaged_journal_takes_no_new_risk_until_armed(autojump_clock: Any) -> None:
    world = FakeWorld()
    async with open_router(world) as router, open_peer(router) as peer:
        for number in range(5):
            await peer.ask(order(f"{number:032x}", exec_mode="dark", price="500"))
        await peer.words(5)
        killed = world.restarted()
    name = next(name for name in killed.disk.names() if name.startswith("journal-"))
    data = bytearray(killed.disk.read(name))
    data[data.index(b"0" * 31 + b"1")] ^= 1
    killed.disk.damage(name, bytes(data))
    async with open_router(killed) as router, open_peer(router) as peer:
        assert peer.first["state"] == "no_new_risk"
        assert "is damaged" in peer.first["cause"]
        assert len(peer.dialogs) == 4
        await peer.ask(order(A))
        assert "is damaged" in (await peer.receive())["reason"]
        await peer.ask(Cancel(oid=f"{4:032x}", symbol=FQME))
        assert (await peer.receive())["resp"] == "canceled"
        router.keepers["binance", "paper"].arm()
        await settle()
        await peer.ask(order(A))
        assert (await peer.receive())["resp"] == "pending"
        again = killed.restarted()
    async with open_router(again) as router, open_peer(router) as peer:
        assert peer.first["state"] == "ready"


async def test_the_kill_switch_cancels_all_and_outlives_a_restart(autojump_clock: Any) -> None:
    async with open_desk() as (world, router, peer, engine):
        await peer.ask(order(A))
        await engine.open(await engine.receive())
        await peer.ask(order(B, exec_mode="dark", price="150"))
        await peer.words(3)
        router.named("binance.paper")[0].stop("enough")
        assert (await engine.receive())["action"] == "cancel"
        await settle()  # a cancel leaves before its record is durable
        killed = world.restarted()
    async with open_router(killed) as router, open_peer(router) as peer:
        assert peer.first["state"] == "stopped"
        await peer.ask(order("c" * 32))
        assert "enough" in (await peer.receive())["reason"]
        router.named("")[0].arm()
        await peer.ask(order("d" * 32))
        assert (await peer.receive())["resp"] == "pending"


async def test_a_long_journal_is_rotated_and_released(
    autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_keeper, "ROTATE_BYTES", 20_000)
    async with open_desk() as (world, router, peer, engine):
        for number in range(100):
            oid = f"{number:032x}"
            await peer.ask(order(oid))
            await engine.open(await engine.receive())
            await engine.fill(oid, "1")
            await engine.status("closed", oid=oid, reqid=None)
            await peer.words(4)
        await trio.sleep(1)
        keeper = router.keepers["binance", "paper"]
        assert keeper.line.journal.statistics().segments <= 2
        before = keeper.book.snapshot()
        killed = world.restarted()
    async with open_router(killed) as router:
        keeper = router.keepers["binance", "paper"]
        assert keeper.book.positions[FQME].size == 100
        keeper.book.mark_synced(keeper.book.unsynced)
        assert keeper.book.snapshot() == before
        await peer_refuses_old_oid(router)


async def peer_refuses_old_oid(router: Any) -> None:
    """An oid that the journal still knows is not entered again."""
    async with open_peer(router) as peer:
        await peer.ask(order(f"{5:032x}"))
        assert "closed already" in (await peer.receive())["reason"]


async def test_a_locked_ledger_never_stops_trading(autojump_clock: Any) -> None:
    world = FakeWorld()
    world.refuse_ledger = ServiceUnavailable("the ledger is held by process 7")
    async with open_router(world) as router, open_peer(router) as peer:
        engine = await world.engine()
        await peer.ask(order())
        await engine.open(await engine.receive())
        await engine.fill(A, "1")
        assert await peer.words(3) == ["pending", "open", "fill"]
        assert "held by process 7" in router.status()["cause"]
        world.refuse_ledger = None
        await trio.sleep(2)
        assert b"t1" in world.ledgers.read("trades_binance_paper.toml")
        assert router.status()["state"] == "ready"


async def test_a_reset_begins_the_paper_account_anew(autojump_clock: Any) -> None:
    async with open_desk() as (world, router, peer, engine):
        await peer.ask(order())
        await engine.open(await engine.receive())
        await engine.fill(A, "0.5")
        await peer.words(3)
        await router.keepers["binance", "paper"].reset(Decimal(500))
        again = await world.engine()
        [account] = again.told
        assert account["positions"] == {}
        assert account["balances"] == {"usdt": "500"}
        assert [await peer.receive() for _ in range(2)][-1]["reason"] == (
            "the paper account was reset"
        )
        await trio.sleep(2)
        assert "trades_binance_paper.toml" not in world.ledgers.names()
        killed = world.restarted()
    async with open_router(killed) as router, open_peer(router) as peer:
        assert (peer.dialogs, peer.positions) == ([], [])


async def test_a_client_finds_its_orders_again_after_a_restart(autojump_clock: Any) -> None:
    world = FakeWorld()
    async with open_router(world) as first:
        routers = [first]
        async with open_order_client(world, lambda: routers[-1]) as client:
            engine = await world.engine()
            entry = client.order("buy", "99", "1")
            await client.send(entry)
            await engine.open(await engine.receive())
            while (await client.trades.receive()).resp != "open":
                pass
            killed = world.restarted()
            async with open_router(killed) as second:
                routers.append(second)
                again = await killed.engine()
                await again.fill(entry.oid, "0.4")
                await again.status("canceled", oid=entry.oid, reqid=None)
                await settle()
                # The client's dialog with the old one ends; it was told nothing of that.
                first.sessions[0].close("killed")
                with trio.fail_after(5):
                    news = [await client.trades.receive() for _ in range(3)]
                assert [getattr(one, "resp", "position") for one in news] == [
                    "position", "fill", "canceled",
                ]  # fmt: skip
                assert client.state == "ready"
                assert client.dialogs == {}
                assert [fill.tid for fill in client.fills[entry.oid]] == ["t1"]


async def test_a_request_that_was_never_recorded_is_told_as_an_error(autojump_clock: Any) -> None:
    world = FakeWorld()
    async with open_router(world) as first:
        routers = [first]
        async with open_order_client(world, lambda: routers[-1]) as client:
            await world.engine()
            killed = world.restarted()
            async with open_router(killed) as second:
                world.disk.delay_s = 1e6
                entry = client.order("buy", "99", "1")
                await client.send(entry)
                await settle()
                routers.append(second)
                first.sessions[0].close("killed")
                with trio.fail_after(5):
                    answer = await client.trades.receive()
                assert (answer.oid, answer.resp) == (entry.oid, "error")
                assert "was not taken" in answer.reason
                world.disk.delay_s = 0.0


async def test_a_newer_dialog_of_a_client_ends_its_older_one(autojump_clock: Any) -> None:
    world = FakeWorld()
    async with open_router(world) as router, open_peer(router, client="x") as older:
        async with open_peer(router, client="x"):
            await settle()
            assert "has attached again" in older.ended
            assert len(router.sessions) == 1


async def test_orders_per_second_and_notional_are_refused_by_name(autojump_clock: Any) -> None:
    world = FakeWorld()
    limits = type(FREE)(orders_per_s=2)
    async with open_router(world, limits) as router, open_peer(router) as peer:
        await peer.ask(order(A, size="26"))
        assert "max_notional" in (await peer.receive())["reason"]
        for number in range(3):
            await peer.ask(order(f"{number:032x}", price="98"))
        words = [await peer.receive() for _ in range(3)]
        assert [word["resp"] for word in words].count("error") >= 1
        assert any("orders_per_s" in word["reason"] for word in words)


async def test_a_second_emsd_is_refused_the_journal(autojump_clock: Any) -> None:
    world = FakeWorld()
    async with open_router(world):
        world.disk.lock()
        second = FakeWorld(world.disk)
        async with open_router(second) as router:
            with pytest.raises(ConfigError, match="the order journal is held by another process"):
                await router.attach(Hello(fqme=FQME))


async def test_an_account_whose_journal_was_in_use_is_kept_later(autojump_clock: Any) -> None:
    world = FakeWorld()
    async with open_router(world) as router, open_peer(router) as peer:
        await peer.ask(order(B, exec_mode="dark", price="150"))
        await peer.words(1)
        killed = world.restarted()
    killed.disk.lock()
    async with open_router(killed) as router:
        assert "held by another process" in router.status()["cause"]
        killed.disk.unlock()
        await trio.sleep(5)
        assert router.status()["state"] == "ready"
        assert B in router.keepers["binance", "paper"].darks
        async with open_peer(router) as peer:
            killed.market.trade(151.0)
            assert (await peer.receive())["resp"] == "triggered"


async def test_a_ledger_that_is_held_for_long_never_stops_the_mending(
    autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_keeper, "ROTATE_BYTES", 2_000)
    world = FakeWorld()
    world.refuse_ledger = ServiceUnavailable("the ledger is held by process 7")
    async with open_router(world) as router, open_peer(router) as peer:
        engine = await world.engine()
        for number in range(8):
            oid = f"{number:032x}"
            await peer.ask(order(oid))
            await engine.open(await engine.receive())
            await engine.fill(oid, "1")
            await peer.words(3)
        keeper = router.keepers["binance", "paper"]
        await trio.sleep(1)
        assert keeper.line.journal.statistics().segments > 2
        assert len(keeper.book.unsynced) == 8
        world.refuse_ledger = None
        await trio.sleep(3)
        assert keeper.line.journal.statistics().segments == 1
        assert keeper.book.unsynced == []
