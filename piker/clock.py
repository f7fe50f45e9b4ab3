"""
The one source of time and randomness outside kernels, which take both as arguments.

A run has one clock: the real one, or a virtual one `(base_ns, anchor_ns, speed)` where
`now = base + (CLOCK_MONOTONIC - anchor) * speed`; before `anchor` it stands at `base`. Every
process of a run reads the same triple, so they agree without a message. Stamps use this
clock; bounds on waiting (time-outs, backoff) use real seconds through trio.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from uuid import UUID

import msgspec
import trio

from piker.errors import ConfigError

NS = 1_000_000_000


class ClockSpec(msgspec.Struct, frozen=True):
    """A virtual clock: `base_ns` UTC at `anchor_ns` of CLOCK_MONOTONIC, then at `speed`."""

    base_ns: int
    anchor_ns: int
    speed: float

    def __str__(self) -> str:
        return f"{self.base_ns},{self.anchor_ns},{self.speed:g}"


def parse_spec(text: str) -> ClockSpec:
    """
    Return the clock that `str(ClockSpec)` wrote: `BASE_NS,ANCHOR_NS,SPEED`.

    Raises:
      ConfigError: not three numbers, or a speed that is not positive.
    """
    try:
        base, anchor, speed = text.split(",")
        spec = ClockSpec(int(base), int(anchor), float(speed))
    except ValueError:
        raise ConfigError(
            f"clock: was {text!r}, expected BASE_NS,ANCHOR_NS,SPEED"
            " as `piker venue serve --json` prints"
        ) from None
    if not 0 < spec.speed < 1e6:
        raise ConfigError(f"clock: speed was {spec.speed:g}, expected above 0 and below 1000000")
    return spec


_source: Callable[[], ClockSpec | None] = lambda: None  # noqa: E731
_rng = random.SystemRandom()


def use_source(source: Callable[[], ClockSpec | None]) -> None:
    """Let `source` say, at each call, which clock the run has (None: the real one)."""
    global _source
    _source = source


def spec() -> ClockSpec | None:
    """Return the run's virtual clock, or None when it runs on real time."""
    return _source()


def speed() -> float:
    """Return how many market seconds pass in one real second."""
    virtual = _source()
    return 1.0 if virtual is None else virtual.speed


def now_ns() -> int:
    """Return the run's time in UTC nanoseconds since the epoch."""
    virtual = _source()
    if virtual is None:
        return time.time_ns()
    passed = max(0, time.monotonic_ns() - virtual.anchor_ns)
    return virtual.base_ns + int(passed * virtual.speed)


def now_s() -> float:
    """Return the run's time in UTC seconds since the epoch."""
    return now_ns() / NS


def monotonic_ns() -> int:
    """Return real nanoseconds of CLOCK_MONOTONIC: for durations, the same in every process."""
    return time.monotonic_ns()


async def sleep_until_ns(when_ns: int) -> None:
    """Sleep until the run's clock reads `when_ns`; returns at once when that is past."""
    while (left_ns := when_ns - now_ns()) > 0:  # noqa: ASYNC110 - no event marks a time
        await trio.sleep(min(left_ns / NS / speed(), 3600.0) + 1e-4)
    await trio.lowlevel.checkpoint()


def rng() -> random.Random:
    """Return the process's source of randomness (seeded by the operating system)."""
    return _rng


def jitter(seconds: float, share: float = 0.3) -> float:
    """Return `seconds` changed at random by at most `share` of it, so that retries spread."""
    return seconds * (1 + share * (2 * _rng.random() - 1))


def new_id() -> str:
    """Return a random 128-bit id as 32 lower-case hex characters."""
    return UUID(int=_rng.getrandbits(128), version=4).hex
