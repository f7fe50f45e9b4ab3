"""
Binance's names and listings as markets: which fqme is which symbol, and its increments. Pure.

    btcusdt.spot.binance   the full address; btcusdt.binance, btcusdt.spot and BTCUSDT mean it too

Only spot is served. USDⓈ-M names (`btcusdt.usdtm.perp`) are recognised so that the refusal can
say so.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

import msgspec
from rapidfuzz import fuzz, process, utils

from piker.brokers.binance._wire import ExchangeInfo, SymbolInfo
from piker.errors import SymbolNotFound
from piker.model.market import Asset, MktPair

BROKER = "binance"
VENUE = "spot"
MATCHES_MAX = 5
SCORE_MIN = 50

_FUTURES = re.compile(r"(usd[tc]|usd)m\b|_\d{6}$")


class Pair(msgspec.Struct, frozen=True):
    """One spot market as the venue lists it, reduced to what piker uses."""

    symbol: str
    status: str
    base: str
    quote: str
    base_precision: int
    quote_precision: int
    price_tick: Decimal
    size_tick: Decimal
    ns_path: str = f"{__name__}:Pair"

    @property
    def bs_mktid(self) -> str:
        """The venue-wide id, for example `BTCUSDT.SPOT`."""
        return f"{self.symbol}.{VENUE.upper()}"

    @property
    def bs_fqme(self) -> str:
        """The address without its broker, for example `btcusdt.spot`."""
        return f"{self.symbol}.{VENUE}".lower()

    @property
    def is_trading(self) -> bool:
        """Whether the market is open now."""
        return self.status == "TRADING"


def parse_name(text: str) -> str:
    """
    Return the venue's symbol for any accepted form of a market's name.

    Raises:
      SymbolNotFound: no name, or one of a market that is not spot.
    """
    tokens = [token for token in text.strip().lower().split(".") if token]
    if tokens and tokens[-1] == BROKER and len(tokens) > 1:
        tokens.pop()
    if not tokens:
        raise SymbolNotFound(f"{BROKER}: {text!r} names no market", broker=BROKER)
    pair, *rest = tokens
    if _FUTURES.search(".".join(tokens)) or "perp" in rest:
        spot = re.sub(r"_\d{6}$", "", pair)
        raise SymbolNotFound(
            f"{BROKER}: {text} is a USDⓈ-M future and only spot markets are served; "
            f"try {spot}.{VENUE}.{BROKER}",
            broker=BROKER,
            matches=(f"{spot}.{VENUE}.{BROKER}",),
        )
    if rest not in ([], [VENUE]):
        raise SymbolNotFound(
            f"{BROKER}: {text} names venue {'.'.join(rest)!r}, expected {VENUE!r}",
            broker=BROKER,
            matches=(f"{pair}.{VENUE}.{BROKER}",),
        )
    return pair.replace("/", "").upper()


def make_pair(info: SymbolInfo) -> Pair | None:
    """Return the pair of one listing entry, None when its increments are missing or no numbers."""
    ticks = {entry.filterType: entry for entry in info.filters}
    price, lot = ticks.get("PRICE_FILTER"), ticks.get("LOT_SIZE")
    if price is None or lot is None or not re.fullmatch(r"[\w-]{1,50}", info.symbol):
        return None
    try:
        price_tick, size_tick = _tick(price.tickSize), _tick(lot.stepSize)
    except (InvalidOperation, ValueError):
        return None
    return Pair(
        symbol=info.symbol,
        status=info.status,
        base=info.baseAsset,
        quote=info.quoteAsset,
        base_precision=info.baseAssetPrecision,
        quote_precision=info.quoteAssetPrecision,
        price_tick=price_tick,
        size_tick=size_tick,
    )


def _tick(text: str) -> Decimal:
    tick = Decimal(text).normalize()
    if not tick.is_finite() or not Decimal("1e-18") <= tick < Decimal("1e12"):
        raise ValueError(text)
    return tick


def make_pairs(info: ExchangeInfo) -> dict[str, Pair]:
    """Return the spot markets of a listing by symbol; entries that make no sense are left out."""
    pairs = (make_pair(entry) for entry in info.symbols if entry.isSpotTradingAllowed)
    return {pair.symbol: pair for pair in pairs if pair is not None}


def make_asset(name: str, precision: int) -> Asset:
    """Return a coin whose smallest amount has `precision` decimals."""
    return Asset(name.lower(), "crypto_currency", Decimal(1).scaleb(-precision))


def make_market(pair: Pair) -> MktPair:
    """Return the resolved market of `pair`."""
    return MktPair(
        dst=make_asset(pair.base, pair.base_precision),
        src=make_asset(pair.quote, pair.quote_precision),
        price_tick=pair.price_tick,
        size_tick=pair.size_tick,
        bs_mktid=pair.symbol,
        broker=BROKER,
        venue=VENUE,
    )


def search_pairs(pairs: dict[str, Pair], text: str, limit: int = 30) -> list[tuple[Pair, float]]:
    """
    Return the pairs whose symbols are most like `text` with their scores (0-100), best first.

    Blank text finds nothing. Separators in `text` do not count: `btc/usdt` finds BTCUSDT.
    """
    wanted = re.sub(r"[^a-z0-9]", "", utils.default_process(text.split(".")[0][:64]))
    if not wanted:
        return []
    names = {symbol: symbol.lower() for symbol in pairs}
    hits = process.extract(wanted, names, scorer=fuzz.WRatio, score_cutoff=SCORE_MIN, limit=None)

    def rank(hit: tuple[str, float, str]) -> tuple[bool, bool, float, int, str]:
        name, score, symbol = hit
        return (name != wanted, not name.startswith(wanted), -score, len(name), symbol)

    return [(pairs[symbol], score) for _, score, symbol in sorted(hits, key=rank)[:limit]]


def closest(pairs: dict[str, Pair], text: str) -> tuple[str, ...]:
    """Return the full addresses most like `text`, best first."""
    return tuple(f"{pair.bs_fqme}.{BROKER}" for pair, _ in search_pairs(pairs, text, MATCHES_MAX))


def not_found(pairs: dict[str, Pair], text: str) -> SymbolNotFound:
    """Return the error for an unknown market, with the closest known names."""
    matches = closest(pairs, text)
    hint = f"; closest: {', '.join(matches)}" if matches else ""
    return SymbolNotFound(
        f"{BROKER}: no market is named {text}{hint}", broker=BROKER, matches=matches
    )
