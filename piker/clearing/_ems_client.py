"""How a process of the run talks to `emsd`: `open_ems`, and questions about whole accounts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import tractor

from piker import clock
from piker.clearing._client import OrderClient, open_client
from piker.clearing._ems import (
    _emsd_main,
    arm_accounts,
    cancel_orders,
    describe_orders,
    maybe_open_emsd,
    reset_paper_account,
    stop_accounts,
    sync_ledger_files,
)
from piker.clearing._messages import BrokerdPosition, Mode, Status, parse_reply
from piker.clearing._order_tables import Held, TradesStream
from piker.clearing._session import Hello
from piker.clearing._stream_channel import StreamChannel
from piker.clearing._world import Channel
from piker.data.feed import raise_described
from piker.service.rpc import proof, translate_errors

Opened = tuple[OrderClient, TradesStream, Held, list[str], dict[str, dict[str, Any]]]


@asynccontextmanager
async def open_ems(
    fqme: str,
    mode: Mode = "paper",
    loglevel: str = "error",
    client_ref: str | None = None,
) -> AsyncIterator[Opened]:
    """
    Yield `(client, trades, positions, accounts, dialogs)` for a market; starts `emsd` if needed.

    `trades` yields `Status` and `BrokerdPosition` as they happen; `positions` is
    `{(broker, account): {fqme: map}}`, `dialogs` `{oid: Status map}` of every order that goes on,
    with its past `fills`; both are kept up to date. `client_ref` None sees every order of the
    market, a name only its own. Orders stay when the block ends.

    Raises:
      SymbolNotFound: the market is unknown; `.matches` has the closest names.
      EndpointMissing: live was asked for and the broker cannot trade.
      PikerError: it cannot be served; says why.
    """

    @asynccontextmanager
    async def connect(hello: Hello) -> AsyncIterator[tuple[dict[str, Any], Channel]]:
        with translate_errors("emsd"):
            async with maybe_open_emsd() as portal:
                args = msgspec.to_builtins(hello)
                args["exec_mode"] = args.pop("mode")
                async with portal.open_context(
                    _emsd_main, proof=proof(portal, _emsd_main), **args
                ) as (ctx, first):
                    if "error" in first:
                        raise_described(first["error"])
                    async with ctx.open_stream() as stream:
                        yield first, StreamChannel(stream)
                    await ctx.cancel()

    hello = Hello(fqme=fqme.lower(), mode=mode, client=clock.new_id(), client_ref=client_ref)
    async with open_client(connect, hello, clock.now_ns, clock.new_id) as opened:
        yield opened


class OrdersView(msgspec.Struct, frozen=True, kw_only=True):
    """
    Every order and position of the accounts asked for.

    `dialogs` are the newest words of the orders that go on (`ended`: of those that do not);
    `journals` has one row per account, `failed` those that could not be opened.
    """

    dialogs: list[Status]
    ended: list[Status]
    positions: Held
    accounts: list[str]
    journals: list[dict[str, Any]]
    failed: list[dict[str, Any]]


async def _ask(endpoint: Any, **args: Any) -> Any:
    """Call an endpoint of `emsd` with the run's proof."""
    with translate_errors("emsd"):
        async with maybe_open_emsd() as portal:
            return await _call(portal, endpoint, **args)


async def _call(portal: tractor.Portal, endpoint: Any, **args: Any) -> Any:
    return await portal.run(endpoint, proof=proof(portal, endpoint), **args)


async def order_book(broker: str = "", account: str = "", ended: bool = False) -> OrdersView:
    """
    Return every order and position of an account ('' all).

    Raises:
      PikerError: `emsd` cannot be asked; says why.
    """
    statuses: list[Status] = []
    positions: Held = {}
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    offset: int | None = 0
    with translate_errors("emsd"):
        async with maybe_open_emsd() as portal:
            while offset is not None:
                page = await _call(
                    portal,
                    describe_orders,
                    broker=broker,
                    account=account,
                    ended=ended,
                    offset=offset,
                )
                offset = page["next"]
                rows += page["accounts"]
                failed += page["failed"]
                for raw in page["dialogs"]:
                    status = parse_reply(raw)
                    assert isinstance(status, Status)
                    statuses.append(status)
                for raw in page["positions"]:
                    position = parse_reply(raw)
                    assert isinstance(position, BrokerdPosition)
                    key = position.broker, position.account
                    positions.setdefault(key, {})[position.symbol] = raw
    return OrdersView(
        dialogs=[status for status in statuses if not status.is_terminal],
        ended=[status for status in statuses if status.is_terminal],
        positions=positions,
        accounts=[row["name"] for row in rows],
        journals=rows,
        failed=failed,
    )


async def stop_all(account: str = "", reason: str = "") -> list[dict[str, Any]]:
    """
    Cancel every order of an account ('' all), and take no new risk until `arm`.

    Raises:
      PikerError: there is no such account, or `emsd` cannot be asked.
    """
    rows: list[dict[str, Any]] = await _ask(stop_accounts, account=account, reason=reason)
    return rows


async def arm(account: str = "") -> list[dict[str, Any]]:
    """
    Let an account ('' all) take new risk again.

    Raises:
      PikerError: there is no such account, or `emsd` cannot be asked.
    """
    rows: list[dict[str, Any]] = await _ask(arm_accounts, account=account)
    return rows


async def cancel_all(fqme: str = "", account: str = "") -> list[str]:
    """
    Ask to cancel every order of a market and account ('' all); return their oids.

    Raises:
      PikerError: there is no such account, or `emsd` cannot be asked.
    """
    oids: list[str] = await _ask(cancel_orders, fqme=fqme, account=account)
    return oids


async def reset_paper(broker: str, balance: str = "") -> dict[str, Any]:
    """
    Begin a broker's paper account anew: orders ended, no positions, `balance` of each quote asset.

    Raises:
      PikerError: the balance cannot be, or `emsd` cannot be asked.
    """
    row: dict[str, Any] = await _ask(reset_paper_account, broker=broker, balance=balance)
    return row


async def sync_ledger(broker: str, account: str = "") -> dict[str, Any]:
    """
    Bring ledger and account file up to date; return what was written and what differed.

    Raises:
      PikerError: there is no such account, or `emsd` cannot be asked.
    """
    answer: dict[str, Any] = await _ask(sync_ledger_files, broker=broker, account=account)
    return answer
