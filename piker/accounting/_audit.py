"""
What a ledger file says beside what the journal says: who is right, and what stays unexplained.

The journal is the truth for fills; a file is what was written of it, and may have been edited:

1. a fill that the file lacks is written;
2. a fill that the file tells otherwise stands as the journal has it;
3. a fill that only the file knows is taken out of the account, but for a file of an older piker,
   or beside a journal without any fill: those are to be made part of the journal (`imports`);
4. a size that is not the sum of the fills, where older fills are no longer in the journal, is the
   journal's.

What 2 to 4 found is kept in the file as *unexplained*, with what the file said, and is part of no
position. The same difference is booked once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import msgspec

from piker.accounting._ledger import ZERO, Transaction, find_faults
from piker.accounting._tables import (
    KEYS,
    UNEXPLAINED,
    Tables,
    Unexplained,
    number,
    table_key,
)

FillKey = tuple[str, str]
CLOCK_SKEW = timedelta(seconds=2)  # a venue's time may be that far ahead of the journal's
COMPARED = ("size", "price", "cost", "cost_asset", "dt", "etype")


class Difference(msgspec.Struct, frozen=True):
    """One thing that a file and the journal say otherwise; `text` is the whole sentence."""

    market: str
    tid: str
    text: str

    def __str__(self) -> str:
        return self.text


class Outcome(msgspec.Struct, frozen=True):
    """
    What bringing a file up to date came to.

    `written`: fills that the file lacked. `differences`: what was booked as unexplained just now.
    `imports`: fills of an older file that the journal does not know yet.
    """

    written: int = 0
    differences: tuple[Difference, ...] = ()
    imports: tuple[Transaction, ...] = ()


def fill_key(record: Transaction) -> FillKey:
    """Return what makes a fill of one account the same fill: market and tid."""
    return record.market, record.tid


def says(record: Transaction) -> tuple[object, ...]:
    """Return what two records of one fill must agree in; NaN is equal to itself."""
    price = None if record.price.is_nan() else record.price
    return record.size, price, record.cost, record.cost_asset, record.dt, record.etype


def add_fills(tables: Tables, records: Iterable[Transaction]) -> Outcome:
    """Make `records`, which the journal holds, part of a file's content (rules 1 and 2)."""
    known = by_fill(tables)
    written, found = 0, []
    for record in records:
        if faults := find_faults(record):
            text = f"{record.market}, fill {record.tid}: {faults[0]}; it is in no position"
            found.append(Difference(record.market, record.tid, text))
            continue
        key = fill_key(record)
        names = known.get(key)
        if names is None:
            known[key] = _insert(tables, record), record
            written += 1
        elif says(names[1]) != says(record):
            found += _book_changed(tables, names[0], names[1], record)
            known[key] = names[0], record
    return Outcome(written, tuple(found))


def by_fill(tables: Tables) -> dict[FillKey, tuple[str, Transaction]]:
    """Return the tables of a file, with their names, by what makes a fill the same."""
    found = {fill_key(record): (name, record) for name, record in tables.records.items()}
    for native in tables.natives:
        if native.record is not None:
            found.setdefault(fill_key(native.record), (native.key, native.record))
    return found


def take_out_unknown(
    tables: Tables, records: Iterable[Transaction], since: datetime | None
) -> Outcome:
    """Take what only the file knows, from `since` on, out of its transactions (rule 3)."""
    journalled = {fill_key(record) for record in records}
    unknown = [
        (name, record)
        for name, record in tables.records.items()
        if fill_key(record) not in journalled
    ]
    if tables.is_legacy or (not journalled and since is None):
        older = [
            each.record
            for each in tables.natives
            if each.record is not None and fill_key(each.record) not in journalled
        ]
        return Outcome(imports=(*(record for _, record in unknown), *older))
    found: list[Difference] = []
    for name, record in unknown:
        if since is None or record.dt >= since + CLOCK_SKEW:
            del tables.records[name]
            text = f"{record.market}, fill {record.tid}: the journal has no such fill"
            found += _book(tables, text, fields_of(record))
    return Outcome(differences=tuple(found))


def compare_sizes(tables: Tables, sizes: Mapping[str, Decimal]) -> Outcome:
    """Book where the fills of a market do not add up to what the journal holds of it (rule 4)."""
    held: dict[str, Decimal] = {}
    names: dict[str, str] = {}
    for record in tables.transactions():
        names[record.market] = record.fqme
        if record.etype == "clear":
            held[record.market] = held.get(record.market, ZERO) + record.size
    for each in tables.unexplained:
        if "tid" not in each.fields:
            held[each.market] = held.get(each.market, ZERO) + each.size
    found: list[Difference] = []
    for market in sorted({*held, *sizes}):
        ours, theirs = held.get(market, ZERO), sizes.get(market, ZERO)
        if ours != theirs:
            text = f"{market}: the ledger adds up to {ours:f}, the journal holds {theirs:f}"
            fields = {"fqme": names.get(market, ""), "size": theirs - ours, "bs_mktid": market}
            found += _book(tables, text, fields)
    return Outcome(differences=tuple(found))


def join(outcomes: Sequence[Outcome]) -> Outcome:
    """Return several outcomes as one."""
    return Outcome(
        sum(each.written for each in outcomes),
        tuple(found for each in outcomes for found in each.differences),
        tuple(record for each in outcomes for record in each.imports),
    )


def fields_of(record: Transaction) -> dict[str, Any]:
    """Return a transaction as the fields of its table."""
    fields: dict[str, Any] = {name: getattr(record, name) or "" for name in KEYS}
    amounts = {name: getattr(record, name) for name in ("size", "price", "cost")}
    fields |= {name: "NaN" if value.is_nan() else value for name, value in amounts.items()}
    fields["dt"] = record.dt.isoformat()
    return fields | ({"cost_asset": record.cost_asset} if record.cost_asset else {})


def _insert(tables: Tables, record: Transaction) -> str:
    name = table_key(record)
    if name in tables.records:
        name = f"{record.market}-{record.tid}"
    tables.records[name] = record
    return name


def _book_changed(
    tables: Tables, name: str, theirs: Transaction, ours: Transaction
) -> list[Difference]:
    """Let the journal's record stand, and keep what the file said of the same fill."""
    changed = [
        f"{field} {_shown(theirs, field)} where the journal has {_shown(ours, field)}"
        for field in COMPARED
        if _shown(theirs, field) != _shown(ours, field)
    ]
    tables.natives = [each for each in tables.natives if each.key != name]
    tables.records[name] = ours
    text = f"{ours.market}, fill {ours.tid}: the file said {', '.join(changed)}"
    return _book(tables, text, fields_of(theirs))


def _shown(record: Transaction, field: str) -> str:
    value = getattr(record, field)
    if isinstance(value, Decimal):
        return number(value).strip('"') if not value.is_finite() else f"{value.normalize():f}"
    return value.isoformat() if isinstance(value, datetime) else repr(value)


def _book(tables: Tables, text: str, fields: dict[str, Any]) -> list[Difference]:
    """Keep what a file said as unexplained; nothing when it is booked already."""
    key = f"{UNEXPLAINED}-{blake2b(text.encode(), digest_size=6).hexdigest()}"
    if any(each.key == key for each in tables.unexplained):
        return []
    each = Unexplained(key=key, text=text, fields={"etype": UNEXPLAINED, "text": text, **fields})
    tables.unexplained.append(each)
    return [Difference(each.market, str(fields.get("tid", "")), f"unexplained: {text}")]
