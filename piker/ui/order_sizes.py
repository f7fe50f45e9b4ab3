"""
How large the next order is, and what the trader may change about that: one account of one market.

Pure. The sizes are the allocator's (`piker.accounting`); this module keeps its settings, reads what
the trader types and says the answer as the page reads it.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

from msgspec.structs import replace

from piker.accounting import Allocator, OrderSize, Position, mk_allocator, puterize
from piker.model.market import MktPair
from piker.ui.order_lines import text_of
from piker.ui.order_messages import Account, AllocAsked, AllocState, Mode, Side, SizeAsked, Sized

SLOTS_MAX = 100  # more cells than that nobody can tell apart in the fill bar
_TENTH = Decimal("0.1")
_CENT = Decimal("0.01")


def position_of(mkt: MktPair, account: str, size: Decimal, average: Decimal) -> Position:
    """Return what an account holds, as far as sizes depend on it."""
    return Position(
        broker=mkt.broker, account=account, market=mkt.fqme, fqme=mkt.fqme,
        size=size, basis=size * average,
    )  # fmt: skip


class Sizer:
    """The allocator of one account on one market, with what it held when the session began."""

    def __init__(self, mkt: MktPair, account: str) -> None:
        self._mkt = mkt
        self._allocator = mk_allocator(mkt, account=account)
        self._startup: Position | None = None
        self.held = position_of(mkt, account, Decimal(0), Decimal(0))

    @property
    def slots(self) -> int:
        """How many slots the limit is cut into."""
        return self._allocator.slots

    def hold(self, position: Position) -> bool:
        """Take the newest position; True when it has raised the limit, which is never below it."""
        self.held = position
        if self._startup is None:
            self._startup = position
        if self._worth() <= self._limit():
            return False
        tick = _CENT if self._is_currency else self._mkt.size_tick or Decimal(1)
        raised = self._worth().quantize(tick, rounding=ROUND_CEILING)
        self._allocator = replace(self._allocator, **{self._limit_name: raised})
        return True

    def change(self, asked: AllocAsked) -> None:
        """
        Take what the trader has changed.

        Raises:
          ValueError: a limit below what is held, or not a number above 0; too many slots or none.
        """
        changed = self._allocator
        if asked.unit is not None and asked.unit != changed.size_unit:
            changed = replace(changed, size_unit=asked.unit)
        if asked.slots is not None:
            if not 1 <= asked.slots <= SLOTS_MAX:
                raise ValueError(f"slots: was {asked.slots}, expected 1 to {SLOTS_MAX}")
            changed = replace(changed, slots=asked.slots)
        if asked.limit is not None:
            name = f"{changed.size_unit}_limit"
            changed = replace(changed, **{name: _amount(asked.limit)})
        before, self._allocator = self._allocator, changed
        if self._worth() > self._limit():
            self._allocator = before
            if asked.limit is None:  # another unit, whose limit may be below the position
                self._allocator = changed
                self.hold(self.held)
                return
            raise ValueError(
                f"limit: was {asked.limit}, expected at least {text_of(self._worth())}, "
                "which is held"
            )

    def size(self, asked: SizeAsked) -> Sized:
        """Return what an order of some slots would be at a price; says why when it is none."""
        answer = Sized(asked.id, asked.chan, asked.side, asked.price, asked.steps, "", "", "")
        try:
            price = _amount(asked.price, "price")
        except ValueError as err:
            return replace(answer, text=str(err))
        size, share = self.size_at(asked.side, price, asked.steps)
        if not size:
            return replace(answer, text=self._why_none(price))
        return replace(
            answer,
            size=text_of(size),
            fiat=text_of(round(size * price, 2)),
            share=text_of(share) if share % 1 else f"{share:.1f}",
        )

    def size_at(self, side: Side, price: Decimal, steps: int = 1) -> tuple[Decimal, Decimal]:
        """Return an order's size and how many slots it fills: `steps` slots, or what is left."""
        steps = min(max(steps, 1), SLOTS_MAX)
        one = self._ask(self._allocator, side, price)
        if steps == 1 or not one.size:
            return one.size, round(one.slots_used, 2)
        held = self.held.size
        full = self._slot_at(price)
        if held and (held > 0) is not (side == "buy"):
            size = min(one.size * steps, abs(held))
        else:
            left = self._ask(replace(self._allocator, slots=1), side, price).size
            size = min(self._mkt.quantize(full * steps), left)
        return size, round(size / full, 1)

    def _ask(self, allocator: Allocator, side: Side, price: Decimal) -> OrderSize:
        return allocator.next_order_info(self._startup or self.held, self.held, price, side)

    def _slot_at(self, price: Decimal) -> Decimal:
        units, currency = self._allocator.step_sizes()
        return currency / price if self._is_currency else units

    def _why_none(self, price: Decimal) -> str:
        left = self._limit() - self._worth()
        if left <= 0:
            return "the limit is used up; raise it in the order pane"
        return f"a slot at {text_of(price)} is less than {self._mkt.size_tick}, the smallest size"

    # ---- what the order pane shows

    def state(
        self, chan: int, id: int, accounts: list[Account], mode: Mode,
        price: Decimal | None,
    ) -> AllocState:  # fmt: skip
        """Return the order pane's record; a slot is told at the last price, when there is one."""
        units, currency = self._allocator.step_sizes()
        if self._is_currency:
            step = self._mkt.quantize(currency / price) if price else None
            worth: Decimal | None = currency
        else:
            step, worth = self._mkt.quantize(units), units * price if price else None
        return AllocState(
            chan=chan,
            id=id,
            account=self._allocator.account,
            mode=mode,
            accounts=accounts,
            unit=self._allocator.size_unit,
            limit=text_of(self._limit()),
            slots=self._allocator.slots,
            step=text_of(step),
            step_fiat=text_of(round(worth, 2)) if worth is not None else "",
            used=self.used(),
            base=str(self._mkt.dst).upper(),
            quote=str(self._mkt.src).upper(),
        )

    def used(self) -> str:
        """Return how many slots the position fills, to one decimal."""
        share = self._worth() / self._limit() * self._allocator.slots
        return format(share.quantize(_TENTH), "f")

    @property
    def _is_currency(self) -> bool:
        return self._allocator.size_unit == "currency"

    @property
    def _limit_name(self) -> str:
        return f"{self._allocator.size_unit}_limit"

    def _limit(self) -> Decimal:
        limit: Decimal = getattr(self._allocator, self._limit_name)
        return limit

    def _worth(self) -> Decimal:
        """Return what is held, in what the limit counts; without its sign."""
        size = abs(self.held.size)
        return abs(size * self.held.ppu) if self._is_currency else size


def _amount(text: str, name: str = "limit") -> Decimal:
    """
    Return what the trader typed, `1.5k` included.

    Raises:
      ValueError: not a number above 0; names the field.
    """
    cleaned = text.strip().replace("\u2009", "").replace(",", "")
    try:
        amount = puterize(cleaned)
    except ValueError:
        expected = "expected a number such as 6000 or 1.5k"
        raise ValueError(f"{name}: was {text[:40]!r}, {expected}") from None
    if not 0 < amount < 10**15:
        raise ValueError(f"{name}: was {text[:40]}, expected more than 0")
    return amount
