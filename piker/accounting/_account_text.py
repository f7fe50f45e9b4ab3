"""
The text of an account file: one table an open position, with the fills since it opened.

    # piker account, format 1

    ["xbtusdt.spot.kraken"]
    bs_mktid = "xbtusdt.spot.kraken"
    asset_type = "crypto_currency"
    price_tick = 0.1
    size_tick = 0.00000001
    clears = [
      {ppu = 27000.6, cumsize = 0.01, price = …, size = …, cost = …, dt = 2026-…, tid = "8f31…"},
    ]

It is a projection of the ledger and never the truth: what it says of a fill is read back only by
`piker.accounting.load_account`, older names of its keys included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec

from piker.accounting._ledger import Transaction, find_faults
from piker.accounting._position import CONTEXT, Position
from piker.accounting._tables import decimal_of, head, number, quoted, time_of
from piker.accounting._tables_read import check_head, load_toml
from piker.errors import ConfigError
from piker.model.market import MktPair

UNRESOLVED = "n/a"
PPU_DIGITS = 12
PRICE_TICK, SIZE_TICK = Decimal("0.01"), Decimal(0)
LEGACY_KEYS = {"bsuid": "bs_mktid", "price_tick_size": "price_tick", "lot_tick_size": "size_tick"}


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """One table of an account file: a market's facts, and the fills since its position opened."""

    fqme: str
    bs_mktid: str | None = None
    asset_type: str = UNRESOLVED
    price_tick: Decimal = PRICE_TICK
    size_tick: Decimal = SIZE_TICK
    expiry: str | None = None
    clears: tuple[Transaction, ...] = ()

    def known_as(self, mkt: MktPair | None) -> Holding:
        """Return it with the facts of its market, where they are known."""
        if mkt is None:
            return self
        return msgspec.structs.replace(
            self, asset_type=mkt.type_key, price_tick=mkt.price_tick, size_tick=mkt.size_tick
        )


def is_expired(expiry: str | None, now: datetime) -> bool:
    """Whether a contract has expired; '' and 'perp' never do. Its last day is still a day."""
    if not expiry or expiry == "perp":
        return False
    try:
        moment = datetime.fromisoformat(expiry)
    except ValueError:
        return False
    if len(expiry) <= len("2026-12-18"):
        return now.date() > moment.date()
    return now > (moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def render(holdings: Sequence[Holding]) -> str:
    """Return an account file's text."""
    return "\n".join([head("account"), *(_render(each) for each in holdings)])


def _render(holding: Holding) -> str:
    lines = [
        f"[{quoted(holding.fqme)}]",
        f"bs_mktid = {quoted(holding.bs_mktid or holding.fqme)}",
        f"asset_type = {quoted(holding.asset_type)}",
        f"price_tick = {number(holding.price_tick)}",
        f"size_tick = {number(holding.size_tick)}",
    ]
    if holding.expiry:
        lines.append(f"expiry = {_expiry(holding.expiry)}")
    lines.append("clears = [")
    position = Position(broker="", account="", market="", fqme=holding.fqme)
    for clear in holding.clears:
        position = position.extend([clear])
        lines.append(f"  {{{_clear(clear, position)}}},")
    return "\n".join([*lines, "]\n"])


def _clear(clear: Transaction, position: Position) -> str:
    ppu = _short(position.ppu)
    columns = [f"ppu = {number(ppu)}"] if ppu else []
    columns += [f"cumsize = {number(position.size)}"] if position.size else []
    columns += [
        f"price = {number(clear.price)}",
        f"size = {number(clear.size)}",
        f"cost = {number(clear.cost)}",
    ]
    if clear.cost_asset:
        columns.append(f"cost_asset = {quoted(clear.cost_asset)}")
    dt = clear.dt.astimezone(UTC).isoformat()
    return ", ".join([*columns, f"dt = {dt}", f"tid = {quoted(clear.tid)}"])


def _short(value: Decimal) -> Decimal:
    """Return a quotient with the digits that a file holds of it."""
    return CONTEXT.quantize(value, Decimal(1).scaleb(-PPU_DIGITS)).normalize(CONTEXT)


def _expiry(expiry: str) -> str:
    """Return an expiry as a TOML moment where it is one."""
    try:
        moment = datetime.fromisoformat(expiry)
    except ValueError:
        return quoted(expiry)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def parse(data: bytes, where: str, broker: str, account: str) -> list[Holding]:
    """
    Return the content of an account file; older forms of it included.

    Raises:
      ConfigError: another format, no TOML, or a table that is no position; names file, table, key.
    """
    text = data.decode(errors="replace")
    check_head(text, "account", where)
    content = _flatten(load_toml(text, where), broker)
    holdings = []
    for fqme, fields in content.items():
        try:
            holdings.append(_holding(fqme, fields, broker, account))
        except ValueError as err:
            raise ConfigError(f"{where}: [{fqme}] {err}") from None
    return holdings


def _flatten(content: dict[str, Any], broker: str) -> dict[str, Any]:
    """Return the tables of an older file out of their `[<broker>.<account>]`."""
    nested = content.get(broker)
    if not isinstance(nested, dict) or "clears" in nested:
        return content
    tables = {name: table for name, table in content.items() if name != broker}
    for inner in nested.values():
        if isinstance(inner, dict):
            tables |= inner
    return tables


def _holding(fqme: str, fields: Any, broker: str, account: str) -> Holding:
    if not isinstance(fields, dict):
        raise ValueError(f"was {fields!r}, expected a table")
    named = {LEGACY_KEYS.get(name, name): value for name, value in fields.items()}
    clears = named.get("clears", [])
    if not isinstance(clears, list) or not all(isinstance(clear, dict) for clear in clears):
        raise ValueError(f"clears was {clears!r}, expected a list of tables")
    mktid = str(named.get("bs_mktid") or "") or None
    facts = {"broker": broker, "account": account, "fqme": fqme, "bs_mktid": mktid}
    return Holding(
        fqme=fqme,
        bs_mktid=mktid,
        asset_type=str(named.get("asset_type", UNRESOLVED)),
        price_tick=decimal_of("price_tick", named.get("price_tick", PRICE_TICK)),
        size_tick=decimal_of("size_tick", named.get("size_tick", SIZE_TICK)),
        expiry=_read_expiry(named.get("expiry")),
        clears=tuple(_read_clear(clear, facts) for clear in clears),
    )


def _read_expiry(value: object) -> str | None:
    return value.isoformat() if isinstance(value, date) else str(value or "") or None


def _read_clear(fields: Mapping[str, Any], facts: dict[str, Any]) -> Transaction:
    for name in ("price", "size", "dt", "tid"):
        if name not in fields:
            raise ValueError(f"clears: {name} is missing")
    record = Transaction(
        **facts,
        tid=str(fields["tid"]),
        size=decimal_of("size", fields["size"]),
        price=decimal_of("price", fields["price"]),
        cost=decimal_of("cost", fields.get("cost", 0)),
        cost_asset=str(fields.get("cost_asset", "")),
        dt=time_of("dt", fields["dt"]),
    )
    for fault in find_faults(record):
        raise ValueError(f"clears: {fault}")
    return record
