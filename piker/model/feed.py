"""
What a backend's `stream_quotes` sends: one market's events, in the order of arrival.

A backend turns a venue's messages into these records and nothing more; `piker.data._feed_bus`
turns them into ring records, bars and blocks. Prices and sizes are `float64`, times are UTC
nanoseconds. Two clocks, always apart: `time_venue_ns` (0: the venue did not say) and
`time_recv_ns` (the run's clock; may be earlier than the venue's).
"""

from __future__ import annotations

import msgspec


class Trade(msgspec.Struct, frozen=True, gc=False):
    """A public execution; `taker_sell` says that the aggressor sold."""

    tid: int  # the venue's trade id, contiguous where the venue numbers so
    price: float
    size: float
    taker_sell: bool
    time_venue_ns: int
    time_recv_ns: int
    flags: int = 0  # RECOVERED of `piker.model.ticks`


class Quote(msgspec.Struct, frozen=True, gc=False):
    """Best bid and ask; a side without orders has price nan and size 0."""

    bid: float
    bid_size: float
    ask: float
    ask_size: float
    time_venue_ns: int
    time_recv_ns: int


class Book(msgspec.Struct, frozen=True):
    """The best levels of a book as (price, size), best first, never crossed."""

    bids: list[tuple[float, float]]
    asks: list[tuple[float, float]]
    update_id: int
    time_venue_ns: int
    time_recv_ns: int


class FeedState(msgspec.Struct, frozen=True):
    """
    How the connection to the venue fares; `state` is one of `FEED_*` of `piker.model.ticks`.

    `cause` is a sentence for a trader, empty when live. `attempt` counts connects since the last
    healthy one; `retry_in_s` is real seconds to the next. `expected_gap_s` is the longest silence,
    in market seconds, that this market has lately shown without being stale.
    """

    state: int
    cause: str = ""
    attempt: int = 0
    retry_in_s: float = 0.0
    expected_gap_s: float = 0.0


Event = Trade | Quote | Book | FeedState
