"""
Reading a ledger file's text: a pattern for just the tables we write, a TOML parser for the rest.

A table that was cut off at the end is left out; what is no ledger otherwise is refused with file,
line and key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from piker.accounting._ledger import Transaction, find_faults
from piker.accounting._tables import (
    FORMAT,
    KEYS,
    LEGACY_KEYS,
    OPTIONAL,
    ORDER,
    UNEXPLAINED,
    Native,
    Normaliser,
    Tables,
    Unexplained,
    decimal_of,
    quoted,
    time_of,
)
from piker.errors import ConfigError

_TEXT = r'"([^"\\\x00-\x1f]*)"\n'
_NUMBER = r"(-?[0-9]{1,25}\.[0-9]{1,30})\n"
_TABLE: Final = re.compile(
    rf'\["([^"\\\x00-\x1f]+)"\]\nfqme = {_TEXT}tid = {_TEXT}size = {_NUMBER}'
    rf'price = (?:{_NUMBER}|"NaN"\n)cost = {_NUMBER}dt = {_TEXT}etype = "(clear|transfer)"\n'
    rf"expiry = {_TEXT}(?:cost_asset = {_TEXT})?bs_mktid = {_TEXT}\n?"
)
_HEADER: Final = re.compile(r"^\[", re.MULTILINE)


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
    names: dict[tuple[str, str], str] = {}
    for key, fields in content.items():
        if not isinstance(fields, dict):
            raise ConfigError(f"{_place(whole, where, key)}: was {fields!r}, expected a table")
        try:
            _add(tables, key, fields, broker, account, normalise)
            _check_unique(names, key, tables.records.get(key))
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
    if any(known not in ORDER for known in names) or KEYS[-1] in names:
        return False
    if names != [known for known in ORDER if known in names]:
        return False
    is_last = partial.startswith(f"{KEYS[-1]} = ")
    return not (is_last and re.fullmatch(r'"(?:[^"\\]|\\.)*"', partial.partition(" = ")[2]))


def _parse_quickly(text: str, broker: str, account: str) -> Tables | None:
    """Return the tables of a text that holds nothing but ours, as we write them."""
    at = text.index("\n") + 1
    records: dict[str, Transaction] = {}
    fills: set[tuple[str, str]] = set()
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
        fill = record.market, tid
        if key in records or fill in fills or find_faults(record):
            return None
        records[key] = record
        fills.add(fill)
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


def _check_unique(names: dict[tuple[str, str], str], key: str, record: Transaction | None) -> None:
    """
    Note the table of a fill.

    Raises:
      ValueError: the fill has another table already.
    """
    if record is None:
        return
    other = names.setdefault((record.market, record.tid), key)
    if other != key:
        raise ValueError(f"tid was {record.tid}, which [{other}] has too; remove one of them")


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
