"""
A small backend that can trade: binance's data endpoints, and a venue inside its own brokerd.

`open_test_pikerd(backends={"binance": "trading_backend"})` has it stand for binance in one run.
Market orders fill at once at their price, or at 100; limits rest until amended or cancelled. The
book lives as long as the process. Its accounts are those of `[binance.accounts]`; without any it
says `paper`, as a backend without credentials does.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import tractor

from piker import clock, config
from piker.accounting import Transaction
from piker.brokers import binance
from piker.brokers.binance import get_client, get_mkt_info, open_history_client, stream_quotes
from piker.clearing._messages import (
    BrokerdCancel,
    BrokerdError,
    BrokerdFill,
    BrokerdOrder,
    BrokerdOrderAck,
    BrokerdStatus,
    Message,
    Order,
    Status,
    parse_intent,
)
from piker.service.rpc import endpoint

__all__ = [
    "get_client",
    "get_mkt_info",
    "open_history_client",
    "stream_quotes",
]

BROKER = "binance"
_datad_mods: list[str] = []  # this file is enough
_brokerd_mods = None

_resting: dict[str, BrokerdOrder] = {}
_trades = 0


@endpoint(only=("datad",))
@tractor.context
async def open_symbol_search(ctx: tractor.Context) -> None:
    await binance.open_symbol_search(ctx)


@endpoint(only=("brokerd", "adhoc"), proven=True)
@tractor.context
async def open_trade_dialog(
    ctx: tractor.Context, orders: bool = True, loglevel: str | None = None
) -> None:
    labels = (config.broker_settings(BROKER).get("accounts") or {}).keys()
    if not labels:
        await ctx.started("paper")
        return
    await ctx.started(([], [f"{BROKER}.{label}" for label in labels]))
    async with ctx.open_stream() as stream:
        for order in _resting.values():
            await stream.send(announced(order).to_dict())
        async for raw in stream:
            request = parse_intent(raw)
            if not orders:
                answers: list[Message] = [BrokerdError(reason="this dialog only reads")]
            elif isinstance(request, BrokerdCancel):
                answers = cancelled(request)
            elif isinstance(request, BrokerdOrder):
                answers = placed(request)
            else:
                answers = []
            for answer in answers:
                await stream.send(answer.to_dict())


@endpoint(only=("brokerd", "adhoc"))
async def get_resting_orders() -> list[str]:
    """Return the client ids of the orders that this venue holds, which is its truth."""
    return list(_resting)


async def helper() -> str:
    """Not an endpoint: must not be callable."""
    return "secret"


def announced(order: BrokerdOrder) -> Status:
    now_ns = clock.now_ns()
    req = Order(
        action=order.action,
        exec_mode="live",
        oid=order.oid,
        symbol=order.symbol,
        account=order.account,
        price=order.price,
        size=order.size,
    )
    return Status(
        time_ns=now_ns,
        oid=order.oid,
        resp="open",
        reqid=order.reqid,
        req=req,
        src=BROKER,
        account=order.account,
        mode="live",
    )


def placed(order: BrokerdOrder) -> list[Message]:
    global _trades
    if order.reqid is not None and str(order.reqid) not in _resting:
        reason = f"reqid: was {order.reqid}, expected an order that rests here"
        return [BrokerdError(reason=reason, oid=order.oid, request="amend", number=order.number)]
    reqid = str(order.reqid or order.client_id or order.oid)
    found = msgspec.structs.replace(order, reqid=reqid)
    ack = BrokerdOrderAck(reqid=reqid, oid=order.oid, account=order.account, number=order.number)
    opened = told(found, "open", remaining=order.size)
    if order.order_type != "market":
        _resting[reqid] = found
        return [ack, opened]
    _trades += 1
    fill = BrokerdFill(
        time_ns=clock.now_ns(),
        broker_time=clock.now_s(),
        reqid=reqid,
        size=order.size,
        price=order.price or Decimal(100),
        action=order.action,
        tid=str(_trades),
        fee=Decimal("0.1"),
        fee_asset="USDT",
        is_maker=False,
        oid=order.oid,
        account=order.account,
        symbol=order.symbol,
    )
    return [ack, opened, fill, told(found, "closed", filled=order.size)]


def cancelled(request: BrokerdCancel) -> list[Message]:
    order = _resting.pop(str(request.reqid or request.client_id), None)
    if order is None:
        reason = f"reqid: was {request.reqid}, expected an order that rests here"
        return [BrokerdError(reason=reason, oid=request.oid, request="cancel")]
    return [told(order, "canceled", remaining=order.size)]


def told(order: BrokerdOrder, status: str, **sizes: Decimal) -> BrokerdStatus:
    return BrokerdStatus(
        time_ns=clock.now_ns(),
        reqid=order.reqid,
        status=status,
        oid=order.oid,
        account=order.account,
        number=order.number,
        broker_details={"name": BROKER},
        **sizes,
    )


def norm_trade(
    tid: str, record: dict[str, Any], pairs: dict[str, Any], symcache: Any = None
) -> Transaction | None:
    """Return a record of this venue's history as a transaction; they are kept in our own form."""
    return msgspec.convert({"tid": tid} | record, Transaction)
