"""What one bench says, and how to time it: shared by the files beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec


class Result(msgspec.Struct, frozen=True):
    """
    One measured value beside its peer's.

    `ratio` is ours to the peer's in the sense that larger is better for us; `target` is what it
    should reach. `ok` is None where there is nothing to compare with.
    """

    name: str
    value: float
    unit: str
    peer: str = ""
    peer_value: float | None = None
    ratio: float | None = None
    target: float | None = None
    ok: bool | None = None


def compare(
    name: str,
    value: float,
    unit: str,
    peer: str,
    peer_value: float,
    *,
    target: float,
    smaller_is_better: bool = True,
) -> Result:
    """Return a result with its ratio to the peer's value worked out."""
    ratio = peer_value / value if smaller_is_better else value / peer_value
    return Result(name, value, unit, peer, peer_value, ratio, target, ratio >= target)


def best_s(work: Callable[[], Any], repeats: int = 5) -> float:
    """Return the shortest of several runs of `work`, in seconds."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)
