"""How fast Binance's frames become events on one core, beside untyped decoding of the same."""

from __future__ import annotations

import json
from collections.abc import Iterator

from record import Result, best_s, compare

from piker.brokers.binance._stream import StreamParser

FRAMES = 20_000


def trade_frames() -> list[bytes]:
    """Return `FRAMES` contiguous trades as the venue writes them."""
    return [
        (
            b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT",'
            b'"t":%d,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}'
            % i
        )
        for i in range(FRAMES)
    ]


def depth_frames() -> list[bytes]:
    """Return updates of twenty levels a side, each joining the one before."""
    levels = b",".join(b'["%d.00","1.5"]' % (61_000 - i) for i in range(20))
    return [
        (
            b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1723161255343,'
            b'"s":"BTCUSDT","U":%d,"u":%d,"b":[%b],"a":[["61500.00","%d.0"]]}}'
            % (2 * i + 1, 2 * i + 2, levels, i % 9)
        )
        for i in range(FRAMES // 10)
    ]


def parse(frames: list[bytes]) -> None:
    """Turn `frames` into events, eight to a socket read."""
    parser = StreamParser("BTCUSDT", levels=20)
    for i in range(0, len(frames), 8):
        parser.read(frames[i : i + 8], 1)


def decode(frames: list[bytes]) -> None:
    """Decode `frames` with the standard library, numbers still text."""
    for raw in frames:
        json.loads(raw)


def measure() -> Iterator[Result]:
    """Yield frames a second for trades and for book updates."""
    for name, frames in (("trade", trade_frames()), ("book update", depth_frames())):
        ours = len(frames) / best_s(lambda: parse(frames))
        peer = len(frames) / best_s(lambda: decode(frames))
        yield compare(
            f"binance {name} frames parsed", ours, "1/s", "json.loads", peer, target=1.0,
            smaller_is_better=False,
        )  # fmt: skip
