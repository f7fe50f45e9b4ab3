"""The request budget of a venue: weights per minute of the run's clock."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from piker.venues._time import VenueClock

MINUTE_S: Final = 60


class Verdict(msgspec.Struct, frozen=True):
    """What the limiter says of one request; `retry_after_s` counts real seconds."""

    is_allowed: bool
    used: int
    retry_after_s: int


class WeightLimit:
    """Weight used in this minute of market time: the limit scales with the clock's speed."""

    def __init__(self, venue_clock: VenueClock, weight_max: int) -> None:
        self._clock = venue_clock
        self._weight_max = weight_max
        self._minute = -1
        self._used = 0
        self.refused = 0

    def spend(self, weight: int) -> Verdict:
        """Count a request; one that would pass the limit is refused and counts nothing."""
        elapsed_s = self._clock.elapsed_s()
        minute = int(elapsed_s // MINUTE_S)
        if minute != self._minute:
            self._minute, self._used = minute, 0
        if self._used + weight > self._weight_max:
            self.refused += 1
            left_s = ((minute + 1) * MINUTE_S - elapsed_s) / self._clock.speed
            return Verdict(False, self._used, max(1, math.ceil(left_s)))
        self._used += weight
        return Verdict(True, self._used, 0)
