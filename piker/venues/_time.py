"""A venue's own clock: the run's virtual one, the real one, or one set by a tape as it plays."""

from __future__ import annotations

from piker import clock
from piker.clock import NS, ClockSpec


class VenueClock:
    """
    The time at the venue. With a spec it is the virtual clock that all processes of a run share.

    It does not go through `clock.use_source`, so that a venue and the code under test can live in
    one process with a clock each.
    """

    def __init__(self, spec: ClockSpec | None) -> None:
        self.spec = spec
        self.speed = 1.0 if spec is None else spec.speed

    def now_ns(self) -> int:
        """Return the venue's time in UTC nanoseconds."""
        if self.spec is None:
            return clock.now_ns()
        passed = max(0, clock.monotonic_ns() - self.spec.anchor_ns)
        return self.spec.base_ns + int(passed * self.spec.speed)

    def elapsed_s(self) -> float:
        """Return market seconds since some fixed point; unlike the time it never stands still."""
        return clock.monotonic_ns() / NS * self.speed


class PacedClock(VenueClock):
    """A clock that a player sets: each frame's own time as it is played."""

    def __init__(self, base_ns: int) -> None:
        super().__init__(None)
        self.time_ns = base_ns

    def now_ns(self) -> int:
        """Return the time that has been played."""
        return self.time_ns
