"""
An account as tables: positions, profit and fees, lots, fills and orders, as rows of plain values.

Amounts are decimal strings, times ISO 8601 in UTC; a value that is not known is None. `since`
narrows fills, orders and what was made, never what is held. Nothing here reads a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, localcontext
from typing import Any

import msgspec

from piker.accounting._ledger import ZERO, Transaction, iter_by_dt
from piker.accounting._lots import Method, fold_lots
from piker.accounting._pnl import humanize
from piker.accounting._position import CONTEXT, Position, fold
from piker.accounting._tables import Unexplained
from piker.model.market import plain_text

Row = dict[str, Any]

PRICE_DIGITS = 12  # of a quotient; what a market trades at has fewer
SHORT_DIGITS = 4
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Holdings(msgspec.Struct, frozen=True, kw_only=True):
    """One account: its transactions in order, and what a file says that they do not explain."""

    broker: str
    account: str
    transactions: tuple[Transaction, ...] = ()
    unexplained: tuple[Unexplained, ...] = ()
    behind: int = 0  # fills that the journal has and the ledger file lacks

    @property
    def name(self) -> str:
        """The account as a person types it: `<broker>.<account>`."""
        prefix = f"{self.broker}."
        return self.account if self.account.startswith(prefix) else prefix + self.account

    def positions(self) -> list[Position]:
        """Return the positions, flat ones too, by fqme."""
        return sorted(fold(self.transactions).values(), key=lambda position: position.fqme)


# ---- words


def plain(value: Decimal | None) -> str | None:
    """Return a number with its digits and without an exponent; None stays None."""
    if value is None:
        return None
    if value.is_nan():
        return "NaN"
    return plain_text(value)


def price(value: Decimal) -> str:
    """Return a quotient with the digits that mean something."""
    with localcontext(CONTEXT):
        return plain(round(value, PRICE_DIGITS)) or "0"


def short(value: Decimal) -> str:
    """Return a number as a person scans it: `1.5k`, and below 1 with the digits that count."""
    if not value or abs(value) >= 1:
        return humanize(value)
    return plain(Context(prec=SHORT_DIGITS).plus(value)) or "0"


def stamp(moment: datetime) -> str:
    """Return a moment as ISO 8601 in UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_since(text: str, now: datetime) -> datetime:
    """
    Return a moment written as a date, a date and time, or how long ago: `7d`, `12h`, `90m`.

    Raises:
      ValueError: it is none of these.
    """
    number, unit = text[:-1], text[-1:]
    if unit in UNITS and number.isdecimal() and len(number) < 7:
        return now - timedelta(seconds=int(number) * UNITS[unit])
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"was {text!r}, expected 2026-01-31, 2026-01-31T12:00 or 7d") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


# ---- tables


def position_rows(
    holdings: Holdings, prices: Mapping[str, Decimal], since: datetime | None = None
) -> list[Row]:
    """
    Return a row for each position that is open or was traded since `since`.

    `prices` are the last ones by fqme: without one the worth of a position is not known.
    """
    before = fold(each for each in holdings.transactions if since and each.dt < since)
    rows = []
    for position in holdings.positions():
        earlier = before.get(position.key)
        if not position.size and since and earlier and earlier.count == position.count:
            continue
        last = prices.get(position.fqme)
        is_open = bool(position.size)
        rows.append(
            {
                "account": holdings.name,
                "fqme": position.fqme,
                "size": plain(position.size),
                "average_price": price(position.average_entry_price) if is_open else None,
                "ppu": price(position.ppu) if is_open else None,
                "break_even": price(position.break_even_price) if is_open else None,
                "last": plain(last),
                "unrealised": _made(position, last),
                "realised": price(_realised(position) - _realised(earlier)),
                "fees": plain(position.costs - (earlier.costs if earlier else ZERO)),
                "fees_other": _other_fees(position, earlier),
                "transferred": plain(position.transferred),
                "fills": position.count - (earlier.count if earlier else 0),
            }
        )
    return rows


def _made(position: Position, last: Decimal | None) -> str | None:
    if not position.size:
        return "0"
    return None if last is None else price(position.unrealised_pnl(last))


def _realised(position: Position | None) -> Decimal:
    return position.realised_pnl if position else ZERO


def _other_fees(position: Position, earlier: Position | None) -> dict[str, str]:
    past = earlier.fees if earlier else {}
    paid = {
        asset: amount - past.get(asset, ZERO) for asset, amount in position.fees.items() if asset
    }
    return {asset: plain(amount) or "0" for asset, amount in sorted(paid.items()) if amount}


def fill_rows(holdings: Holdings, since: datetime | None = None) -> list[Row]:
    """Return the blotter: every fill and transfer, oldest first."""
    return [
        {
            "time": stamp(each.dt),
            "account": holdings.name,
            "fqme": each.fqme,
            "action": _action(each),
            "size": plain(abs(each.size)),
            "price": None if each.price.is_nan() else plain(each.price),
            "fee": plain(each.cost),
            "fee_asset": each.cost_asset,
            "tid": each.tid,
        }
        for each in holdings.transactions
        if since is None or each.dt >= since
    ]


def _action(record: Transaction) -> str:
    if record.etype == "transfer":
        return "receive" if record.size > 0 else "send"
    return "buy" if record.size > 0 else "sell"


def lot_rows(holdings: Holdings, method: Method) -> list[Row]:
    """Return the lots that are open, oldest first, by one of the four methods."""
    return [
        {
            "account": holdings.name,
            "fqme": market[-1].fqme,
            "size": plain(lot.size),
            "price": price(lot.price),
            "opened": stamp(lot.dt),
            "tid": lot.tid,
        }
        for market in markets_of(holdings.transactions)
        for lot in fold_lots(market, method).open
    ]


def gain_rows(holdings: Holdings, method: Method, since: datetime | None = None) -> list[Row]:
    """Return what each closing fill made of each lot, before fees."""
    return [
        {
            "time": stamp(gain.close_dt),
            "account": holdings.name,
            "fqme": market[-1].fqme,
            "size": plain(gain.size),
            "open_price": price(gain.open_price),
            "close_price": price(gain.close_price),
            "gain": price(gain.gain),
            "opened": stamp(gain.open_dt),
            "open_tid": gain.open_tid,
            "close_tid": gain.close_tid,
        }
        for market in markets_of(holdings.transactions)
        for gain in fold_lots(market, method).gains
        if since is None or gain.close_dt >= since
    ]


def markets_of(records: Iterable[Transaction]) -> list[list[Transaction]]:
    """Return transactions market by market, each in order."""
    groups: dict[str, list[Transaction]] = {}
    for record in iter_by_dt(records):
        groups.setdefault(record.market, []).append(record)
    return list(groups.values())


def unexplained_rows(holdings: Holdings) -> list[Row]:
    """Return what is booked as unexplained."""
    return [
        {
            "account": holdings.name,
            "fqme": each.fields.get("fqme", ""),
            "size": plain(each.size),
            "key": each.key,
            "text": each.text,
        }
        for each in holdings.unexplained
    ]


# ---- the summary


class Line(msgspec.Struct, frozen=True):
    """A line of the summary; `side` is 1 for what is long, -1 for what is short, else 0."""

    text: str
    side: int = 0


def summary(holdings: Holdings) -> list[Line]:
    """Return the head of an account and a line for each open position, short enough to scan."""
    held = [position for position in holdings.positions() if position.size]
    lines = [Line(f"Piker Position Summary {holdings.name} -> total pps: {len(held)}")]
    for position in held:
        unit = round(position.ppu, 2) if abs(position.ppu) >= 1 else short(position.ppu)
        text = f"{position.fqme}: {short(position.size)}u @{unit} = $ {short(position.dsize)}"
        lines.append(Line(text, 1 if position.size > 0 else -1))
    return lines


def totals(rows: Sequence[Row]) -> dict[str, str]:
    """Return `realised`, `unrealised` and `fees` over rows of positions in one quote currency."""
    sums = {}
    for name in ("realised", "unrealised", "fees"):
        values = [Decimal(row[name]) for row in rows if row[name] is not None]
        sums[name] = price(sum(values, ZERO))
    return sums
