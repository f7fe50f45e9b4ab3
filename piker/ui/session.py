"""
One page's connection as a state machine without I/O: what is followed, owed and sent next.

The caller feeds it the page's messages (`receive`) and asks what to write (`next_frame`), in the
order control, newest values, ticks, blocks. It must never queue deltas: per market it keeps one
mark of what changed, and sends the newest state when the page has given a credit back. Only
control messages queue, up to `CONTROL_MAX`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np

from piker.errors import PikerError
from piker.ui import frames, messages
from piker.ui.channel import Channel, Wanted, merged_answer, must_follow
from piker.ui.ladder import RUNGS, view_level
from piker.ui.messages import Answer, Close, Err, Gap, Live, Open, Request, Want
from piker.ui.picture import Change, HistoryChanged, Picture, Renewed, TailMoved

CREDITS: Final = 2  # newest-value frames under way: one on the wire, one being painted
CONTROL_MAX: Final = 256
CHANNELS_MAX: Final = 64
QUIET_MAX_S: Final = 10.0  # a visible page that owes an ack this long is asked, then dropped


class SessionOver(PikerError):
    """The connection must be closed with `code`."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Session:
    """The protocol of one page; `wake` is called when there is something to write."""

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        self.wake = wake
        self.have: dict[str, tuple[int, int]] = {}
        self.is_hidden = False
        self._channels: dict[int, Channel] = {}
        self._control: deque[Answer] = deque()
        self._credits = CREDITS
        self._seq = 0
        self._oldest_unacked: float | None = None
        self._turn = 0

    @property
    def has_market(self) -> bool:
        """Whether the page follows a market that is attached."""
        return any(channel.picture for channel in self._channels.values())

    def picture_of(self, chan: int) -> Picture | None:
        """Return the market of a channel; None when it is closed or not attached yet."""
        channel = self._channels.get(chan)
        return channel.picture if channel else None

    def follows(self, chan: int, fqme: str) -> bool:
        """Whether the channel shows this market."""
        picture = self.picture_of(chan)
        return picture is not None and picture.facts.fqme == fqme

    # ---- from the page

    def receive(self, message: str | bytes, now: float, clock_now: float) -> Request | None:
        """
        Take a message; return it when the caller has to act on it, None when all is done here.

        `now` is a monotonic time in seconds, `clock_now` the run's clock.

        Raises:
          SessionOver: too long, or not a message of this protocol.
        """
        if len(message) > messages.MESSAGE_MAX:
            raise SessionOver(4400, f"message: length was {len(message)}, expected ≤ 16 kB")
        try:
            request = messages.parse_request(message)
        except (msgspec.DecodeError, UnicodeDecodeError) as err:
            raise SessionOver(4400, f"message: {err}") from None
        match request:
            case messages.Ack(seq):
                self._take_ack(seq, now)
            case Want():
                self._take_want(request)
            case Live():
                self._take_live(request)
            case messages.Vis(hidden):
                self._take_vis(hidden)
            case messages.Ping(t):
                self.send(messages.Pong(t, clock_now))
            case Close(chan):
                self._close(chan)
                return request
            case Open(chan, fqme):
                return request if self._open(chan, fqme) else None
            case _:
                return request
        self.wake()
        return None

    def _open(self, chan: int, fqme: str) -> bool:
        self._close(chan)
        if len(self._channels) >= CHANNELS_MAX:
            text = f"{fqme}: {CHANNELS_MAX} markets are open on this page, close one first."
            self.send(Err("open", "bad_request", text, chan))
            return False
        self._channels[chan] = Channel(chan, fqme)
        return True

    def _close(self, chan: int) -> None:
        channel = self._channels.pop(chan, None)
        if channel and channel.picture and channel.listener:
            channel.picture.listeners.discard(channel.listener)

    def close(self) -> None:
        """Stop following everything."""
        for chan in tuple(self._channels):
            self._close(chan)

    def _take_ack(self, seq: int, now: float) -> None:
        for channel in self._channels.values():
            for sent in [s for s in channel.unacked if s <= seq]:
                del channel.unacked[sent]
        owed = sum(len(channel.unacked) for channel in self._channels.values())
        self._credits = max(0, CREDITS - owed)
        self._oldest_unacked = now if owed else None

    def _take_want(self, want: Want) -> None:
        channel = self._channels.get(want.chan)
        is_sane = want.period in RUNGS and len(want.ks) <= messages.WANT_MAX
        if channel is None or not is_sane:
            text = f"want: period was {want.period}, expected one of {RUNGS} on an open channel."
            self.send(Err("want", "bad_request", text, want.chan, want.id))
            return
        rung = view_level(want.period, want.t0, want.t1, want.px)
        if older := channel.wants.pop(rung, None):
            self._finish(channel, older)
        channel.wants[rung] = Wanted(want.id, rung, deque(want.ks))

    def _finish(self, channel: Channel, want: Wanted) -> None:
        self.send(messages.Done(channel.chan, want.id, want.rung, want.sent, want.missing))

    def _take_live(self, live: Live) -> None:
        channel = self._channels.get(live.chan)
        rungs = [rung for rung in live.rungs if rung in RUNGS]
        if channel is None:
            self.send(Err("live", "bad_request", "live: this channel is not open.", live.chan))
            return
        channel.rungs = rungs
        channel.has_ticks = live.ticks
        channel.ticks_sent = channel.picture.ticks_seen if channel.picture else 0
        channel.is_dirty = True

    def _take_vis(self, hidden: bool) -> None:
        self.is_hidden = hidden
        if not hidden:
            for channel in self._channels.values():
                channel.is_dirty = True

    # ---- from the markets

    def attach(self, chan: int, picture: Picture) -> None:
        """Answer `open` of `chan` with the market; nothing when the page has closed it since."""
        channel = self._channels.get(chan)
        if channel is None or channel.picture is not None:
            return

        def listen(change: Change) -> None:
            self._on_change(channel, picture, change)

        channel.picture, channel.listener = picture, listen
        picture.listeners.add(listen)
        self.send(picture.market(chan, self.have.pop(channel.fqme, None)))
        for load in picture.loads.values():
            self.send(msgspec.structs.replace(load, chan=chan))
        if picture.status:
            self.send(msgspec.structs.replace(picture.status, chan=chan))
        channel.is_dirty = bool(channel.rungs)
        self.wake()

    def refuse(self, chan: int, err: Err) -> None:
        """Answer `open` of `chan` with a refusal."""
        self._close(chan)
        self.send(err)

    def _on_change(self, channel: Channel, picture: Picture, change: Change) -> None:
        match change:
            case TailMoved(since):
                channel.since = min(channel.since, since)
                channel.is_dirty = True
                if self.is_hidden or not self._credits:
                    return
            case HistoryChanged():
                self.send(picture.dirty(channel.chan, change))
            case Renewed():
                channel.since = np.inf
                channel.unacked = dict.fromkeys(channel.unacked, np.inf)
                channel.is_dirty = True
                self.send(picture.market(channel.chan, None))
            case Gap(t0, t1, kind, n, filled):
                self.send(messages.GapNote(channel.chan, t0, t1, kind, n, filled))
            case _:
                self.send(msgspec.structs.replace(change, chan=channel.chan))
        self.wake()

    # ---- to the page

    def send(self, answer: Answer) -> None:
        """Queue a control message; one that waits and says less of the same thing is replaced."""
        for i in reversed(range(len(self._control))):
            if merged := merged_answer(self._control[i], answer):
                self._control[i] = merged
                return
            if must_follow(self._control[i], answer):
                break
        self._control.append(answer)
        self.wake()

    @property
    def is_overflowing(self) -> bool:
        """Whether more control messages wait than a live page ever leaves."""
        return len(self._control) > CONTROL_MAX

    def is_quiet(self, now: float) -> bool:
        """Whether a visible page has owed an ack for longer than `QUIET_MAX_S`."""
        since = self._oldest_unacked
        return not self.is_hidden and since is not None and now - since > QUIET_MAX_S

    def next_frame(self, now: float, clock_now: float) -> str | bytes | None:
        """
        Return what to write next, None when nothing is due.

        Raises:
          SessionOver: `CONTROL_MAX` control messages wait.
        """
        if self.is_overflowing:
            raise SessionOver(4408, "the page does not read its messages")
        if self._control:
            return messages.pack_answer(self._control.popleft())
        channels = list(self._channels.values())
        self._turn += 1
        turn = self._turn % len(channels) if channels else 0
        for channel in channels[turn:] + channels[:turn]:
            if channel.owes_ticks:
                return self._ticks(channel, clock_now)
            is_due = channel.is_dirty and channel.rungs and self._credits and not self.is_hidden
            if is_due and channel.picture:
                return self._tail(channel, channel.picture, now, clock_now)
        for channel in channels:
            while channel.wants:
                frame = self._block(channel)
                if frame is not None:
                    return frame
        return None

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def _tail(self, channel: Channel, picture: Picture, now: float, clock_now: float) -> bytes:
        since = min((channel.since, *channel.unacked.values()))
        seq = self._next_seq()
        channel.unacked[seq] = channel.since
        channel.since = np.inf
        channel.is_dirty = False
        channel.owes_ticks = channel.has_ticks and picture.ticks_seen > channel.ticks_sent
        self._credits -= 1
        if self._oldest_unacked is None:
            self._oldest_unacked = now
        rows = picture.tail_rows(channel.rungs, since)
        return frames.pack_tail(
            picture.l1, rows, chan=channel.chan, seq=seq, gen=picture.gen, ver=picture.ver,
            sent_at=clock_now,
        )  # fmt: skip

    def _ticks(self, channel: Channel, clock_now: float) -> bytes:
        picture = channel.picture
        assert picture is not None
        channel.owes_ticks = False
        ticks, lost = picture.ticks_since(channel.ticks_sent)
        channel.ticks_sent = picture.ticks_seen
        return frames.pack_ticks(
            ticks[:3], ticks[3].astype("u4"), chan=channel.chan, seq=self._next_seq(),
            gen=picture.gen, ver=picture.ver, sent_at=clock_now, lost=lost,
        )  # fmt: skip

    def _block(self, channel: Channel) -> str | bytes | None:
        rung, want = next(iter(channel.wants.items()))
        picture = channel.picture
        while want.keys:
            key = want.keys.popleft()
            columns, flags = picture.block(rung, key) if picture else (np.empty((6, 0)), 0)
            if picture is None or not columns.shape[1]:
                want.missing.append(key)
                continue
            want.sent += 1
            return frames.pack_block(
                columns, chan=channel.chan, seq=self._next_seq(), gen=picture.gen, rung=rung,
                key=key, ver=picture.ver, rev=picture.rev, flags=flags,
            )  # fmt: skip
        del channel.wants[rung]
        self._finish(channel, want)
        return messages.pack_answer(self._control.popleft())
