"""
The allocator: how large the next order is, in slots of a limit.

A limit, in currency or in units, is cut into slots. An entry takes one slot, or what is left of
the limit; an exit takes one slot in the units of the position, so that a gain or a loss does not
change in how many steps it is left. The limits are advice: what refuses an order is the risk gate.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Literal

import msgspec

from piker.accounting._ledger import ZERO
from piker.accounting._position import CONTEXT, Position
from piker.model.market import MktPair

SizeUnit = Literal["currency", "units"]

LIMIT = Decimal(6000)
SLOTS = 6
BACK_LOAD = Decimal("1.5")  # a rest below so many slots goes out in one order

# One contract of these moves more than a limit in currency says, so they are sized by units.
DERIVATIVES = frozenset(
    {
        "future", "continuous_future", "option", "futures_option", "perpetual_future",
        "crypto_future", "swap", "cfd", "warrant",
    }
)  # fmt: skip


class OrderSize(msgspec.Struct, frozen=True):
    """
    What an order should be: `size` is absolute, `size_digits` its market's decimals.

    `fiat_size` is its worth at the order's price in the quote currency, to the cent. `slots_used`
    is 1 for a full slot or more, else the share of a slot.
    """

    size: Decimal
    size_digits: int
    fiat_size: Decimal
    slots_used: Decimal
    account: str


class Allocator(msgspec.Struct, frozen=True, kw_only=True):
    """
    The limits of one account on one market: in all `units_limit` or `currency_limit`, in `slots`.

    `size_unit` says which of the two limits counts.
    """

    mkt: MktPair
    account: str = "paper"
    size_unit: SizeUnit = "currency"
    units_limit: Decimal = LIMIT
    currency_limit: Decimal = LIMIT
    slots: int = SLOTS

    def __post_init__(self) -> None:
        """
        Refuse limits that no order can be sized by.

        Raises:
          ValueError: a limit or the number of slots is not a positive number.
        """
        for name in ("units_limit", "currency_limit", "slots"):
            value = Decimal(getattr(self, name))
            if not value.is_finite() or value <= 0:
                raise ValueError(f"allocator: {name} was {value}, expected more than 0")

    def step_sizes(self) -> tuple[Decimal, Decimal]:
        """Return a slot in units and a slot in currency."""
        return (
            CONTEXT.divide(self.units_limit, Decimal(self.slots)),
            CONTEXT.divide(self.currency_limit, Decimal(self.slots)),
        )

    def slots_used(self, position: Position) -> int:
        """Return how many slots a position fills, to the nearest whole one."""
        size = abs(position.size)
        with localcontext(CONTEXT):
            if self.size_unit == "currency":
                share = size * position.ppu / self.currency_limit
            else:
                share = size / self.units_limit
            return round(share * self.slots)

    def next_order_info(
        self,
        startup_pp: Position,
        live_pp: Position,
        price: Decimal,
        action: Literal["buy", "sell"],
    ) -> OrderSize:
        """
        Return the size of an order at `price`, given the position now and when the session began.

        An order against the position is an exit and never larger than it; any other is an entry.

        Raises:
          ValueError: `price` is not a positive number, or `action` neither buy nor sell.
        """
        if not price.is_finite() or price <= 0:
            raise ValueError(f"allocator: price was {price}, expected more than 0")
        if action not in ("buy", "sell"):
            raise ValueError(f"allocator: action was {action!r}, expected 'buy' or 'sell'")
        is_entry = not live_pp.size or (live_pp.size > 0) is (action == "buy")
        with localcontext(CONTEXT):
            if is_entry:
                slot = self._slot(price)
                size = min(slot, self._left(live_pp, price))
            else:
                slot = self._slot(live_pp.ppu)
                size = self._exit(abs(startup_pp.size), abs(live_pp.size), slot)
            size = self.mkt.quantize(size)
            return OrderSize(
                size=size,
                size_digits=self.mkt.size_tick_digits,
                fiat_size=round(size * price, 2),
                slots_used=min(Decimal(1), round(size / slot, 2)),
                account=self.account,
            )

    def _slot(self, price: Decimal) -> Decimal:
        """Return one slot in units, at `price` where the limit is in currency."""
        units, currency = self.step_sizes()
        # Fees can take the price per unit of a short to 0 or below: then there is no price to use.
        return currency / price if self.size_unit == "currency" and price > 0 else units

    def _left(self, live: Position, price: Decimal) -> Decimal:
        """Return what is left of the limit, in units at `price`."""
        if self.size_unit == "currency":
            return max((self.currency_limit - abs(live.size) * live.ppu) / price, ZERO)
        return max(self.units_limit - abs(live.size), ZERO)

    def _exit(self, startup: Decimal, live: Decimal, slot: Decimal) -> Decimal:
        """Return one step out of `live`, or all of it when little would be left for a last one."""
        is_rest = live < slot or slot < live < self.mkt.quantize(BACK_LOAD * slot)
        is_last_unit = self.mkt.size_tick_digits == 0 and live == 1
        if is_rest or is_last_unit:
            return live
        return min(live, max(max(startup, live) / self.slots, slot))


def mk_allocator(
    mkt: MktPair,
    *,
    account: str = "paper",
    limit: Decimal = LIMIT,
    slots: int = SLOTS,
) -> Allocator:
    """
    Return the allocator of a market: `limit` of its quote currency in `slots`.

    A derivative is sized by units instead, one a slot, whatever `limit` says.
    """
    if mkt.type_key in DERIVATIVES:
        return Allocator(
            mkt=mkt, account=account, size_unit="units", units_limit=Decimal(slots), slots=slots
        )
    return Allocator(mkt=mkt, account=account, currency_limit=limit, slots=slots)
