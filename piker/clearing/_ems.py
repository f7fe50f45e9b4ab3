"""
`emsd`: takes orders, keeps them through every death, and routes them to paper or a live broker.

The heart is `Router`, which knows no actors; here are the daemon, its endpoints, and the one place
that opens trade dialogs. Orders clear, triggers fire and fills are booked with no client attached.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import tractor
import trio

from piker.brokers import get_brokermod
from piker.brokers._daemon import maybe_spawn_brokerd
from piker.clearing._stream_channel import StreamChannel
from piker.config import settings
from piker.data._feed_bus import describe_error
from piker.data.validate import get_eps
from piker.errors import EndpointMissing, PikerError, ServiceUnavailable
from piker.log import get_logger, setup_actor_logging
from piker.service.rpc import actor_name, endpoint, proof, serve_until_cancelled, translate_errors
from piker.service.supervise import DaemonSpec, ensure, maybe_spawn_daemon, open_supervisor

if TYPE_CHECKING:
    from piker.clearing._keeper import AccountKeeper
    from piker.clearing._messages import Mode
    from piker.clearing._router import Router
    from piker.clearing._world import Channel

# What only an `emsd` or its client needs is imported where it is used: `pikerd` imports this
# module for `spawn_emsd` alone, and everything below costs it a tenth of a second.

log = get_logger(__name__)

PAGE_ITEMS = 128  # of an answer about everything: below what a message may hold
HANG_S = 10.0  # the order path is given longer than other daemons before it is killed
READY_S = 60.0  # to read a long journal on a slow disk
GRACE_S = 2.5  # to end its children and leave whole files behind

_router: Router | None = None


def get_router() -> Router:
    """Return this actor's router; made by the lifetime fixture."""
    assert _router is not None, "no router: this actor is no emsd"
    return _router


@endpoint(only=("emsd",), proven=True)
@tractor.context
async def _setup_persistent_emsd(ctx: tractor.Context, loglevel: str | None = None) -> None:
    from piker.clearing._actor_world import ActorWorld
    from piker.clearing._router import Router

    global _router
    setup_actor_logging(actor_name(), loglevel)
    found = settings()
    async with trio.open_nursery() as nursery, open_supervisor(nursery):
        _router = Router(ActorWorld(open_broker), found.clearing, found.paper)
        await nursery.start(_router.run)
        await ctx.started()
        await serve_until_cancelled(ctx, _router.status)
        nursery.cancel_scope.cancel()


def emsd_init(loglevel: str | None = None) -> DaemonSpec:
    """Return how `emsd` is started: its name and the modules it serves."""
    return DaemonSpec(
        name="emsd",
        kind="emsd",
        modules=["piker.clearing._ems"],
        target=_setup_persistent_emsd,
        kwargs={"loglevel": loglevel},
        policy="permanent",
        hang_s=HANG_S,
        grace_s=GRACE_S,
        ready_s=READY_S,
    )


@endpoint(only=("pikerd",))
async def spawn_emsd(loglevel: str | None = None) -> list[Any]:
    """Start `emsd` unless it runs and return its address; runs in `pikerd`."""
    return list(await ensure(emsd_init(loglevel)))


@asynccontextmanager
async def maybe_open_emsd(loglevel: str | None = None) -> AsyncIterator[tractor.Portal]:
    """
    Yield a portal to the run's `emsd`, started when it does not run.

    Raises:
      ServiceUnavailable: it does not start; says why.
    """
    async with maybe_spawn_daemon("emsd", spawn_emsd, {"loglevel": loglevel}) as portal:
        yield portal


# ---- trade dialogs ----


class BrokerdDialog(NamedTuple):
    """An open trade dialog."""

    ctx: tractor.Context
    positions: list[dict[str, Any]]
    accounts: list[str]
    stream: tractor.MsgStream
    is_paper: bool


@asynccontextmanager
async def _maybe_boot_brokerd(
    brokername: str, portal: tractor.Portal | None, loglevel: str | None
) -> AsyncIterator[tractor.Portal]:
    if portal is not None:
        yield portal
        return
    async with maybe_spawn_brokerd(brokername, loglevel) as booted:
        yield booted


@asynccontextmanager
async def open_brokerd_dialog(
    brokermod: ModuleType,
    exec_mode: str,
    fqme: str | None = None,
    portal: tractor.Portal | None = None,
    loglevel: str | None = None,
    *,
    orders: bool = True,
) -> AsyncIterator[BrokerdDialog]:
    """
    Yield a trade dialog: with the broker when it can and shall trade live, else on paper.

    A paper dialog starts no brokerd; a live one uses `portal` when there is one. Asked for `live`,
    a broker that turns out to trade on paper only is an error: nobody is served by paper unasked.
    Without `orders` the dialog only reads: it places, cancels and closes nothing.

    Raises:
      ServiceUnavailable: the daemon does not start, or has no live account; says why.
      PikerError: two accounts are alike, or a position belongs to none of them.
    """
    from piker.clearing._paper_engine import open_paperboi

    broker: str = brokermod.name
    trade_ep = get_eps(brokermod, "brokerd").get("open_trade_dialog")
    if trade_ep is None and exec_mode != "paper":
        log.warning("%s cannot trade live: served on paper", broker)
    if trade_ep is None or exec_mode == "paper":
        async with open_paperboi(fqme, broker, loglevel) as (ctx, first, stream):
            positions, accounts = _checked(broker, first)
            yield BrokerdDialog(ctx, positions, accounts, stream, True)
        return
    with translate_errors(f"brokerd.{broker}"):
        async with (
            _maybe_boot_brokerd(broker, portal, loglevel) as booted,
            booted.open_context(
                trade_ep, proof=proof(booted, trade_ep), **({} if orders else {"orders": False})
            ) as (ctx, first),
        ):
            if first == "paper":
                raise ServiceUnavailable(f"{broker} offers no live account: use paper mode")
            positions, accounts = _checked(broker, first)
            async with ctx.open_stream() as stream:
                yield BrokerdDialog(ctx, positions, accounts, stream, False)
            await ctx.cancel()


def _checked(broker: str, first: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """
    Return `(positions, accounts)` of a broker's first answer.

    Raises:
      PikerError: two accounts are alike, or a position belongs to none of them.
    """
    positions, accounts = first
    accounts = [str(account) for account in accounts]
    if len(set(accounts)) != len(accounts):
        raise PikerError(f"{broker}: accounts were {accounts}, expected no two alike")
    for position in positions:
        if position.get("account") not in accounts:
            raise PikerError(
                f"{broker}: a position of account {position.get('account')!r},"
                f" expected one of {', '.join(accounts)}"
            )
    return list(positions), accounts


@asynccontextmanager
async def open_broker(
    broker: str, mode: Mode, account: str, fqme: str
) -> AsyncIterator[tuple[Any, Channel]]:
    """
    Open the trade dialog of a router's relay.

    Raises:
      EndpointMissing: a live dialog with a broker that cannot trade.
      PikerError: it does not open; says why.
    """
    mod = get_brokermod(broker)
    if mode == "live" and "open_trade_dialog" not in get_eps(mod, "brokerd"):
        raise EndpointMissing(f"{broker} is data-only: use paper mode")
    async with open_brokerd_dialog(mod, mode, fqme=fqme) as dialog:
        yield (dialog.positions, dialog.accounts), StreamChannel(dialog.stream)


# ---- clients ----


@endpoint(only=("emsd",), proven=True)
@tractor.context
async def _emsd_main(
    ctx: tractor.Context,
    fqme: str,
    exec_mode: str,
    client: str = "",
    client_ref: str | None = None,
    known: list[str] | None = None,
    loglevel: str | None = None,
) -> None:
    """
    Serve one order client: see `Session` for what travels.

    A request that cannot be served is answered with `started({'error': {...}})`, as by a feed.
    """
    from piker.clearing._session import Hello

    router = get_router()
    if loglevel:
        setup_actor_logging(actor_name(), loglevel)
    try:
        if exec_mode not in ("paper", "live"):
            raise PikerError(f"mode: was {exec_mode!r}, expected paper or live")
        hello = Hello(
            fqme=str(fqme),
            mode="live" if exec_mode == "live" else "paper",
            client=str(client)[:64],
            client_ref=client_ref,
            known=tuple(str(oid) for oid in known or ()),
        )
        session = await router.attach(hello)
    except PikerError as error:
        await ctx.started({"error": describe_error(error)})
        return
    try:
        await ctx.started(session.first)
        async with ctx.open_stream() as stream:
            await router.serve(session, StreamChannel(stream))
    finally:
        session.on_leave()


# ---- whole accounts ----


@endpoint(only=("emsd",), proven=True)
async def describe_orders(
    broker: str = "", account: str = "", ended: bool = False, offset: int = 0
) -> dict[str, Any]:
    """Return a page of every order and position, and how each account stands."""
    from piker.clearing._session import facts_of

    router = get_router()
    await router.wait_recovered()
    keepers = [
        keeper
        for keeper in router.keepers.values()
        if account in ("", keeper.name, keeper.account) and broker in ("", keeper.broker)
    ]
    rows = [
        facts_of(dialog, keeper.told.orders[dialog.oid]).to_dict()
        for keeper in keepers
        for dialog in (keeper.book.dialogs if ended else keeper.book.active())
        if dialog.oid in keeper.told.orders
    ]
    page = rows[offset : offset + PAGE_ITEMS]
    first = offset == 0
    return {
        "dialogs": page,
        "next": offset + PAGE_ITEMS if offset + PAGE_ITEMS < len(rows) else None,
        "positions": [p.to_dict() for k in keepers for p in k.told.positions()] if first else [],
        "accounts": [_account_row(keeper) for keeper in keepers] if first else [],
        "failed": [
            {"broker": name, "account": failed, "cause": cause}
            for (name, failed), cause in router.failed.items()
        ]
        if first
        else [],
    }


def _account_row(keeper: AccountKeeper) -> dict[str, Any]:
    state, cause = keeper.gate_state
    found = keeper.book.dialogs.statistics()
    watch = keeper.not_watched
    return {
        "broker": keeper.broker,
        "account": keeper.account,
        "name": keeper.name,
        "mode": keeper.book.mode,
        "state": state,
        "cause": cause,
        "held": keeper.book.held(),
        "unknown": found["unknown_outcome"],
        "stopped": bool(keeper.book.stopped),
        "since_ns": keeper.book.stopped_ns,
        "unwatched": [watch["from_ns"], watch["to_ns"]] if watch else None,
        "unwatched_held": watch["held"] if watch else 0,
        "ledger": keeper.ledger.cause,
        "balances": {asset: str(amount) for asset, amount in keeper.balances().items()}
        if keeper.account == "paper"
        else {},
    }


@endpoint(only=("emsd",), proven=True)
async def stop_accounts(account: str = "", reason: str = "") -> list[dict[str, Any]]:
    """Cancel every order of an account ('' all) and take no new risk until it is armed."""
    router = get_router()
    await router.wait_recovered()
    rows = []
    for keeper in router.named(account):
        cancelled = keeper.stop(reason)
        rows.append(_switch_row(keeper, cancelled))
    return rows


@endpoint(only=("emsd",), proven=True)
async def arm_accounts(account: str = "") -> list[dict[str, Any]]:
    """Let an account ('' all) take new risk again."""
    router = get_router()
    await router.wait_recovered()
    rows = []
    for keeper in router.named(account):
        keeper.arm()
        rows.append(_switch_row(keeper, 0))
    return rows


def _switch_row(keeper: AccountKeeper, cancelled: int) -> dict[str, Any]:
    return {
        "broker": keeper.broker,
        "account": keeper.account,
        "mode": keeper.book.mode,
        "state": "stopped" if keeper.book.stopped else "armed",
        "cancelled": cancelled,
        "since_ns": keeper.book.stopped_ns,
    }


@endpoint(only=("emsd",), proven=True)
async def cancel_orders(fqme: str = "", account: str = "") -> list[str]:
    """Ask to cancel every order of a market and account ('' all); return their oids."""
    router = get_router()
    await router.wait_recovered()
    return [oid for keeper in router.named(account) for oid in await keeper.cancel_all(fqme)]


@endpoint(only=("emsd",), proven=True)
async def reset_paper_account(broker: str, balance: str = "") -> dict[str, Any]:
    """Begin a broker's paper account anew, with `balance` of each quote asset."""
    from piker.clearing._messages import exact

    get_brokermod(broker)
    router = get_router()
    await router.wait_recovered()
    try:
        amount = exact("balance", balance) if balance else router.paper.start_balance
    except ValueError as error:
        raise PikerError(str(error)) from None
    if amount < Decimal(0):
        raise PikerError(f"balance: was {amount}, expected 0 or more")
    keeper = await router.paper_keeper(broker)
    await keeper.reset(amount)
    return _account_row(keeper)


@endpoint(only=("emsd",), proven=True)
async def sync_ledger_files(broker: str, account: str) -> dict[str, Any]:
    """Bring an account's ledger and account file up to date; return what was written."""
    router = get_router()
    await router.wait_recovered()
    written, differences = 0, []
    for keeper in router.named(account or "", broker):
        count, said = await keeper.ledger.sync()
        written += count
        differences += said
    return {"written": written, "differences": differences, "state": ""}
