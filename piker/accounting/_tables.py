"""
The text of a ledger file: one TOML table a transaction.

    # piker ledger, format 1

    ["8f31…"]
    fqme = "xbtusdt.spot.kraken"
    …
    bs_mktid = "xbtusdt.spot.kraken"

Rules:
1. The comment in line 1 is the format; a file without it is an older one and is read as such.
2. Every key but `cost_asset` stands in each table we write, in one order, `bs_mktid` last: a table
   that ends before it was cut off while it was written, and is left out.
3. Numbers keep all their digits. A transfer has no price: `price = "NaN"`.
4. A table of `etype = "unexplained"` holds what a file said and the journal does not: it is kept
   and shown, and is part of no position.
5. A broker's own record, as older files hold it, is kept as it is.

`_tables_read` reads it back.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec
import tomli_w

from piker.accounting._ledger import ZERO, Transaction, time_order

FORMAT: Final = 1
UNEXPLAINED: Final = "unexplained"

# Beyond any price or size, and below what makes arithmetic slow.
PLACES_MAX: Final = 30
MAGNITUDE_MAX: Final = 24

# Returns a broker's own record as a transaction; None for one that is no trade.
Normaliser = Callable[[str, dict[str, Any]], Transaction | None]

KEYS: Final = ("fqme", "tid", "size", "price", "cost", "dt", "etype", "expiry", "bs_mktid")
OPTIONAL: Final = ("cost_asset", "text")
LEGACY_KEYS: Final = {"fqsn": "fqme", "bsuid": "bs_mktid", "sym": "fqme"}
ORDER: Final = (*KEYS[:-1], *OPTIONAL, KEYS[-1])


class Unexplained(msgspec.Struct, frozen=True, kw_only=True):
    """What a ledger file said and the journal does not; `fields` are the table's, verbatim."""

    key: str
    text: str
    fields: dict[str, Any]

    @property
    def market(self) -> str:
        """What it is about: the broker's id of the market, or its fqme."""
        return str(self.fields.get("bs_mktid") or self.fields.get("fqme") or "")

    @property
    def size(self) -> Decimal:
        """How much of the market is unexplained; 0 where a file says nothing that can be read."""
        try:
            return decimal_of("size", self.fields.get("size", 0))
        except ValueError:
            return ZERO


class Native(msgspec.Struct, frozen=True, kw_only=True):
    """A broker's own record; `record` is None when it is no trade."""

    key: str
    fields: dict[str, Any]
    record: Transaction | None = None


class Tables(msgspec.Struct, kw_only=True):
    """
    A ledger file's content.

    `torn` is what was cut off behind the last whole table. `is_legacy`: no format in line 1.
    """

    records: dict[str, Transaction] = {}
    natives: list[Native] = []
    unexplained: list[Unexplained] = []
    torn: str = ""
    is_legacy: bool = False

    def transactions(self) -> list[Transaction]:
        """Return every transaction, oldest first."""
        native = (each.record for each in self.natives if each.record is not None)
        return sorted([*self.records.values(), *native], key=time_order)


# ---- writing ----


def head(kind: str, version: int = FORMAT) -> str:
    """Return line 1 of a file: its kind and format."""
    return f"# piker {kind}, format {version}\n"


def render(tables: Tables) -> str:
    """
    Return a ledger file's text: transactions by time, then what is unexplained.

    An older file gets no format in line 1: it stays one until its fills are in the journal.
    """
    natives = {id(each.record): each for each in tables.natives if each.record is not None}
    names = {id(record): name for name, record in tables.records.items()}
    parts = [] if tables.is_legacy else [head("ledger")]
    for record in tables.transactions():
        native = natives.get(id(record))
        name = names.get(id(record), "")
        parts.append(render_native(native) if native else render_record(record, name))
    parts += [render_native(each) for each in tables.natives if each.record is None]
    parts += [render_unexplained(each) for each in tables.unexplained]
    return "\n".join(parts)


def render_record(record: Transaction, name: str = "") -> str:
    """Return one transaction as a table, by the name it has in its file."""
    asset = f"cost_asset = {quoted(record.cost_asset)}\n" if record.cost_asset else ""
    return (
        f"[{quoted(name or table_key(record))}]\n"
        f"fqme = {quoted(record.fqme)}\n"
        f"tid = {quoted(record.tid)}\n"
        f"size = {number(record.size)}\n"
        f"price = {number(record.price)}\n"
        f"cost = {number(record.cost)}\n"
        f'dt = "{record.dt.astimezone(UTC).isoformat()}"\n'
        f'etype = "{record.etype}"\n'
        f"expiry = {quoted(record.expiry or '')}\n"
        f"{asset}"
        f"bs_mktid = {quoted(record.bs_mktid or '')}\n"
    )


def render_unexplained(each: Unexplained) -> str:
    """Return what is unexplained as a table."""
    rest = {name: value for name, value in each.fields.items() if name not in ("etype", "text")}
    fields = {"etype": UNEXPLAINED, "text": each.text, **rest}
    return render_fields(each.key, fields)


def render_native(each: Native) -> str:
    """Return a broker's own record as it was."""
    return render_fields(each.key, each.fields)


def render_fields(key: str, fields: dict[str, Any]) -> str:
    """Return any table by its fields."""
    return tomli_w.dumps({key: {name: _plain(value) for name, value in fields.items()}})


def _plain(value: Any) -> Any:
    """Return a value that is written as it was read: a number without an exponent."""
    if isinstance(value, Decimal) and value.is_finite():
        return Decimal(number(value))
    return value


def table_key(record: Transaction) -> str:
    """Return the name of a transaction's table: a bare number counts within one market only."""
    return f"{record.market}-{record.tid}" if record.tid.isdecimal() else record.tid


def number(value: Decimal) -> str:
    """Return a decimal as a TOML float with all its digits; no number is a string."""
    if not value.is_finite():
        return '"NaN"'
    text = format(value, "f")
    return text if "." in text else f"{text}.0"


_ESCAPES: Final = {'"': '\\"', "\\": "\\\\"} | {
    chr(code): f"\\u{code:04X}" for code in (*range(32), 127)
}
_NEEDS_ESCAPE: Final = re.compile(r'["\\\x00-\x1f\x7f]')


def quoted(text: str) -> str:
    """Return text as a basic TOML string."""
    return f'"{_NEEDS_ESCAPE.sub(lambda found: _ESCAPES[found[0]], text)}"'


# ---- values ----


def decimal_of(name: str, value: object) -> Decimal:
    """
    Return a TOML value as a number.

    Raises:
      ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, Decimal | int | str):
        raise ValueError(f"{name} was {value!r}, expected a number")
    try:
        found = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{name} was {str(value)[:40]!r}, expected a number") from None
    if found.is_finite():
        exponent = found.as_tuple().exponent
        assert isinstance(exponent, int)
        if exponent < -PLACES_MAX or found.adjusted() > MAGNITUDE_MAX:
            raise ValueError(
                f"{name} was {str(value)[:40]}, expected at most {PLACES_MAX} decimals"
                f" and less than 1e{MAGNITUDE_MAX + 1}"
            )
    return found


def time_of(name: str, value: object) -> datetime:
    """
    Return a TOML value as a moment.

    Raises:
      ValueError: it is none.
    """
    if isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(
            f"{name} was {value!r}, expected a time such as 2026-01-31T12:00Z"
        ) from None
