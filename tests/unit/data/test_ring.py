"""The tick ring: order, laps, and a reader in another process that is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from piker.data._ring import TickRing, probe_ordering, require_ordered_memory
from piker.data._segment import SegmentGone
from piker.errors import ConfigError
from piker.model.ticks import GAP, TICK_DTYPE, TRADE


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[TickRing]:
    made = TickRing.create(tmp_path, "run1", "datad.x", "btcusdt.spot.x", 64)
    yield made
    made.unlink()
    made.close()


def trades(first: int, count: int) -> np.ndarray:
    rows = np.zeros(count, TICK_DTYPE)
    rows["type"] = TRADE
    rows["tid"] = np.arange(first, first + count)
    rows["price"] = rows["tid"] * 0.5
    return rows


def test_reader_gets_what_was_put_in_order_and_once(ring: TickRing) -> None:
    reader = TickRing.attach(ring.token).reader(0)
    assert ring.put_many(trades(0, 10)) == 0
    assert ring.put_many(trades(10, 5)) == 10
    rows = reader.read()
    assert rows["seq"].tolist() == rows["tid"].tolist() == list(range(15))
    assert len(reader.read()) == 0
    assert not reader.has_data()


def test_new_reader_starts_behind_the_newest_record(ring: TickRing) -> None:
    ring.put_many(trades(0, 10))
    reader = ring.reader()
    ring.put_many(trades(10, 1))
    assert reader.read()["tid"].tolist() == [10]


def test_records_stay_in_order_across_the_wrap(ring: TickRing) -> None:
    reader = ring.reader()
    seen: list[int] = []
    for i in range(50):
        ring.put_many(trades(7 * i, 7))
        seen += reader.read()["tid"].tolist()
    assert seen == list(range(350))
    assert reader.lost == 0


def test_lapped_reader_gets_one_gap_record_with_the_exact_count(ring: TickRing) -> None:
    reader = ring.reader()
    for i in range(20):
        ring.put_many(trades(10 * i, 10))
    rows = reader.read()
    assert (rows["type"] == GAP).sum() == 1
    assert (rows[0]["type"], rows[0]["tid"], rows[0]["seq"]) == (GAP, 200 - 64, 0)
    assert rows["tid"][1:].tolist() == list(range(200 - 64, 200))
    assert reader.lost == 200 - 64
    ring.put_many(trades(200, 1))
    assert reader.read()["type"].tolist() == [TRADE]


def test_read_returns_at_most_what_is_asked(ring: TickRing) -> None:
    reader = ring.reader()
    ring.put_many(trades(0, 16))
    assert [len(reader.read(most=6)) for _ in range(3)] == [6, 6, 4]


def test_more_than_a_quarter_at_once_is_put_in_pieces(ring: TickRing) -> None:
    reader = ring.reader()
    ring.put_many(trades(0, 60))
    assert reader.read()["tid"].tolist() == list(range(60))


def test_capacity_is_rounded_up_to_a_power_of_two(tmp_path: Path) -> None:
    made = TickRing.create(tmp_path, "run1", "a", "m", 1000)
    assert made.capacity == 1024
    made.unlink()


def test_another_generation_is_not_attached(ring: TickRing) -> None:
    with pytest.raises(SegmentGone):
        TickRing.attach(ring.token | {"generation": ring.generation + 2})
    with pytest.raises(SegmentGone):
        TickRing.attach(ring.token | {"capacity": 128})


def test_readers_cannot_write(ring: TickRing) -> None:
    other = TickRing.attach(ring.token)
    with pytest.raises((TypeError, ValueError)):
        other.put_many(trades(0, 1))


def test_reader_that_sleeps_between_its_two_loads_still_counts_every_record(
    ring: TickRing,
) -> None:
    class Sleepy:
        """The ring's counters, with the writer going three laps on after the first load."""

        def __init__(self, words: memoryview) -> None:
            self.words = words
            self.is_first = True

        def __getitem__(self, word: int) -> int:
            value = self.words[word]
            if self.is_first:
                self.is_first = False
                ring.put_many(trades(ring.head, 3 * ring.capacity))
            return int(value)

    attached = TickRing.attach(ring.token)
    reader = attached.reader()
    attached._words = Sleepy(attached._words)  # type: ignore[assignment]
    rows = reader.read()
    ring.put_many(trades(ring.head, 1))
    rows = np.concatenate((rows, reader.read()))
    survivors = rows[rows["type"] == TRADE]["tid"].tolist()
    assert survivors == list(range(2 * ring.capacity, 3 * ring.capacity + 1))[-len(survivors) :]
    assert reader.lost + len(survivors) == 3 * ring.capacity + 1
    assert rows[rows["type"] == GAP]["tid"].sum() == reader.lost


READER = """
import sys
import numpy as np
from piker.data._ring import TickRing
from piker.model.ticks import GAP
ring = TickRing.attach({"path": sys.argv[1], "generation": int(sys.argv[2]), "capacity": 64})
reader = ring.reader(0)
print("ready", flush=True)
seen = wrong = gaps = 0
following = 0
while seen + reader.lost < 300_000:
    rows = reader.read()
    for gap in rows[rows["type"] == GAP]:
        gaps += 1
        following += int(gap["tid"])
    rows = rows[rows["type"] != GAP]
    if len(rows):
        want = np.arange(following, following + len(rows))
        wrong += int((rows["tid"] != want).sum() + (rows["price"] != want * 0.5).sum())
        following = int(rows["tid"][-1]) + 1
        seen += len(rows)
print(wrong, seen + reader.lost, gaps, flush=True)
"""


def test_reader_process_that_is_stopped_loses_a_known_number_and_never_a_wrong_record(
    ring: TickRing,
) -> None:
    arguments = [str(ring.token["path"]), str(ring.generation)]
    with subprocess.Popen(
        [sys.executable, "-c", READER, *arguments], stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        sent = 0
        while sent < 300_000:
            if sent == 99_000:
                os.kill(reader.pid, signal.SIGSTOP)
            elif sent == 150_000:
                os.kill(reader.pid, signal.SIGCONT)
            ring.put_many(trades(sent, 10))
            sent += 10
        wrong, accounted, gaps = map(int, reader.stdout.readline().split())
    assert wrong == 0
    assert accounted == 300_000
    assert gaps > 0


def test_ordering_probe_finds_no_torn_record_on_a_supported_cpu(tmp_path: Path) -> None:
    assert probe_ordering(tmp_path, total=100_000) == 0
    require_ordered_memory(machine="x86_64")


def test_another_cpu_must_pass_the_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("piker.data._ring.probe_ordering", lambda folder: 3)
    with pytest.raises(ConfigError, match="3 torn records"):
        require_ordered_memory(tmp_path, machine="aarch64")
