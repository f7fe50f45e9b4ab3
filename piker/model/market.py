"""
Markets, assets and the fqme grammar: which thing trades where, and its increments.

    <pair>[.<venue>][.<suffix token>...].<broker>          all lower case
    btcusdt.spot.binance   mnq.cme.20261218.ib   tsla.cboe.20230324.200c.ib

Prices and sizes of orders and ledgers are `Decimal`; a value is *snapped* to a multiple of the
market's tick (0.25 grids included), never merely rounded to a number of digits.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from functools import cached_property, lru_cache
from typing import Any, Literal

import msgspec

ASSET_TYPES = frozenset(
    {
        "stock", "bond", "crypto", "fiat", "commodity",
        "swap", "future", "continuous_future", "option", "futures_option",
        "perpetual_future", "crypto_future", "crypto_currency",
        "index", "cfd", "mutual_fund", "warrant", "bag", "unknown",
    }
)  # fmt: skip


ONE = Decimal(1)


def dec_digits(value: Decimal | str | int) -> int:
    """Return how many decimals `value` needs: 0.010 -> 2, 0.25 -> 2, 5 -> 0, 1E+2 -> 0."""
    exponent = Decimal(str(value)).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def plain_text(value: Decimal) -> str:
    """Return a number with its digits, no exponent and no needless zeros: 1.50E-7 -> 0.00000015."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def digits_to_dec(digits: int) -> Decimal:
    """Return the increment of `digits` decimals: 2 -> 0.01; 0 -> 0, which means unknown."""
    return Decimal(1).scaleb(-digits) if digits > 0 else Decimal(0)


def snap(value: Decimal | str | float, tick: Decimal) -> Decimal:
    """
    Return the multiple of `tick` nearest to `value` (ties to even), with the tick's digits.

    A tick of 0 means unknown: the value is returned as it is. Floats are read by their shortest
    decimal form.
    """
    exact = value if isinstance(value, Decimal) else Decimal(str(value))
    if not tick:
        return exact
    steps = (exact / tick).quantize(ONE, rounding=ROUND_HALF_EVEN)
    return (steps * tick).quantize(_last_digit(tick))


@lru_cache(maxsize=256)  # the same few ticks, price after price
def _last_digit(tick: Decimal) -> Decimal:
    """Return one unit of the last decimal that `tick` needs: 0.25 -> 0.01."""
    return ONE.scaleb(-dec_digits(tick))


def unpack_fqme(fqme: str, broker: str | None = None) -> tuple[str, str, str, str]:
    """
    Split `fqme` into `(broker, pair, venue, suffix)`; missing parts are ''.

    With `broker` given, three tokens that do not end in it read as pair, venue, suffix.

    Raises:
      ValueError: fewer than two tokens, or an empty one.
    """
    tokens = fqme.lower().split(".")
    if len(tokens) < 2 or not all(tokens):
        raise ValueError(f"Invalid fqme: {fqme!r}, expected <pair>[.<venue>][.<suffix>].<broker>")
    if broker and len(tokens) == 3 and tokens[2] != broker:
        return broker, tokens[0], tokens[1], tokens[2]
    pair, *middle, last = tokens
    venue = middle[0] if middle else ""
    return last, pair, venue, ".".join(middle[1:])


class Asset(msgspec.Struct, frozen=True, omit_defaults=True):
    """What changes hands: a currency, coin, share or contract; `tx_tick` is its smallest amount."""

    name: str
    atype: str
    tx_tick: Decimal
    info: dict[str, Any] | None = None

    def __str__(self) -> str:
        return self.name

    def quantize(self, size: Decimal | str | float) -> Decimal:
        """Return `size` snapped to the smallest transferable amount."""
        return snap(size, self.tx_tick)

    @classmethod
    def guess_from_mkt_ep_key(cls, key: str, atype: str | None = None) -> Asset:
        """Return an unresolved asset named by what stands before the first `/` or `.` of `key`."""
        name = key.split("/")[0].split(".")[0]
        return cls(name=name, atype=atype or "unknown", tx_tick=Decimal("0.01"))

    @classmethod
    def from_msg(cls, msg: dict[str, Any]) -> Asset:
        """Return the asset that `to_dict` wrote."""
        return msgspec.convert(msg, cls)

    def to_dict(self) -> dict[str, Any]:
        """Return the wire and TOML form: decimals as strings, empty `info` left out."""
        out = {"name": self.name, "atype": self.atype, "tx_tick": str(self.tx_tick)}
        return out | ({"info": self.info} if self.info else {})


class MktPair(msgspec.Struct, frozen=True, omit_defaults=True, dict=True):
    """
    One tradable market: `dst` is bought with `src`, at `venue`, through `broker`.

    `price_tick` and `size_tick` are the smallest increments (`size_tick` 0: unknown);
    `bs_mktid` is the broker's own id of this market, one to one with `fqme`.
    """

    dst: Asset | str
    price_tick: Decimal
    size_tick: Decimal
    bs_mktid: str
    broker: str
    src: Asset | str = ""
    venue: str = ""
    expiry: str = ""
    contract_info: list[str] | None = None
    _atype: str = ""
    _fqme_without_src: bool = False

    def __str__(self) -> str:
        return self.fqme

    @cached_property  # asked for with each order and each batch of ticks
    def fqme(self) -> str:
        """The full address, for example `btcusdt.spot.binance`."""
        return self.get_fqme()

    @property
    def bs_fqme(self) -> str:
        """The address without its broker, for example `btcusdt.spot`."""
        return self.get_bs_fqme()

    @property
    def key(self) -> str:
        """The pair token, for example `btcusdt`."""
        return self.pair()

    @property
    def suffix(self) -> str:
        """Expiry and contract tokens joined by dots."""
        return ".".join(token for token in (self.expiry, *(self.contract_info or ())) if token)

    @property
    def resolved(self) -> bool:
        """Whether `dst` is a known asset rather than a guessed name."""
        return isinstance(self.dst, Asset)

    @property
    def type_key(self) -> str:
        """The asset type, or `UNKNOWN`."""
        return self._atype or (self.dst.atype if isinstance(self.dst, Asset) else "UNKNOWN")

    @property
    def price_tick_digits(self) -> int:
        """Decimals that a price of this market needs."""
        return dec_digits(self.price_tick)

    @property
    def size_tick_digits(self) -> int:
        """Decimals that a size of this market needs."""
        return dec_digits(self.size_tick)

    def pair(self, delim_char: str | None = None) -> str:
        """Return `dst<delim>src`, or `dst` alone for markets that are named so."""
        if self._fqme_without_src or not self.src:
            return str(self.dst)
        return f"{self.dst}{delim_char or ''}{self.src}"

    def get_fqme(self, without_src: bool = False, delim_char: str | None = None) -> str:
        """Return the full address; empty tokens are skipped."""
        return f"{self.get_bs_fqme(without_src, delim_char)}.{self.broker}".lower()

    def get_bs_fqme(self, without_src: bool = False, delim_char: str | None = None) -> str:
        """Return the address without its broker."""
        key = str(self.dst) if without_src else self.pair(delim_char)
        return ".".join(token for token in (key, self.venue, self.suffix) if token).lower()

    def quantize(
        self, value: Decimal | str | float, quantity_type: Literal["price", "size"] = "size"
    ) -> Decimal:
        """Return `value` snapped to the market's price or size tick."""
        return snap(value, self.price_tick if quantity_type == "price" else self.size_tick)

    def to_dict(self) -> dict[str, Any]:
        """Return the wire and TOML form: ticks as strings, empty fields left out."""
        out: dict[str, Any] = {
            "dst": self.dst.to_dict() if isinstance(self.dst, Asset) else self.dst,
            "price_tick": str(self.price_tick),
            "size_tick": str(self.size_tick),
            "bs_mktid": self.bs_mktid,
            "broker": self.broker,
            "src": self.src.to_dict() if isinstance(self.src, Asset) else self.src,
            "venue": self.venue,
            "expiry": self.expiry,
            "contract_info": self.contract_info,
            "_atype": self._atype,
            "_fqme_without_src": self._fqme_without_src,
        }
        return {name: value for name, value in out.items() if value or name == "size_tick"}

    @classmethod
    def from_msg(cls, msg: dict[str, Any]) -> MktPair:
        """
        Return the market that `to_dict` wrote.

        Raises:
          msgspec.ValidationError: a field is missing or of another type.
        """
        return msgspec.convert(msg, cls)

    @classmethod
    def from_fqme(
        cls,
        fqme: str,
        price_tick: Decimal | str,
        size_tick: Decimal | str,
        bs_mktid: str,
        broker: str | None = None,
        **fields: Any,
    ) -> MktPair:
        """
        Return an unresolved market read from its address: `dst` is guessed, `src` unknown.

        Raises:
          ValueError: `venue` or `expiry` is given and differs from the address.
        """
        if broker and not fqme.lower().endswith(f".{broker}"):
            fqme = f"{fqme}.{broker}"
        found_broker, pair, venue, suffix = unpack_fqme(fqme, broker)
        expiry, *contract_info = suffix.split(".") if suffix else [""]
        for name, value in (("venue", venue), ("expiry", expiry)):
            if fields.setdefault(name, value) != value:
                raise ValueError(f"{fqme}: {name} was {fields[name]!r}, expected {value!r}")
        return cls(
            dst=Asset.guess_from_mkt_ep_key(pair),
            price_tick=Decimal(str(price_tick)),
            size_tick=Decimal(str(size_tick)),
            bs_mktid=bs_mktid,
            broker=found_broker,
            contract_info=contract_info or None,
            **fields,
        )
