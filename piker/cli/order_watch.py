"""
What a command hears of its orders: it listens, prints, and judges whether that was what was asked.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any

import typer

from piker.clearing import Status
from piker.cli.boundary import most_telling
from piker.cli.client import ANSWER_MAX_S, Rows, ask
from piker.cli.order_rows import OID_SHOWN, Heard, shown, text
from piker.cli.table import print_rows
from piker.errors import OrderRejected, ServiceUnavailable


def run_order(
    ctx: typer.Context,
    work: Callable[[], Awaitable[Rows]],
    heard: Heard,
    doing: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Do `work` in the run, print its row; an interrupt says what stays behind."""
    try:
        rows = ask(ctx, work, [], doing, ANSWER_MAX_S + timeout)
    except BaseException as err:
        if heard.order and isinstance(most_telling(err), KeyboardInterrupt):
            print(f"piker: {describe(heard)}; it stays as it is", file=sys.stderr)
        raise
    print_orders(rows, as_json)


def print_orders(rows: Rows, as_json: bool, title: str = "") -> None:
    """Print rows of orders or positions."""
    if as_json:
        print_rows(rows, as_json=True)
        return
    local = {row["fqme"].rpartition(".")[2]: row["local"] for row in rows if "local" in row}
    for name in sorted(set(local.values())):
        print(f"LOCAL venue {name}")
    print_rows(shown(rows, local), as_json=False, title=title)


async def listen(trades: AsyncIterable[Any], heard: Heard, is_enough: Callable[[], bool]) -> None:
    """Count in what is said about the order until it is enough."""
    assert heard.order is not None
    async for told in trades:
        if isinstance(told, Status) and heard.is_about(told):
            heard.take(told)
            if is_enough() or told.refused:
                return


def describe(heard: Heard) -> str:
    """Return in a few words which order it is and how it stands."""
    assert heard.order is not None
    state = heard.status.state or heard.status.resp if heard.status else "without an answer"
    filled = f", {text(heard.filled)} of {text(heard.order.size)} filled" if heard.filled else ""
    return f"order {heard.order.oid[:OID_SHOWN]} is {state}{filled}"


def judge(heard: Heard, waits_for_end: bool, timeout: float) -> None:
    """
    Return when the order did what was asked.

    Raises:
      OrderRejected: it was refused, or ended without a fill.
      ServiceUnavailable: it is not known yet what became of it, or it has not filled.
    """
    status, order = heard.status, heard.order
    assert order is not None
    short = order.oid[:OID_SHOWN]
    if status is None or not heard.has_word:
        raise ServiceUnavailable(
            f"order {short}: no answer within {timeout:g} s; `piker orders` says what became of it"
        )
    if status.resp == "error" or status.refused:
        raise OrderRejected(status.reason or f"order {short}: refused", oid=order.oid)
    if waits_for_end and not heard.has_ended:
        raise ServiceUnavailable(
            f"{describe(heard)} after {timeout:g} s; `piker cancel {short}` takes it back"
        )
    if waits_for_end and not heard.filled and not order.is_alert:
        why = f": {status.reason}" if status.reason else ""
        raise OrderRejected(f"order {short}: ended without a fill{why}", oid=order.oid)
