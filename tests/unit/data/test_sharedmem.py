"""Segments and bar arrays: owners and generations, the ring of rows, stamps, other processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from ast import literal_eval
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from piker.data import _segment
from piker.data._blocks import L1Block, L2Block
from piker.data._ring import TickRing
from piker.data._segment import (
    attach_segment,
    create_segment,
    mark_run,
    sweep,
    this_process,
    unlink_predecessors,
)
from piker.data._sharedmem import (
    SegmentGone,
    ShmArray,
    ShmFull,
    attach_shm_array,
    maybe_open_shm_array,
    open_shm_array,
)
from piker.errors import ConfigError
from piker.model.bars import BAR_DTYPE, FILLED, PARTIAL, empty_bars
from piker.model.ticks import TICK_DTYPE
from piker.tsp._bar_rows import BarChanges, BarRow

SIZE = 16


@pytest.fixture
def array(tmp_path: Path) -> Iterator[ShmArray]:
    made = open_shm_array(
        "btcusdt.spot.x.rt", SIZE, shm_dir=tmp_path, run_id="run1", actor="datad.x"
    )
    yield made
    made.unlink()
    made.close()


def bars(first: int, count: int, step: int = 1) -> np.ndarray:
    rows = empty_bars(count)
    rows["time"] = first + step * np.arange(count)
    rows["close"] = rows["time"] * 10
    return rows


def bar(time: int, close: float, flags: int = 0) -> BarRow:
    return BarRow(time, close, close, close, close, 1.0, 1, flags)


def times(array: ShmArray) -> list[int]:
    return array.array["time"].tolist()


# ---- the ring of rows ---------------------------------------------------------------------


def test_rows_are_read_back_in_order_across_the_wrap(array: ShmArray) -> None:
    reader = attach_shm_array(array.token)
    for t in range(100, 140):
        array.append_row(bar(t, t * 10.0))
        rows = reader.array
        assert rows["time"].tolist() == list(range(max(100, t - SIZE + 1), t + 1))
        assert rows["index"].tolist() == list(range(reader.first_index, reader.last_index))
    assert (rows["close"] == rows["time"] * 10).all()
    assert len(reader) == SIZE
    assert reader.index == reader.last_index % SIZE


def test_push_of_many_rows_keeps_the_newest(array: ShmArray) -> None:
    end = array.push(bars(0, 50))
    assert times(array) == list(range(34, 50))
    assert array.array["index"][-1] == end - 1


def test_prepend_that_does_not_fit_keeps_the_newest_rows(array: ShmArray) -> None:
    array.push(bars(100, 10))
    array.push(bars(0, 100), prepend=True)
    assert times(array) == list(range(94, 110))
    array.push(bars(0, 94), prepend=True)
    assert times(array) == list(range(94, 110))


def test_prepend_after_the_ring_has_turned_keeps_positions(array: ShmArray) -> None:
    array.push(bars(100, 40))
    before = array.last_index
    array.push(bars(50, 74), prepend=True)
    assert array.last_index == before
    assert times(array) == list(range(124, 140))


def test_push_from_a_position_rewrites_under_stamps_and_appends_the_rest(array: ShmArray) -> None:
    array.push(bars(0, 5))
    new = bars(3, 4)
    new["close"] = 7.0
    array.push(new, start=array.last_index - 2)
    rows = array.array
    assert rows["time"].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert rows["close"].tolist() == [0, 10, 20, 7, 7, 7, 7]
    assert rows["rev"].tolist() == [2, 2, 2, 4, 4, 2, 2]
    with pytest.raises(ValueError, match="start was"):
        array.push(new, start=array.last_index + 1)


def test_push_names_missing_and_unknown_fields(array: ShmArray) -> None:
    odd = np.zeros(1, [("time", "i8"), ("open", "f8"), ("vwap", "f8")])
    with pytest.raises(TypeError, match=r"missing fields \['close'.*unknown fields \['vwap'\]"):
        array.push(odd)
    names = ["time", "open", "high", "low", "last", "volume"]
    array.push(np.ones(1, [(name, "f8") for name in names]), field_map={"last": "close"})
    assert array.last()["close"][0] == 1.0


def test_slices_by_time_and_position(array: ShmArray) -> None:
    array.push(bars(60, 40, step=60))
    assert array.slice_time(1800, 2000)["time"].tolist() == [1800, 1860, 1920, 1980]
    assert array.slice_time(0, 1560)["time"].tolist() == [1500]
    assert array.slice_time(2390, 9999)["time"].tolist() == [2400]
    assert array.rows(0, 10**9)["time"].tolist() == times(array)
    assert array.last(3)["time"].tolist() == [2280, 2340, 2400]
    assert array.index_of(2340) == array.last_index - 2
    assert array.index_of(2341) is None


def test_empty_array_reads_as_no_rows(array: ShmArray) -> None:
    assert len(array.array) == len(array.last(5)) == len(array) == 0
    assert array.last_row() is None


def test_changes_of_a_builder_are_applied_and_raise_the_revision(array: ShmArray) -> None:
    array.apply(BarChanges(appended=[bar(1, 5.0), bar(2, 6.0)]))
    assert array.apply(BarChanges(updated=[bar(1, 5.5)], appended=[bar(3, 7.0)])) == 0
    assert array.array["close"].tolist() == [5.5, 6.0, 7.0]
    assert array.array["rev"].tolist() == [4, 2, 2]
    assert array.apply(BarChanges(updated=[bar(99, 1.0)])) == 1


def test_overwrite_repairs_the_rows_that_are_here(array: ShmArray) -> None:
    array.push(bars(0, 30))
    repaired = bars(10, 15)
    repaired["close"] = 1.0
    assert array.overwrite(repaired) == 11
    rows = array.array
    assert rows["close"][:11].tolist() == [1.0] * 11
    assert rows["rev"].tolist() == [4] * 11 + [2] * 5
    assert rows["time"].tolist() == list(range(14, 30))


def test_write_row_changes_fields_under_the_stamp(array: ShmArray) -> None:
    position = array.append_row(bar(1, 5.0))
    array.write_row(position, {"close": 9.0}, flags=FILLED)
    row = array.last_row()
    assert row is not None
    assert (row["close"], row["flags"], row["rev"]) == (9.0, FILLED, 4)
    with pytest.raises(IndexError):
        array.write_row(position + 1, {"close": 1.0})


def test_array_of_other_fields_needs_index_time_and_stamp(tmp_path: Path) -> None:
    where = {"shm_dir": tmp_path, "run_id": "r", "actor": "a"}
    with pytest.raises(TypeError):
        open_shm_array("k.x", 4, np.dtype([("index", "i8"), ("time", "i8")]), **where)
    wide = np.dtype([("index", "i8"), ("time", "i8"), ("rsi", "f8"), ("rev", "i8")])
    made = open_shm_array("k.x", 4, wide, **where)
    made.push(np.array([(5, 1.5)], [("time", "i8"), ("rsi", "f8")]))
    assert attach_shm_array(made.token).last()["rsi"][0] == 1.5


# ---- stamps -------------------------------------------------------------------------------


def test_reader_takes_the_last_closed_row_while_the_newest_is_written(array: ShmArray) -> None:
    array.push(bars(0, 3))
    array._rows["rev"][(array.last_index - 1) % SIZE] |= 1  # as a writer that died in its write
    reader = attach_shm_array(array.token)
    assert reader.array["time"].tolist() == [0, 1]
    row = reader.last_row()
    assert row is not None
    assert row["time"] == 1


def test_held_older_row_reads_as_the_close_before_it_and_partial(array: ShmArray) -> None:
    array.push(bars(0, 4))
    array._rows["rev"][(array.last_index - 2) % SIZE] |= 1
    rows = attach_shm_array(array.token).array
    assert rows["time"].tolist() == [0, 1, 2, 3]
    assert rows["close"].tolist() == [0, 10, 10, 30]
    assert rows["flags"][2] == FILLED | PARTIAL


WRITER = """
import sys
from piker.data._sharedmem import open_shm_array
from piker.tsp._bar_rows import BarRow
a = open_shm_array("btcusdt.spot.x.rt", 32, shm_dir=sys.argv[1], run_id="run2", actor="datad.x")
print(a.token, flush=True)
v = 0.0
while True:
    i = a.append_row(BarRow(int(v), v, v, v, v, v, int(v), 0))
    for _ in range(20):
        v += 1.0
        a.write_bar(i, BarRow(a.last_index, v, v, v, v, v, int(v), 0))
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict]]:  # type: ignore[type-arg]
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        token = literal_eval(process.stdout.readline())
        yield process, token
        process.kill()


def test_no_read_is_torn_while_another_process_writes(
    writer: tuple[subprocess.Popen[str], dict],  # type: ignore[type-arg]
) -> None:
    array = attach_shm_array(writer[1])
    seen = 0
    fields = ("open", "high", "low", "close", "volume", "count")
    while seen < 30_000:
        for rows in (array.array, array.last(3)):
            whole = rows[(rows["flags"] & PARTIAL) == 0]
            for name in fields:
                assert (whole[name] == whole["close"]).all()
            assert (np.diff(rows["index"]) == 1).all()
            assert not (rows["rev"] & 1)[(rows["flags"] & PARTIAL) == 0].any()
            seen += len(whole)
        row = array.last_row()
        assert row is None or len({float(row[name]) for name in fields}) == 1


def test_array_of_a_killed_writer_stays_readable_and_is_swept(
    writer: tuple[subprocess.Popen[str], dict],  # type: ignore[type-arg]
    tmp_path: Path,
) -> None:
    process, token = writer
    array = attach_shm_array(token)
    while len(array) < 2:
        assert process.poll() is None
    assert array.segment.owner.is_alive()
    assert sweep(tmp_path) == []
    process.kill()
    process.wait()
    assert not array.segment.owner.is_alive()
    assert sweep(tmp_path) == [Path(token["path"])]
    assert array.is_stale()
    assert len(array.array) > 0
    with pytest.raises(SegmentGone):
        attach_shm_array(token)


# ---- segments -----------------------------------------------------------------------------


def test_reader_cannot_write_or_remove(array: ShmArray) -> None:
    reader = attach_shm_array(array.token)
    with pytest.raises((TypeError, ValueError)):
        reader.append_row(bar(1, 1.0))
    reader.unlink()
    assert Path(array.token["path"]).exists()
    with pytest.raises(ValueError, match="only the creator"):
        attach_shm_array(array.token, readonly=False)


def test_token_travels_as_plain_values(array: ShmArray) -> None:
    import msgspec

    token = msgspec.msgpack.decode(msgspec.msgpack.encode(array.token))
    assert attach_shm_array(token).dtype == BAR_DTYPE


def test_another_generation_under_the_path_is_not_attached(array: ShmArray) -> None:
    with pytest.raises(SegmentGone):
        attach_shm_array(array.token | {"generation": array.generation + 2})
    with pytest.raises(SegmentGone):
        attach_shm_array(array.token | {"size": SIZE * 2})


def test_rubbish_under_the_path_is_not_attached(tmp_path: Path) -> None:
    path = tmp_path / "piker.r.a.m.k.1"
    for content in (b"", b"x" * 100, bytes(9000)):
        path.write_bytes(content)
        with pytest.raises(SegmentGone):
            attach_segment(path, 1)
    assert sweep(tmp_path) == [], "what is no segment is not ours to remove"


def test_full_shared_memory_names_the_needed_and_the_free_size(tmp_path: Path) -> None:
    with pytest.raises(ShmFull, match=r"needs .* MB, .* MB are free") as caught:
        create_segment(tmp_path, "r", "a", "m", "k", 1 << 50)
    assert caught.value.needed_bytes > 1 << 50
    assert caught.value.free_bytes > 0
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_missing_folder_is_one_line_for_the_operator(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="PIKER_SHM_DIR"):
        create_segment(tmp_path / "none", "r", "a", "m", "k", 1)


def test_name_tells_run_actor_market_kind_and_generation(tmp_path: Path) -> None:
    segment = create_segment(tmp_path, "run7", "datad.binance", "btc/usdt.spot.binance", "rt", 1)
    assert segment.path.name == (
        f"piker.run7.datad.binance.btc_usdt.spot.binance.rt.{segment.generation:x}"
    )
    assert segment.path.stat().st_mode & 0o777 == 0o600


def test_header_names_this_process_and_a_recycled_pid_is_dead(tmp_path: Path) -> None:
    segment = create_segment(tmp_path, "r", "a", "m", "k", 1)
    assert segment.owner == this_process()
    assert segment.owner.is_alive()
    segment.words[_segment._W_START] += 1
    assert not segment.owner.is_alive()
    segment.words[_segment._W_START] -= 1
    segment.words[_segment._W_BOOT] += 1
    assert not segment.owner.is_alive(), "from before a reboot"


CHILD = """
import sys
from piker.data._segment import create_segment, mark_run
for run in sys.argv[2:]:
    create_segment(sys.argv[1], run, "datad.x", "m", "rt", 100)
print("made", flush=True)
sys.stdin.read()
"""


def _make_and_die(folder: Path, *runs: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), *runs],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)


def test_sweep_spares_runs_whose_mark_is_held_by_a_living_process(tmp_path: Path) -> None:
    _make_and_die(tmp_path, "here", "gone")
    mark = mark_run(tmp_path, "here")
    mine = create_segment(tmp_path, "gone", "datad.y", "m", "rt", 1)
    removed = sweep(tmp_path)
    assert [path.name.split(".")[1] for path in removed] == ["gone"]
    assert sweep(tmp_path, is_alive=lambda run: run == "here") == []
    mark.unlink()
    assert [path.name.split(".")[1] for path in sweep(tmp_path)] == ["here"]
    assert not mine.is_stale()


def test_restarted_writer_removes_only_what_its_dead_predecessor_left(tmp_path: Path) -> None:
    _make_and_die(tmp_path, "r")
    other = create_segment(tmp_path, "r", "datad.x", "m2", "rt", 1)
    mine = create_segment(tmp_path, "r", "datad.x", "m", "rt", 1)
    assert len(unlink_predecessors(mine)) == 1
    assert {path.name for path in tmp_path.iterdir()} == {other.path.name, mine.path.name}


def test_half_built_segment_of_a_dead_process_is_swept(tmp_path: Path) -> None:
    me = this_process()
    dead = tmp_path / f"piker.r.a.m.k.ff.new-{me.pid}-{me.start_ticks + 1}"
    alive = tmp_path / f"piker.r.a.m.k.ff.new-{me.pid}-{me.start_ticks}"
    dead.write_bytes(b"")
    alive.write_bytes(b"")
    assert sweep(tmp_path) == [dead]


def test_closed_segment_lets_go_while_an_array_still_looks_at_it(tmp_path: Path) -> None:
    array = open_shm_array("m.rt", 4, shm_dir=tmp_path, run_id="r", actor="a")
    array.append_row(bar(1, 1.0))
    kept = array._rows
    array.unlink()
    array.close()
    assert kept["time"].max() == 1
    assert list(tmp_path.iterdir()) == []


def test_closing_unmaps_every_kind_of_segment(tmp_path: Path) -> None:
    where = (tmp_path, "r", "a", "m")
    array = open_shm_array("m.rt", 4, shm_dir=tmp_path, run_id="r", actor="a")
    array.append_row(bar(1, 1.0))
    ring, l1, l2 = (
        TickRing.create(*where, 64),
        L1Block.create(*where),
        L2Block.create(*where, 5),
    )
    ring.put_many(np.zeros(3, TICK_DTYPE))
    ring.reader(0).read()
    l2.write([(1.0, 2.0)], [], 1, 1)
    for made in (array, attach_shm_array(array.token), ring, TickRing.attach(ring.token), l1, l2):
        made.close()
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_maybe_open_gives_the_same_array_again_until_it_is_gone(tmp_path: Path) -> None:
    where = {"shm_dir": tmp_path, "run_id": "r", "actor": "a"}
    first, is_new = maybe_open_shm_array("m.rt", 4, **where)
    again, is_new_again = maybe_open_shm_array("m.rt", 4, **where)
    assert (is_new, is_new_again) == (True, False)
    assert again is first
    first.unlink()
    assert maybe_open_shm_array("m.rt", 4, **where)[1]


@pytest.mark.parametrize("sleeps_after", range(1, 6))
def test_reader_that_sleeps_between_its_loads_gets_no_wrong_row(
    array: ShmArray, sleeps_after: int
) -> None:
    class Sleepy:
        """The array's counters, with the writer going three laps on after some load."""

        def __init__(self, words: memoryview) -> None:
            self.words = words
            self.loads = 0

        def __getitem__(self, word: int) -> int:
            value = self.words[word]
            self.loads += 1
            if self.loads == sleeps_after:
                array.push(bars(100 + SIZE, 3 * SIZE))
            return int(value)

    array.push(bars(100, SIZE))
    reader = attach_shm_array(array.token)
    reader._words = Sleepy(reader._words)  # type: ignore[assignment]
    rows = reader.array
    assert len(rows) <= SIZE
    assert (np.diff(rows["index"]) == 1).all()
    assert (rows["close"] == rows["time"] * 10).all()
