"""
How a position is closed from the page: its exits first, then one order for what is left.

An exit that still worked could fill beside the closing order, and turn the position around.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from piker import clock
from piker.clearing import Order
from piker.ui.order_market import MarketOrders, mode_of
from piker.ui.order_requests import closing_order

WITHIN_S: Final = 5.0  # for the exits to be cancelled, and for the position to be closed


async def close_position(
    market: MarketOrders,
    account: str,
    cancel: Callable[[str], None],
    enter: Callable[[Order], None],
) -> None:
    """
    Cancel every exit of a position, wait for their ends, then close what is left, and see it gone.

    Raises:
      ValueError: nothing is held any more, or an exit does not end; nothing was sent then.
    """
    for oid in _exits(market, account):
        cancel(oid)
    await _wait_until(market, lambda: not _exits(market, account))
    if left := _exits(market, account):
        raise ValueError(f"not closed: {len(left)} exits are not cancelled yet")
    held = market.held(account)
    if not held:
        raise ValueError("an exit was filled meanwhile: nothing is held")
    enter(closing_order(clock.new_id(), market.mkt, account, held))
    await _wait_until(market, lambda: not market.held(account))


async def _wait_until(market: MarketOrders, holds: Callable[[], bool]) -> None:
    with trio.move_on_after(WITHIN_S):
        while not holds():
            await market.changed.wait()


def _exits(market: MarketOrders, account: str) -> list[str]:
    """Return the oids of the orders that would reduce what an account holds."""
    side = "sell" if market.held(account) > 0 else "buy"
    working = market.lines[mode_of(account)].working(account)
    return [line.asked.oid for line in working if line.asked.action == side]
