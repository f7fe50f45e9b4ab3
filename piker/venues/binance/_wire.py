"""
Binance spot's public payloads, written from integer ticks.

One `Wire` per market holds its decimals; every method returns the bytes of one JSON payload.
Strings are put together by hand: the shapes are fixed, and a stream writes thousands a second.

Source: https://github.com/binance/binance-spot-api-docs (web-socket-streams.md, rest-api.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from itertools import repeat
from typing import Any

from piker.venues._market import MarketSpec, Rows

DIGITS = 8  # Binance writes every amount with eight decimals

Levels = Iterable[tuple[int, int]]


class Wire:
    """The writer of one market's payloads."""

    def __init__(self, spec: MarketSpec) -> None:
        self.symbol = spec.symbol
        self.stream_key = spec.symbol.lower()
        self._price_scale, self._price_form = _form(spec.price_digits)
        self._size_scale, self._size_form = _form(spec.size_digits)
        self._value_scale, self._value_form = _form(DIGITS)
        digits = spec.price_digits + spec.size_digits
        self._value_factor: int = 10 ** max(0, DIGITS - digits)
        self._value_divisor: int = 10 ** max(0, digits - DIGITS)

    def price(self, ticks: int) -> str:
        """Return a price as Binance writes it."""
        return self._price_form % divmod(ticks, self._price_scale)

    def size(self, ticks: int) -> str:
        """Return a size as Binance writes it."""
        return self._size_form % divmod(ticks, self._size_scale)

    def value(self, ticks: int) -> str:
        """Return price ticks x size ticks as an amount of the quote asset."""
        scaled = ticks * self._value_factor // self._value_divisor
        return self._value_form % divmod(scaled, self._value_scale)

    def trade(self, row: tuple[int, ...]) -> bytes:
        """Return a `@trade` event of a TRADE_DTYPE row."""
        tid, time_ms, price, size, sell = row[:5]
        return (
            f'{{"e":"trade","E":{time_ms},"s":"{self.symbol}","t":{tid},"p":"{self.price(price)}",'
            f'"q":"{self.size(size)}","T":{time_ms},"m":{_bool(sell)},"M":true}}'
        ).encode()

    def agg_trade(self, row: tuple[int, ...]) -> bytes:
        """Return an `@aggTrade` event: each trade is one taker order's, so it is its aggregate."""
        return f'{{"e":"aggTrade","E":{row[1]},"s":"{self.symbol}",'.encode() + self._aggregate(row)

    def agg_trade_row(self, row: tuple[int, ...]) -> bytes:
        """Return one REST aggregate trade."""
        return b"{" + self._aggregate(row)

    def _aggregate(self, row: tuple[int, ...]) -> bytes:
        tid, time_ms, price, size, sell = row[:5]
        return (
            f'"a":{tid},"p":"{self.price(price)}","q":"{self.size(size)}","f":{tid},"l":{tid},'
            f'"T":{time_ms},"m":{_bool(sell)},"M":true}}'
        ).encode()

    def book_ticker(self, update_id: int, bid: tuple[int, int], ask: tuple[int, int]) -> bytes:
        """Return a `@bookTicker` event."""
        return (
            f'{{"u":{update_id},"s":"{self.symbol}","b":"{self.price(bid[0])}",'
            f'"B":"{self.size(bid[1])}","a":"{self.price(ask[0])}","A":"{self.size(ask[1])}"}}'
        ).encode()

    def depth_update(
        self, time_ms: int, first_id: int, last_id: int, bids: Levels, asks: Levels
    ) -> bytes:
        """Return a `@depth` diff: levels with their new sizes, 0 for gone."""
        return (
            f'{{"e":"depthUpdate","E":{time_ms},"s":"{self.symbol}","U":{first_id},"u":{last_id},'
            f'"b":{self._levels(bids)},"a":{self._levels(asks)}}}'
        ).encode()

    def depth(self, update_id: int, bids: Levels, asks: Levels) -> bytes:
        """Return a book snapshot: REST's, and a `@depth<n>` event."""
        return (
            f'{{"lastUpdateId":{update_id},"bids":{self._levels(bids)},"asks":{self._levels(asks)}}}'
        ).encode()

    def kline_rows(self, rows: Rows, period_ms: int) -> Iterable[tuple[Any, ...]]:
        """Return REST klines of KLINE_DTYPE rows; each ends with Binance's unused field."""
        times: list[int] = rows["time_ms"].tolist()
        return zip(
            times,
            *(map(self.price, rows[name].tolist()) for name in ("open", "high", "low", "close")),
            map(self.size, rows["volume"].tolist()),
            [time_ms + period_ms - 1 for time_ms in times],
            map(self.value, rows["quote"].tolist()),
            rows["count"].tolist(),
            map(self.size, rows["buy_volume"].tolist()),
            map(self.value, rows["buy_quote"].tolist()),
            repeat("0", len(rows)),
            strict=True,
        )

    def kline(self, row: Any, interval: str, period_ms: int, now_ms: int) -> bytes:
        """Return a `@kline_<interval>` event; `x` says whether the bar is closed."""
        open_ms = int(row["time_ms"])
        first, count = int(row["first_tid"]), int(row["count"])
        last = first + count - 1 if count else -1
        return (
            f'{{"e":"kline","E":{now_ms},"s":"{self.symbol}","k":{{"t":{open_ms},'
            f'"T":{open_ms + period_ms - 1},"s":"{self.symbol}","i":"{interval}",'
            f'"f":{first},"L":{last},'
            f'"o":"{self.price(int(row["open"]))}","c":"{self.price(int(row["close"]))}",'
            f'"h":"{self.price(int(row["high"]))}","l":"{self.price(int(row["low"]))}",'
            f'"v":"{self.size(int(row["volume"]))}","n":{count},'
            f'"x":{_bool(open_ms + period_ms <= now_ms)},"q":"{self.value(int(row["quote"]))}",'
            f'"V":"{self.size(int(row["buy_volume"]))}","Q":"{self.value(int(row["buy_quote"]))}",'
            '"B":"0"}}'
        ).encode()

    def trade_row(self, row: tuple[int, ...]) -> dict[str, Any]:
        """Return one REST trade."""
        tid, time_ms, price, size, sell = row[:5]
        return {
            "id": tid,
            "price": self.price(price),
            "qty": self.size(size),
            "quoteQty": self.value(price * size),
            "time": time_ms,
            "isBuyerMaker": bool(sell),
            "isBestMatch": True,
        }

    def _levels(self, levels: Levels) -> str:
        return "[" + ",".join([f'["{self.price(p)}","{self.size(s)}"]' for p, s in levels]) + "]"


def _form(digits: int) -> tuple[int, str]:
    """Return the ticks of a whole one, and what makes a text of `divmod(ticks, that)`."""
    written = max(digits, 1)
    return 10**digits, f"%d.%0{written}d" + "0" * (DIGITS - written)


def amount(value: Decimal) -> str:
    """Return a decimal with Binance's eight decimals."""
    return f"{value:.{DIGITS}f}"


def _bool(flag: object) -> str:
    return "true" if flag else "false"
