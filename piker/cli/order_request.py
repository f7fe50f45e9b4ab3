"""
What the options of `piker order` and `piker amend` ask for: text in, an `Order` out.

Pure. What the options alone show to be wrong is misuse and names the option; what only the market
can tell (its increments) is refused as an order is. Reading order: `Wish`, `parse_wish`,
`build_order`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import ROUND_DOWN, Decimal
from typing import Any, Literal

import msgspec
import typer

from piker.clearing import Order, exact, parse_trail
from piker.errors import OrderRejected
from piker.model.market import MktPair

ACTIONS = ("buy", "sell")
TIMES_IN_FORCE = ("gtc", "ioc", "fok", "gtd")
CLIENT_REF = "terminal"
UNITS_NS = {"s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86_400 * 10**9}


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """An order as the options say it; amounts are checked, the market is not yet known."""

    action: str
    fqme: str
    size: Decimal | None = None
    notional: Decimal | None = None
    limit: Decimal | None = None
    is_market: bool = False
    stop: Decimal | None = None
    trail: str = ""
    take_profit: Decimal | None = None
    stop_loss: Decimal | None = None
    time_in_force: str = "gtc"
    expire_time_ns: int = 0
    post_only: bool = False
    reduce_only: bool = False
    is_dark: bool = False
    account: str = ""
    is_live: bool = False

    @property
    def mode(self) -> Literal["paper", "live"]:
        """The mode to ask for: paper unless live was asked for by name."""
        return "live" if self.is_live else "paper"

    @property
    def order_type(self) -> str:
        """The order's type in the words of the messages."""
        if self.is_market:
            return "market"
        return "stop" if self.stop is not None or self.trail else "limit"

    @property
    def is_held(self) -> bool:
        """Whether piker itself holds the order, or a part of it, until a trigger is true."""
        has_legs = self.take_profit is not None or self.stop_loss is not None
        return self.is_dark or bool(self.trail) or has_legs

    @property
    def may_rest(self) -> bool:
        """Whether the order may stay open, so that its first word is news enough."""
        return not self.is_market and self.time_in_force not in ("ioc", "fok")


def parse_wish(now_ns: int, **options: Any) -> Wish:
    """
    Return the options of one order, checked as far as they go without its market.

    Raises:
      typer.BadParameter: names the option.
    """
    for name in ("size", "notional", "limit", "stop", "take_profit", "stop_loss"):
        options[name] = positive(name, options.get(name))
    if options["action"] not in ACTIONS:
        raise typer.BadParameter(f"action was {options['action']!r}, expected buy or sell")
    if (tif := options.setdefault("time_in_force", "gtc")) not in TIMES_IN_FORCE:
        raise misuse(f"was {tif!r}, expected gtc, ioc, fok or gtd", "tif")
    options["expire_time_ns"] = parse_until(options.pop("until", ""), now_ns)
    if options.get("trail"):
        try:
            parse_trail(options["trail"])
        except ValueError as err:
            raise misuse(str(err).removeprefix("trail: "), "trail") from None
    wish = Wish(**options)
    check_sizes(wish)
    check_kind(wish)
    check_terms(wish)
    check_account(wish)
    return wish


def misuse(text: str, option: str) -> typer.BadParameter:
    """Return the refusal of an option."""
    return typer.BadParameter(f"--{option.replace('_', '-')}: {text}")


def positive(option: str, text: str | None) -> Decimal | None:
    """Return an option's amount; None when it was not given."""
    if text is None:
        return None
    try:
        amount = exact(option, text)
    except ValueError as err:
        raise misuse(str(err).removeprefix(f"{option}: "), option) from None
    if amount <= 0:
        raise misuse(f"was {text}, expected above 0", option)
    return amount


def parse_until(text: str, now_ns: int) -> int:
    """
    Return the moment that `90s`, `15m`, `2h`, `1d` from now or an ISO time (UTC) means; 0 for ''.

    Raises:
      typer.BadParameter: neither, or in the past.
    """
    if not text:
        return 0
    if found := re.fullmatch(r"(\d{1,9})([smhd])", text):
        return now_ns + int(found[1]) * UNITS_NS[found[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise misuse(f"was {text!r}, expected 15m, 2h or 2026-11-30T16:00", "until") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    until_ns = int(moment.timestamp()) * 10**9
    if until_ns <= now_ns:
        raise misuse(f"was {text}, expected a time to come (UTC)", "until")
    return until_ns


def check_sizes(wish: Wish) -> None:
    """Refuse an order without a size, or with two."""
    if (wish.size is None) == (wish.notional is None):
        given = "was missing" if wish.size is None else "was given with --notional"
        raise misuse(f"{given}, expected one of --size and --notional", "size")


def check_kind(wish: Wish) -> None:
    """Refuse an order that says in no way, or in two, at which price it is to act."""
    if wish.is_market and (wish.limit or wish.stop or wish.trail or wish.is_dark):
        raise misuse("expected without --limit, --stop, --trail and --dark", "market")
    if wish.stop is not None and wish.trail:
        raise misuse("expected without --trail", "stop")
    if wish.trail and wish.limit is not None:
        raise misuse("expected without --limit", "trail")
    if not (wish.is_market or wish.limit or wish.stop or wish.trail):
        raise misuse("was missing, expected --limit, --market, --stop or --trail", "limit")


def check_terms(wish: Wish) -> None:
    """Refuse terms that contradict each other; an order's own rules say most of it."""
    if (wish.time_in_force == "gtd") != bool(wish.expire_time_ns):
        raise misuse("expected with --tif gtd, and only then", "until")
    try:
        order_of(wish, wish.fqme, wish.size or Decimal(1), "0", wish.account or "paper")
    except ValueError as err:
        raise typer.BadParameter(str(err)) from None


def check_account(wish: Wish) -> None:
    """Refuse an account of the other mode; paper is never taken for live or live for paper."""
    if wish.is_live and wish.account == "paper":
        raise misuse("was paper, expected a live account with --live", "account")
    if not wish.is_live and wish.account not in ("", "paper"):
        raise misuse(f"was {wish.account}, a live account; add --live to trade it", "account")


def choose_account(wish: Wish, accounts: list[str]) -> str:
    """
    Return the account to trade on, of those that can be.

    Raises:
      OrderRejected: the one named is not there, or none was named and there are several.
    """
    names = ", ".join(accounts) or "none"
    if not wish.is_live:
        return "paper"
    if wish.account and wish.account not in accounts:
        raise OrderRejected(f"account: was {wish.account}, expected one of {names}")
    if not wish.account and len(accounts) != 1:
        raise OrderRejected(f"account: was not given, expected --account with one of {names}")
    return wish.account or accounts[0]


def build_order(wish: Wish, mkt: MktPair, last: Decimal | None, oid: str, account: str) -> Order:
    """
    Return the order of a wish on its market; `last` prices a notional without a limit.

    Raises:
      OrderRejected: an amount is no multiple of the market's increment, or the order cannot be.
    """
    for field, amount in (
        ("limit", wish.limit),
        ("stop", wish.stop),
        ("take-profit", wish.take_profit),
        ("stop-loss", wish.stop_loss),
    ):
        check_tick(field, amount, mkt.price_tick)
    size = wish.size or size_of(wish, mkt, wish.limit or wish.stop or last)
    check_tick("size", size, mkt.size_tick)
    try:
        return order_of(wish, mkt.fqme, size, oid, account)
    except ValueError as err:
        raise OrderRejected(f"order: {err}", oid=oid) from None


def order_of(wish: Wish, fqme: str, size: Decimal, oid: str, account: str) -> Order:
    """
    Return a wish as a message.

    Raises:
      ValueError: the order cannot be; names the field.
    """
    fields: dict[str, Any] = {
        "action": wish.action,
        "exec_mode": "dark" if wish.is_dark or wish.trail else "live",
        "oid": oid,
        "symbol": fqme,
        "account": account,
        "price": wish.limit or Decimal(0),
        "size": size,
        "brokers": (fqme.rpartition(".")[2],),
        "order_type": wish.order_type,
        "time_in_force": wish.time_in_force,
        "post_only": wish.post_only,
        "reduce_only": wish.reduce_only,
        "trigger_price": wish.stop,
        "trail": wish.trail,
        "expire_time_ns": wish.expire_time_ns,
        "client_ref": CLIENT_REF,
        "take_profit": wish.take_profit,
        "stop_loss": wish.stop_loss,
    }
    return Order(**fields)


def check_tick(field: str, amount: Decimal | None, tick: Decimal) -> None:
    """
    Refuse an amount between two increments.

    Raises:
      OrderRejected: names the field and the increment.
    """
    if amount is not None and tick and amount % tick:
        raise OrderRejected(f"{field}: was {amount:f}, expected a multiple of {tick:f}")


def size_of(wish: Wish, mkt: MktPair, price: Decimal | None) -> Decimal:
    """
    Return the largest size worth no more than the wish's notional at `price`.

    Raises:
      OrderRejected: no price is known, or the notional is below one increment of the size.
    """
    assert wish.notional is not None
    if not price:
        raise OrderRejected(f"notional: {mkt.fqme} has no price yet; give --size, or --limit")
    tick = mkt.size_tick or Decimal("1E-8")
    size = (wish.notional / price / tick).to_integral_value(ROUND_DOWN) * tick
    if not size:
        raise OrderRejected(
            f"notional: was {wish.notional} {mkt.src}, expected at least {tick * price:f} for"
            f" {tick:f} {mkt.dst} at {price:f}"
        )
    return size
