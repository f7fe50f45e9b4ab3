"""
What `conf.toml` may say: one record per section, each value checked.

Pure records; `piker.config` reads the file and turns a refusal into file, line and key. A check of
ours raises `ValueError("<key> was <value>, <expected>")`.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import Meta

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 6116
FILL_MODELS = ("default", "instant", "slow")
NOTICES = ("none", "sound", "desktop", "both")
CONFIRM_WORDS = ("none", "live")


def _one_of(key: str, value: str, words: Iterable[str]) -> None:
    """Refuse a word that is none of `words`."""
    *first, last = words
    if value not in (*first, last):
        raise ValueError(f"{key} was {value!r}, expected {', '.join(first)} or {last}")


def _amounts(section: msgspec.Struct, *keys: str) -> None:
    """Refuse an amount that is no finite decimal number from zero up."""
    for key in keys:
        value = getattr(section, key)
        if not value.is_finite() or value < 0:
            raise ValueError(f"{key} was {value}, expected a number of 0 or more")


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where `pikerd` listens."""

    host: str = DEFAULT_HOST
    port: Annotated[int, Meta(ge=1, le=65535)] = DEFAULT_PORT


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sizes of a market's shared memory (rows) and how much history is loaded (days)."""

    ring_1s: Annotated[int, Meta(ge=120, le=10_000_000)] = 86_400
    ring_1m: Annotated[int, Meta(ge=120, le=10_000_000)] = 43_200
    ring_ticks: Annotated[int, Meta(ge=1024, le=1 << 24)] = 65_536
    l2_levels: Annotated[int, Meta(ge=1, le=1000)] = 20
    backfill_1s_days: Annotated[float, Meta(ge=0, le=366)] = 2.0
    backfill_1m_days: Annotated[float, Meta(ge=0, le=36_600)] = 30.0
    shm_dir: str = "/dev/shm"

    def __post_init__(self) -> None:
        if self.ring_ticks & (self.ring_ticks - 1):
            raise ValueError(f"ring_ticks was {self.ring_ticks}, expected a power of two")


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much is logged, and how much of it is kept per actor."""

    level: str = "info"
    file_bytes: Annotated[int, Meta(ge=10_000, le=1 << 30)] = 5_000_000
    files: Annotated[int, Meta(ge=1, le=100)] = 3

    def __post_init__(self) -> None:
        _one_of("level", self.level.lower(), ("debug", "info", "warning", "error"))


class Clearing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    The limits in front of every order, and how orders are held; a limit of 0 is off.

    Amounts of money are in the market's quote currency. `max_size` is in units of the market.
    `journal_days`: how long the oid of an ended dialog is remembered and refused as a new one.
    """

    max_notional: Decimal = Decimal(2500)
    max_size: Decimal = Decimal(0)
    max_position: Decimal = Decimal(0)
    orders_per_s: Annotated[int, Meta(ge=0, le=10_000)] = 5
    price_band_pct: Decimal = Decimal(2)
    daily_loss: Decimal = Decimal(500)
    stale_gate: bool = True
    dark_pad_ticks: Annotated[int, Meta(ge=0, le=10_000)] = 5
    journal_days: Annotated[int, Meta(ge=7, le=3660)] = 7

    def __post_init__(self) -> None:
        _amounts(self, "max_notional", "max_size", "max_position", "price_band_pct", "daily_loss")


class Paper(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Simulated accounts; `fill_model` names the latency and slippage that are not given here.

    `start_balance` is what a new account owns of each quote asset it trades in. Fees are shares of
    an order's worth, negative for a rebate; None: the venue's own.
    """

    start_balance: Decimal = Decimal(100_000)
    leverage: Decimal = Decimal(1)
    fill_model: str = "default"
    latency_ms: Annotated[int, Meta(ge=0, le=60_000)] | None = None
    slippage_ticks: Annotated[int, Meta(ge=0, le=10_000)] | None = None
    maker_fee: Decimal | None = None
    taker_fee: Decimal | None = None

    def __post_init__(self) -> None:
        _one_of("fill_model", self.fill_model, FILL_MODELS)
        _amounts(self, "start_balance", "leverage")
        if not 1 <= self.leverage <= 1000:
            raise ValueError(f"leverage was {self.leverage}, expected 1 to 1000")
        for key in ("maker_fee", "taker_fee"):
            fee = getattr(self, key)
            if fee is not None and not (fee.is_finite() and abs(fee) <= Decimal("0.1")):
                raise ValueError(f"{key} was {fee}, expected a share such as 0.001 (0.1 %)")


class Notify(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the chart tells of an event while the trader looks elsewhere."""

    fill: str = "sound"
    closed: str = "none"
    error: str = "both"
    alert: str = "both"

    def __post_init__(self) -> None:
        for key in self.__struct_fields__:
            _one_of(key, getattr(self, key), NOTICES)


class Ui(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    The chart page; `keys` maps an action to the key that does it.

    `confirm`: which orders wait for `enter`: `none`, those of `live` accounts, or, of any account,
    those worth more than an amount of the quote currency.
    """

    timezone: str = "market"
    theme: str = "auto"
    confirm: str | int | float = "live"
    order_labels: str = "hover"
    notify: Notify = Notify()
    keys: dict[str, str] = {}

    def __post_init__(self) -> None:
        _one_of("theme", self.theme, ("auto", "dark", "light"))
        _one_of("order_labels", self.order_labels, ("hover", "always"))
        if self.confirm not in CONFIRM_WORDS and self.confirm_above is None:
            raise ValueError(
                f"confirm was {self.confirm!r}, expected none, live or an amount such as '1000'"
            )

    @property
    def confirm_above(self) -> Decimal | None:
        """Return the amount above which any order is confirmed; None where none is set."""
        try:
            amount = Decimal(str(self.confirm))
        except ArithmeticError:
            return None
        return amount if amount.is_finite() and amount >= 0 else None


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of `conf.toml`; what the file leaves out has the default."""

    network: Network = Network()
    data: Data = Data()
    log: Log = Log()
    clearing: Clearing = Clearing()
    paper: Paper = Paper()
    ui: Ui = Ui()
