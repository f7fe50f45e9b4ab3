"""
What the page says about the feed and the tree, from what both report about themselves.

Pure: records and times in, records out. A feed is *late* when nothing came for longer than it
may take, *stale* when the daemon says so, *refused* when the venue answered no, *down* when the
venue or its daemon cannot be reached.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final, Literal

from piker.model.ticks import FEED_CONNECTING, FEED_DOWN, FEED_LIVE, FEED_STALE
from piker.ui.messages import Daemon, Load, Status
from piker.ui.sessions import SlotMap

LATE_FACTOR: Final = 5  # times the expected gap
LATE_MIN_S: Final = 1.0
LATENCY_WINDOW_S: Final = 2.0
_PACE_MIN: Final = 8  # gaps before their median means anything
_HOLLOW: Final = ("emsd", "brokerd")  # shown before they were ever started
_SHOWN: Final = ("samplerd", "datad", "emsd", "paperboi", "brokerd")
_SHUT: Final = {
    "connecting": "connecting", "stale": "stale", "refused": "stale", "down": "stale",
}  # fmt: skip

Feed = Literal["connecting", "live", "late", "stale", "refused", "down", "closed"]
_FEED_OF: Final[dict[int, Feed]] = {
    FEED_CONNECTING: "connecting",
    FEED_STALE: "stale",
    FEED_DOWN: "down",
}


class Latency:
    """The median delay, receive to here, of what came in the last two seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque(maxlen=1024)

    def add(self, now: float, delay_s: float) -> None:
        """Take one delay; the clock of a virtual run may stand, so it is never negative."""
        self._seen.append((now, max(0.0, delay_s)))

    def median_ms(self, now: float) -> float | None:
        """Return the median in milliseconds, None when nothing came."""
        while self._seen and now - self._seen[0][0] > LATENCY_WINDOW_S:
            self._seen.popleft()
        return median(delay for _, delay in self._seen) * 1e3 if self._seen else None


class Pace:
    """How often something comes: the median gap between the newest arrivals, real seconds."""

    def __init__(self) -> None:
        self._gaps: deque[float] = deque(maxlen=64)
        self._last: float | None = None

    def add(self, now: float) -> None:
        """Count an arrival at `now`."""
        if self._last is not None:
            self._gaps.append(now - self._last)
        self._last = now

    @property
    def gap_s(self) -> float | None:
        """The gap to expect; None until enough has come to say."""
        return median(self._gaps) if len(self._gaps) >= _PACE_MIN else None


def feed_status(
    event: Mapping[str, Any],
    time_recv: float,
    now: float,
    slots: SlotMap,
    speed: float = 1.0,
    seen_gap_s: float | None = None,
) -> Status:
    """
    Return the feed's part of a status record.

    `event`: the newest `state` event of the feed. `time_recv`: when the newest tick reached the
    daemon, epoch seconds of the run's clock (0 or nan: none yet), as is `now`. Ages are told in
    real seconds, `speed` market seconds each. `seen_gap_s`: how often data came lately, which
    says more than what the feed expects of any market.
    """
    state = int(event.get("state", FEED_CONNECTING))
    expected = seen_gap_s or float(event.get("expected_gap_s") or 0.0) or None
    age = max(0.0, now - time_recv) / speed if time_recv > 0 else None
    # the part in brackets is for the log: names of peers, system errors
    cause = re.sub(r" \(.*\)", "", str(event.get("cause") or ""))
    feed: Feed = _FEED_OF.get(state, "live")
    if not slots.is_open(now) and state == FEED_LIVE:
        return Status(0, "closed", age, opens=slots.next_open(now))
    if state == FEED_LIVE and age is not None:
        if age > max(LATE_MIN_S, LATE_FACTOR * (expected or 0.0)):
            feed = "late"
    elif state == FEED_CONNECTING and int(event.get("attempt") or 0) > 1:
        feed = "down"  # not at the start any more: what was lost is still lost
    if feed in ("stale", "down") and " says: " in cause:
        feed = "refused"
    elif feed == "down":
        cause = cause.partition(", waiting ")[0]  # the record has the wait by itself
    retry_in = event.get("retry_in_s")
    return Status(
        0,
        feed,
        age,
        expected,
        cause,
        attempt=int(event.get("attempt") or 0),
        retry_in=float(retry_in) if retry_in else None,
    )


def order_gate(fqme: str, feed: str, desk: str, *, is_strict: bool) -> str | None:
    """
    Return why no order of a market passes, None when one may; `desk` is the order path's own word.

    `is_strict`: a feed that is not current closes the gate (`[clearing] stale_gate`). The page
    says it before anything is sent; it is the risk gate that refuses.
    """
    if desk:
        return f"order gate closed: {desk}"
    if feed not in _SHUT or not is_strict:
        return None
    return f"order gate closed: {fqme} is {_SHUT[feed]}"


def daemon_dots(rows: Sequence[Mapping[str, Any]] | None, brokers: Sequence[str]) -> list[Daemon]:
    """
    Return a dot per daemon from the rows of `piker services`; None: no `pikerd` answers.

    The daemons that a chart needs are shown before they are up, order daemons as not started.
    """
    wanted = ["pikerd", "samplerd", *(f"datad.{broker}" for broker in brokers)]
    hollow = [Daemon(name, "none") for name in _HOLLOW]
    if rows is None:
        lost = [Daemon(name, "degraded", "unknown: no pikerd") for name in wanted[1:]]
        return [Daemon("pikerd", "down", "pikerd does not answer"), *lost, *hollow]
    by_name = {str(row["name"]): row for row in rows}
    found = [name for name in by_name if name.partition(".")[0] in _SHOWN]
    names = list(dict.fromkeys([*wanted, *sorted(found, key=_order_of)]))
    dots = [_dot(name, by_name.get(name)) for name in names]
    kinds = {name.partition(".")[0] for name in names}
    return dots + [dot for dot in hollow if dot.name not in kinds]


def _order_of(name: str) -> tuple[int, str]:
    return _SHOWN.index(name.partition(".")[0]), name


def _dot(name: str, row: Mapping[str, Any] | None) -> Daemon:
    if row is None:
        return Daemon(name, "none")
    state, cause, restarts = str(row["state"]), str(row["cause"] or ""), int(row["restarts"] or 0)
    text = cause
    if restarts:
        times = "once" if restarts == 1 else f"{restarts} times"
        text = f"{name} restarted {times}" + (f": {cause}" if cause else "")
    if state in ("ready", "served"):
        return Daemon(name, "up", text)
    return Daemon(name, "down" if state == "stopped" else "degraded", text or state)


class Progress:
    """Turns the counts of loading history into a record with the seconds that are left."""

    def __init__(self) -> None:
        self._first: dict[int, tuple[float, int]] = {}  # period -> (time, have) when it began

    def load(self, event: Mapping[str, Any], now: float) -> Load:
        """Return the page's record for a `load` event of the feed; `now` monotonic seconds."""
        period, have = int(event["period_s"]), int(event["have"])
        total = have if event.get("done") else max(have, int(event["total"]))
        began, had = self._first.setdefault(period, (now, have))
        passed, gained = now - began, have - had
        eta = (total - have) / (gained / passed) if gained > 0 and passed > 0.2 else None
        if have >= total:
            self._first.pop(period, None)
        budget = event.get("budget")
        return Load(
            0,
            period,
            have,
            total,
            str(event.get("source") or ""),
            float(budget) if budget is not None else None,
            eta,
        )
