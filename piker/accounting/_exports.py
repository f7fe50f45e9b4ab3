"""
A ledger in other programs' forms: comma-separated values, and beancount's plain text.

In beancount each transaction balances to zero by itself. What a fill opens is a lot labelled with
the fill's id; what it closes names the lots, by the method that was asked for, so that no other
program has to agree with us about which they are. A fill through zero is two postings or more.
Fees are an expense in the asset they were paid in; transfers come from equity and go there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import localcontext
from typing import Any

from piker.accounting._ledger import ZERO, Transaction
from piker.accounting._lots import Gain, Method, fold_lots
from piker.accounting._position import CONTEXT
from piker.accounting._views import Holdings, markets_of, plain
from piker.model.market import unpack_fqme

# Quote assets by which a pair's name is cut in two, where its market is not known.
QUOTES = ("usdt", "usdc", "busd", "fdusd", "usd", "eur", "gbp", "jpy", "btc", "eth", "bnb")
UNKNOWN_QUOTE = "USD"


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as comma-separated values (RFC 4180) with a header."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([_text(row.get(name)) for name in names] for row in rows)]
    return "".join(",".join(_field(text) for text in line) + "\n" for line in lines)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={amount}" for name, amount in value.items())
    return "" if value is None else str(value)


def _field(text: str) -> str:
    """Return one field, in quotes where it must be."""
    if any(sign in text for sign in ',"\r\n'):
        doubled = text.replace('"', '""')
        return f'"{doubled}"'
    return text


# ---- beancount


def commodity(text: str) -> str:
    """Return a name as beancount writes commodities: capitals, digits and a few signs, 2 to 24."""
    name = re.sub(r"[^A-Z0-9'._-]", "-", text.upper())
    name = (name if "A" <= name[:1] <= "Z" else f"X{name}")[:24]
    name = re.sub(r"[^A-Z0-9]+$", "", name) or "X"
    return name if len(name) > 1 else f"{name}X"


def account_part(text: str) -> str:
    """Return a name as one part of an account of beancount's."""
    name = re.sub(r"[^A-Za-z0-9-]", "-", text)
    return name[:1].upper() + name[1:] if name[:1].isalnum() else f"X{name}"


def assets_of(fqme: str, quotes: Mapping[str, str]) -> tuple[str, str]:
    """Return a market's base and quote asset: as given, else read from the pair's name."""
    pair = unpack_fqme(fqme)[1]
    for quote in (*filter(None, [quotes.get(fqme)]), *QUOTES):
        if pair.endswith(quote.lower()) and pair != quote.lower():
            return commodity(pair[: -len(quote)]), commodity(quote)
    return commodity(pair), commodity(quotes.get(fqme) or UNKNOWN_QUOTE)


def to_beancount(
    accounts: Sequence[Holdings],
    quotes: Mapping[str, str] | None = None,
    method: Method = "fifo",
) -> str:
    """
    Return accounts as a file that `bean-check` accepts.

    `quotes`: a market's quote asset by fqme, where it is known.

    Raises:
      ValueError: `method` has no lots of its own to name.
    """
    if method == "average":
        raise ValueError("lots: method was 'average', expected fifo, lifo or hifo for beancount")
    entries: list[tuple[str, str]] = []
    names: set[str] = set()
    for holdings in accounts:
        for market in markets_of(holdings.transactions):
            book = _MarketBook(holdings, market[-1].fqme, quotes or {})
            with localcontext(CONTEXT):
                entries += book.entries(market, method)
            names |= book.names
    entries.sort(key=lambda entry: entry[0])
    begin = entries[0][0] if entries else "1970-01-01"
    head = ['option "title" "piker"', "", *(f"{begin} open {name}" for name in sorted(names))]
    return "\n".join([*head, "", *(text for _, text in entries)])


class _MarketBook:
    """One market of one account, on its way into beancount's postings."""

    def __init__(self, holdings: Holdings, fqme: str, quotes: Mapping[str, str]) -> None:
        label = holdings.name.removeprefix(f"{holdings.broker}.")
        own = f"{account_part(holdings.broker)}:{account_part(label)}"
        self.base, self.quote = assets_of(fqme, quotes)
        self.fqme = fqme
        self.lots = f"Assets:{own}:{account_part(fqme.rpartition('.')[0])}"
        self.cash = f"Assets:{own}:Cash"
        self.moved = f"Assets:{own}:Transferred"
        self.fees = f"Expenses:{own}:Fees"
        self.gains = f"Income:{own}:Gains"
        self.outside = f"Equity:{own}:Transfers"
        self.names = {self.lots, self.cash, self.moved, self.fees, self.gains, self.outside}

    def entries(self, records: Sequence[Transaction], method: Method) -> Iterator[tuple[str, str]]:
        """Yield `(day, text)` of each transaction."""
        closed: dict[str, list[Gain]] = {}
        for gain in fold_lots(records, method).gains:
            closed.setdefault(gain.close_tid, []).append(gain)
        for record in records:
            is_fill = record.etype == "clear"
            lines = (
                self._fill(record, closed.get(record.tid, [])) if is_fill else self._move(record)
            )
            day = record.dt.date().isoformat()
            title = f"{day} * {_quoted(self.fqme)} {_quoted(record.tid)}"
            time = f"  time: {_quoted(record.dt.isoformat())}"
            yield day, "\n".join([title, time, *lines, *self._fee(record), "\n"])

    def _fill(self, record: Transaction, closed: Iterable[Gain]) -> list[str]:
        lines, opening, made = [], record.size, ZERO
        for gain in closed:
            lot = f"{{{plain(gain.open_price)} {self.quote}, {_quoted(gain.open_tid)}}}"
            at = f"@ {plain(record.price)} {self.quote}"
            lines.append(f"  {self.lots}  {plain(-gain.size)} {self.base} {lot} {at}")
            opening += gain.size
            made += gain.gain
        if opening:
            lot = f"{{{plain(record.price)} {self.quote}, {_quoted(record.tid)}}}"
            lines.append(f"  {self.lots}  {plain(opening)} {self.base} {lot}")
        lines.append(f"  {self.cash}  {plain(-record.size * record.price)} {self.quote}")
        if made:
            lines.append(f"  {self.gains}  {plain(-made)} {self.quote}")
        return lines

    def _move(self, record: Transaction) -> list[str]:
        # Not into the lots: a transfer has no price, and opens and closes none.
        return [
            f"  {self.moved}  {plain(record.size)} {self.base}",
            f"  {self.outside}  {plain(-record.size)} {self.base}",
        ]

    def _fee(self, record: Transaction) -> list[str]:
        if not record.cost:
            return []
        asset = commodity(record.cost_asset) if record.cost_asset else self.quote
        return [
            f"  {self.fees}  {plain(record.cost)} {asset}",
            f"  {self.cash}  {plain(-record.cost)} {asset}",
        ]


def _quoted(text: str) -> str:
    escaped = re.sub(r"\s", " ", text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
