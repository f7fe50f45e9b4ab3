"""
The text of a ledger file: one TOML table a transaction, and what is wrong with it.

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

A text is read by a pattern of just these tables, and by a TOML parser when it is anything else.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec
import tomli_w

from piker.accounting._ledger import ZERO, Transaction, find_faults, time_order
from piker.errors import ConfigError

FORMAT: Final = 1
UNEXPLAINED: Final = "unexplained"

# Returns a broker's own record as a transaction; None for one that is no trade.
Normaliser = Callable[[str, dict[str, Any]], Transaction | None]

KEYS: Final = ("fqme", "tid", "size", "price", "cost", "dt", "etype", "expiry", "bs_mktid")
OPTIONAL: Final = ("cost_asset", "text")
LEGACY_KEYS: Final = {"fqsn": "fqme", "bsuid": "bs_mktid", "sym": "fqme"}
_ORDER: Final = (*KEYS[:-1], *OPTIONAL, KEYS[-1])

_TEXT = r'"([^"\\\x00-\x1f]*)"\n'
_NUMBER = r"(-?[0-9]+\.[0-9]+)\n"
_TABLE: Final = re.compile(
    rf'\["([^"\\\x00-\x1f]+)"\]\nfqme = {_TEXT}tid = {_TEXT}size = {_NUMBER}'
    rf'price = (?:{_NUMBER}|"NaN"\n)cost = {_NUMBER}dt = {_TEXT}etype = "(clear|transfer)"\n'
    rf"expiry = {_TEXT}(?:cost_asset = {_TEXT})?bs_mktid = {_TEXT}\n?"
)
_HEADER: Final = re.compile(r"^\[", re.MULTILINE)


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


# ---- reading ----


def parse(
    data: bytes, where: str, broker: str, account: str, normalise: Normaliser | None = None
) -> Tables:
    """
    Return the content of a ledger file; a table that was cut off at its end is left out.

    Raises:
      ConfigError: another format, no TOML, or a table that is no transaction; names file, line
        and key.
    """
    text, is_cut = decode(data, where)
    is_legacy = not check_head(text, "ledger", where)
    quick = None if is_legacy or is_cut else _parse_quickly(text, broker, account)
    if quick is not None:
        return quick
    whole, torn = (text, "") if is_legacy else split_torn(text, is_cut)
    content = load_toml(whole, where)
    tables = Tables(is_legacy=is_legacy, torn=torn)
    for key, fields in content.items():
        if not isinstance(fields, dict):
            raise ConfigError(f"{_place(whole, where, key)}: was {fields!r}, expected a table")
        try:
            _add(tables, key, fields, broker, account, normalise)
        except ValueError as err:
            name = str(err).split(" ", 1)[0]
            raise ConfigError(f"{_place(whole, where, key, name)}: {err}") from None
    return tables


def decode(data: bytes, where: str) -> tuple[str, bool]:
    """
    Return a file's text, and whether it ends in bytes that were never written to the end.

    Raises:
      ConfigError: it is no text elsewhere than at its end.
    """
    kept, zero, _ = data.partition(b"\0")  # room that was taken and not filled
    try:
        return kept.decode(), bool(zero)
    except UnicodeDecodeError as err:
        if err.end >= len(kept):
            return kept[: err.start].decode(), True
        line = kept.count(b"\n", 0, err.start) + 1
        raise ConfigError(f"{where}:{line}: is not valid text (UTF-8)") from None


def check_head(text: str, kind: str, where: str) -> bool:
    """
    Return whether line 1 names the format; refuse one that is not ours.

    Raises:
      ConfigError: another kind of file or another format.
    """
    found = re.match(r"# piker (\w+), format (\S+)[^\n]*\n", text)
    if found is None:
        return False
    if found[1] != kind:
        raise ConfigError(f"{where}:1: is a {found[1]}, expected a {kind}")
    if found[2] != str(FORMAT):
        raise ConfigError(
            f"{where}:1: format was {found[2]}, expected {FORMAT};"
            " another version of piker wrote it: use that one"
        )
    return True


def load_toml(text: str, where: str) -> dict[str, Any]:
    """
    Return TOML with its numbers as decimals.

    Raises:
      ConfigError: it is none; names the line.
    """
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as err:
        line = re.search(r"at line (\d+)", str(err))
        place = f"{where}:{line[1]}" if line else where
        raise ConfigError(f"{place}: is not valid TOML: {err}") from None
    except (InvalidOperation, ValueError) as err:
        raise ConfigError(f"{where}: is not valid TOML: {err}") from None


def split_torn(text: str, is_cut: bool) -> tuple[str, str]:
    """Return the whole tables of our own text, and the rest when the last one was cut off."""
    *_, start = [0, *(found.start() for found in _HEADER.finditer(text))]
    last = text[start:]
    if start and _is_beginning(last):
        return text[:start], last
    return text, "\0" if is_cut else ""


def _is_beginning(table: str) -> bool:
    """Whether a text is the beginning of a table of ours, and not all of it."""
    name, line_end, body = table.partition("\n")
    if not line_end:
        return True
    if not re.fullmatch(r'\["(?:[^"\\]|\\.)+"\]', name):
        return False
    lines = body.split("\n")
    *full, partial = lines  # what stands behind the last line end
    names = [line.partition(" = ")[0] for line in full if line]
    if any(known not in _ORDER for known in names) or KEYS[-1] in names:
        return False
    if names != [known for known in _ORDER if known in names]:
        return False
    is_last = partial.startswith(f"{KEYS[-1]} = ")
    return not (is_last and re.fullmatch(r'"(?:[^"\\]|\\.)*"', partial.partition(" = ")[2]))


def _parse_quickly(text: str, broker: str, account: str) -> Tables | None:
    """Return the tables of a text that holds nothing but ours, as we write them."""
    at = text.index("\n") + 1
    records: dict[str, Transaction] = {}
    match = _TABLE.match
    while at < len(text):
        if text[at] == "\n":
            at += 1
            continue
        found = match(text, at)
        if found is None:
            return None
        key, fqme, tid, size, price, cost, dt, etype, expiry, asset, mktid = found.groups()
        try:
            record = Transaction(
                broker=broker,
                account=account,
                fqme=fqme,
                tid=tid,
                size=Decimal(size),
                price=Decimal(price or "NaN"),
                cost=Decimal(cost),
                dt=datetime.fromisoformat(dt),
                etype="clear" if etype == "clear" else "transfer",
                expiry=expiry or None,
                cost_asset=asset or "",
                bs_mktid=mktid or None,
            )
        except ValueError:
            return None
        if key in records or find_faults(record):
            return None
        records[key] = record
        at = found.end()
    return Tables(records=records)


def _add(
    tables: Tables,
    key: str,
    fields: dict[str, Any],
    broker: str,
    account: str,
    normalise: Normaliser | None,
) -> None:
    """
    Add one table to a ledger's content.

    Raises:
      ValueError: it is no transaction; the first word of the text is the key at fault.
    """
    if fields.get("etype") == UNEXPLAINED:
        text = str(fields.get("text", ""))
        tables.unexplained.append(Unexplained(key=key, text=text, fields=fields))
        return
    if not (fields.keys() & {"fqme", *LEGACY_KEYS}):
        if normalise is None:
            raise ValueError(f"fqme is missing, and {broker} has no `norm_trade` for its records")
        tables.natives.append(Native(key=key, fields=fields, record=normalise(key, fields)))
        return
    tables.records[key] = transaction_of(key, fields, broker, account)


def transaction_of(key: str, fields: dict[str, Any], broker: str, account: str) -> Transaction:
    """
    Return a table as a transaction, older names of its keys included.

    Raises:
      ValueError: it is none; the first word of the text is the key at fault.
    """
    named = {LEGACY_KEYS.get(name, name): value for name, value in fields.items()}
    for name in named:
        if name not in (*KEYS, *OPTIONAL):
            raise ValueError(f"{name} is an unknown key; remove or correct it")
    for name in ("size", "price", "dt"):
        if name not in named:
            raise ValueError(f"{name} is missing")
    price = named["price"]
    record = Transaction(
        broker=broker,
        account=account,
        fqme=str(named["fqme"]),
        tid=str(named.get("tid", key)),
        size=decimal_of("size", named["size"]),
        price=Decimal("NaN") if price == "NaN" else decimal_of("price", price),
        cost=decimal_of("cost", named.get("cost", 0)),
        dt=time_of("dt", named["dt"]),
        etype=named.get("etype", "clear"),
        expiry=str(named.get("expiry") or "") or None,
        cost_asset=str(named.get("cost_asset", "")),
        bs_mktid=str(named.get("bs_mktid") or "") or None,
    )
    for fault in find_faults(record):
        raise ValueError(fault)
    return record


def decimal_of(name: str, value: object) -> Decimal:
    """
    Return a TOML value as a number.

    Raises:
      ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, Decimal | int | str):
        raise ValueError(f"{name} was {value!r}, expected a number")
    try:
        return Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{name} was {value!r}, expected a number") from None


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


def _place(text: str, where: str, key: str, name: str = "") -> str:
    """Return `file:line: [table]` of a key, or of its table when the line cannot be told."""
    at_table = 0
    for line_number, line in _lines_of(text, key):
        at_table = at_table or line_number
        if name and re.match(rf"\s*\"?{re.escape(name)}\"?\s*=", line):
            return f"{where}:{line_number}: [{key}]"
    return f"{where}:{at_table}: [{key}]" if at_table else f"{where}: [{key}]"


def _lines_of(text: str, key: str) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines of one table."""
    is_inside = False
    for line_number, line in enumerate(text.splitlines(), 1):
        if line.startswith("["):
            is_inside = line.strip() in (f"[{quoted(key)}]", f"[{key}]")
        if is_inside:
            yield line_number, line
