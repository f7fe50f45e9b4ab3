"""One clock per run: real, or virtual and the same in every process."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from piker import clock
from piker.errors import ConfigError

PIKER = Path(clock.__file__).parent


@pytest.fixture
def virtual() -> Iterator[clock.ClockSpec]:
    spec = clock.ClockSpec(1_700_000_000 * clock.NS, clock.monotonic_ns(), 100.0)
    source = clock._source
    clock.use_source(lambda: spec)
    yield spec
    clock.use_source(source)


def test_without_a_spec_it_is_the_real_clock() -> None:
    assert clock.spec() is None
    assert clock.speed() == 1
    assert abs(clock.now_ns() - time.time_ns()) < clock.NS


def test_a_virtual_clock_runs_at_its_speed(virtual: clock.ClockSpec) -> None:
    now = clock.now_ns()
    passed = clock.monotonic_ns() - virtual.anchor_ns
    assert abs((now - virtual.base_ns) - passed * 100) < 0.1 * clock.NS


def test_it_stands_still_before_its_anchor() -> None:
    source = clock._source
    clock.use_source(lambda: clock.ClockSpec(5, clock.monotonic_ns() + 10**12, 1.0))
    assert clock.now_ns() == 5
    clock.use_source(source)


def test_a_spec_survives_its_text(virtual: clock.ClockSpec) -> None:
    assert clock.parse_spec(str(virtual)) == virtual
    exact = clock.ClockSpec(1723161253937085768, 123456789012345, 0.1 + 0.2)
    assert clock.parse_spec(str(exact)).base_ns == exact.base_ns


@pytest.mark.parametrize("text", ["", "1,2", "a,b,c", "1,2,0", "1,2,-1", "1,2,nan", "1,2,inf"])
def test_a_spec_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="clock:"):
        clock.parse_spec(text)


async def test_sleeping_until_a_market_time(virtual: clock.ClockSpec) -> None:
    with trio.fail_after(1):
        await clock.sleep_until_ns(clock.now_ns() + 3 * clock.NS)
        await clock.sleep_until_ns(virtual.base_ns)


def test_jitter_stays_within_its_share() -> None:
    found = [clock.jitter(10, 0.3) for _ in range(200)]
    assert min(found) >= 7
    assert max(found) <= 13
    assert len(set(found)) > 100


def test_nothing_else_reads_time_or_makes_randomness() -> None:
    banned = re.compile(
        r"\btime\.(time|time_ns|monotonic|monotonic_ns|perf_counter|perf_counter_ns|sleep)\("
        r"|\brandom\.\w+\(|\buuid\.?uuid[14]\(|\bdatetime\.(now|utcnow)\("
    )
    # the containment module names its calls with the runtime's own uuids
    exempt = {PIKER / "clock.py", PIKER / "service" / "_tractor_shim.py"}
    found = [
        f"{path.relative_to(PIKER)}:{number}: {line.strip()}"
        for path in sorted(PIKER.rglob("*.py"))
        if path not in exempt
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if banned.search(line)
    ]
    assert not found, "\n".join(found)
