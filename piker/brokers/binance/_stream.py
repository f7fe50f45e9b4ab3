"""
One market's combined stream as events: frames in, `piker.model.feed` records out. Pure.

A frame that cannot be right is counted and left out; it never stops the stream. What a lost or
garbled frame breaks heals by itself: the book by a new snapshot (`needs_snapshot`), the tape by
the trade ids, which are contiguous, so that the bus sees what is missing.
"""

from __future__ import annotations

import msgspec

from piker.brokers.binance import _wire
from piker.brokers.binance._book import DepthBook
from piker.errors import BadPayload, SequenceGap
from piker.model.feed import Book, Event, Quote, Trade

TID_JUMP_MAX = 10_000  # more lost trades than this at once is a garbled id, unless repeated


class StreamStats(msgspec.Struct, frozen=True):
    """Counters since the start of the feed."""

    frames: int
    trades: int
    quotes: int
    depth_updates: int
    rejected: int
    repeated: int
    trade_gaps: int
    book_gaps: int
    last_error: str


class TradeSequence:
    """
    Which trades are news, by id and time.

    A repeated or older trade is not. An id that jumps far on one connection, or that begins again
    lower at a later time (a venue started anew), is believed when the next trade follows it.
    """

    def __init__(self) -> None:
        self._tid = -1
        self._time_ns = 0
        self._doubtful_tid = -1
        self._may_jump = True
        self.repeated = 0
        self.gaps = 0

    def reconnected(self) -> None:
        """Expect a jump: trades went on while nobody listened."""
        self._may_jump = True

    def is_news(self, trade: Trade) -> bool:
        """
        Return whether to pass `trade` on.

        Raises:
          BadPayload: its id makes no sense after the one before.
        """
        step = trade.tid - self._tid
        if self._tid >= 0 and step != 1:
            if step <= 0 and trade.time_venue_ns <= self._time_ns:
                self.repeated += 1
                return False
            is_confirmed = trade.tid == self._doubtful_tid + 1
            is_near = step > 0 and (self._may_jump or step <= TID_JUMP_MAX)
            if not (is_near or is_confirmed):
                self._doubtful_tid = trade.tid
                raise BadPayload(f"binance: trade {trade.tid} after trade {self._tid}")
            self.gaps += 1
        self._tid, self._time_ns, self._doubtful_tid = trade.tid, trade.time_venue_ns, -1
        self._may_jump = False
        return True


class StreamParser:
    """Turns the messages of one market into events and keeps its book."""

    def __init__(self, symbol: str, levels: int) -> None:
        self.symbol = symbol
        self.quote: Quote | None = None
        self.refusal = ""  # the venue refused a command of ours
        self.is_ending = False  # the venue said that it will end this connection
        self.rejected = 0
        self.rejected_in_a_row = 0
        self._levels = levels
        self._book = DepthBook()
        self._trades = TradeSequence()
        self._book_time_ns = 0
        self._frames = self._trade_count = self._quotes = self._depths = self._book_gaps = 0
        self._last_error = ""
        name = symbol.lower()
        self.streams = [f"{name}@trade", f"{name}@bookTicker", f"{name}@depth@100ms"]

    @property
    def needs_snapshot(self) -> bool:
        """Whether the book waits for a depth snapshot."""
        return not self._book.is_synced

    @property
    def book_update_id(self) -> int:
        """The last update in the book."""
        return self._book.update_id

    def reconnected(self) -> None:
        """Begin a new connection: the book starts over, trade ids go on."""
        self._book.reset()
        self._trades.reconnected()
        self.refusal = ""
        self.is_ending = False
        self.rejected_in_a_row = 0

    def read(self, messages: list[bytes], time_recv_ns: int) -> list[Event]:
        """Return the events of the messages of one socket read, at most one `Book`, at the end."""
        events: list[Event] = []
        has_new_book = False
        for raw in messages:
            self._frames += 1
            try:
                has_new_book |= self._read_one(raw, time_recv_ns, events)
                self.rejected_in_a_row = 0
            except BadPayload as err:
                self.rejected += 1
                self.rejected_in_a_row += 1
                self._last_error = str(err)
        if has_new_book and self._book.is_synced:
            events.append(self._top(time_recv_ns))
        return events

    def load_snapshot(self, snapshot: _wire.DepthSnapshot, time_recv_ns: int) -> list[Event]:
        """
        Start the book and return its top.

        Raises:
          SequenceGap: the snapshot does not join the updates received; take another one.
        """
        try:
            self._book.load(snapshot)
        except SequenceGap:
            self._book_gaps += 1
            raise
        return [self._top(time_recv_ns)]

    def statistics(self) -> StreamStats:
        """Return the counters."""
        return StreamStats(
            frames=self._frames,
            trades=self._trade_count,
            quotes=self._quotes,
            depth_updates=self._depths,
            rejected=self.rejected,
            repeated=self._trades.repeated,
            trade_gaps=self._trades.gaps,
            book_gaps=self._book_gaps,
            last_error=self._last_error,
        )

    def _read_one(self, raw: bytes, time_recv_ns: int, events: list[Event]) -> bool:
        """Append what one frame means; return whether the book changed."""
        frame = _wire.parse_envelope(raw)
        trade_stream, quote_stream, depth_stream = self.streams
        if frame.stream == trade_stream:
            trade = _wire.parse_trade(frame.data, self.symbol, time_recv_ns)
            if self._trades.is_news(trade):
                self._trade_count += 1
                events.append(trade)
        elif frame.stream == quote_stream:
            self.quote, _ = _wire.parse_book_ticker(frame.data, self.symbol, time_recv_ns)
            self._quotes += 1
            events.append(self.quote)
        elif frame.stream == depth_stream:
            return self._read_depth(_wire.parse_depth(frame.data, self.symbol))
        else:
            self._read_other(frame, raw)
        return False

    def _read_depth(self, frame: _wire.DepthFrame) -> bool:
        self._depths += 1
        self._book_time_ns = frame.E * _wire.NS_PER_MS
        try:
            return self._book.apply(frame)
        except SequenceGap as err:
            self._book_gaps += 1
            self._last_error = str(err)
            return False

    def _read_other(self, frame: _wire.Envelope, raw: bytes) -> None:
        if frame.error is not None:
            self.refusal = str(frame.error.get("msg") or frame.error)[:200]
        elif frame.stream == "!serverShutdown":
            self.is_ending = True
        elif frame.stream:
            raise BadPayload(f"binance: stream {frame.stream!r}, expected {self.streams}", raw)
        elif frame.id is None:
            if _wire.parse_event_name(raw) != "serverShutdown":
                raise BadPayload("binance: neither a stream's frame nor an answer", raw)
            self.is_ending = True

    def _top(self, time_recv_ns: int) -> Book:
        book, n = self._book, self._levels
        return Book(
            book.bids.top(n), book.asks.top(n), book.update_id, self._book_time_ns, time_recv_ns
        )
