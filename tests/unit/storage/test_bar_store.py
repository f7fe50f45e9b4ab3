"""The bar store: what is written is read back, cut files are set aside, kills lose nothing."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from piker.errors import ConfigError
from piker.model.bars import BAR_DTYPE, FILLED, PARTIAL, empty_bars
from piker.storage import _parquet
from piker.storage.bars import (
    BarStore,
    StorageConnectionError,
    TimeseriesNotFound,
    UnknownFormat,
    open_bar_store,
)

FQME = "btcusdt.spot.binance"
AUGUST = 1_722_470_400  # 2024-08-01 00:00 UTC
DAY = 86_400


@pytest.fixture
def store(tmp_path: Path) -> BarStore:
    return open_bar_store(tmp_path / "nativedb")


def bars(start_s: int, count: int, period_s: int = 60, price: float = 0.0) -> np.ndarray:
    rows = empty_bars(count)
    rows["time"] = start_s + period_s * np.arange(count)
    for name in ("open", "high", "low", "close"):
        rows[name] = price or rows["time"] % 1000 + 0.1
    rows["volume"] = 0.00001
    rows["count"] = 3
    return rows


def names(store: BarStore, fqme: str = FQME, period_s: int = 60) -> list[str]:
    folder = store.root / fqme / f"{period_s}s"
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_stored_bars_are_read_back_to_the_last_bit(store: BarStore) -> None:
    rows = bars(AUGUST, 3000)
    rows["close"] = np.random.default_rng(1).random(3000)
    rows["flags"][::7] = FILLED
    assert store.append(FQME, 60, rows) == 3000
    found = store.load(FQME, 60)
    assert found.dtype == BAR_DTYPE
    assert np.array_equal(found, rows)


def test_a_range_is_half_open(store: BarStore) -> None:
    store.append(FQME, 60, bars(AUGUST - DAY, 3 * 1440))
    times = store.load(FQME, 60, AUGUST - 60, AUGUST + 120)["time"].tolist()
    assert times == [AUGUST - 60, AUGUST, AUGUST + 60]
    assert len(store.load(FQME, 60, AUGUST + 10 * DAY)) == 0
    assert store.read_ohlcv(FQME, 60, end=AUGUST)["time"][-1] == AUGUST - 60


def test_running_month_is_daily_parts_that_are_merged_when_a_later_month_begins(
    store: BarStore,
) -> None:
    store.append(FQME, 60, bars(AUGUST - 3600, 60 + 2 * 1440))
    assert names(store) == ["2024-07.parquet", "2024-08-01.parquet", "2024-08-02.parquet"]
    before = store.load(FQME, 60)
    store.append(FQME, 60, bars(AUGUST + 31 * DAY, 5))
    assert names(store) == ["2024-07.parquet", "2024-08.parquet", "2024-09-01.parquet"]
    assert np.array_equal(store.load(FQME, 60)[:-5], before)


def test_appends_in_any_order_and_twice_give_one_row_per_time(store: BarStore) -> None:
    pieces = [bars(AUGUST - DAY + 7200 * i, 240) for i in range(24)]
    random.Random(3).shuffle(pieces)
    for piece in [*pieces, *pieces]:
        store.append(FQME, 60, piece)
    times = store.load(FQME, 60)["time"]
    assert (np.diff(times) == 60).all()
    assert (times[0], times[-1]) == (AUGUST - DAY, AUGUST - DAY + 7200 * 25 - 60)


def test_newer_row_replaces_the_older_unless_it_is_partial(store: BarStore) -> None:
    store.append(FQME, 60, bars(AUGUST, 3, price=1.0))
    store.append(FQME, 60, bars(AUGUST, 1, price=2.0))
    partial = bars(AUGUST + 60, 1, price=3.0)
    partial["flags"] = PARTIAL
    store.append(FQME, 60, partial)
    assert store.load(FQME, 60)["close"].tolist() == [2.0, 1.0, 1.0]


def test_late_rows_of_a_month_that_is_over_go_into_its_file(store: BarStore) -> None:
    store.append(FQME, 60, bars(AUGUST, 2))
    store.append(FQME, 60, bars(AUGUST - 120, 1))
    store.append(FQME, 60, bars(AUGUST - 60, 1))
    assert names(store) == ["2024-07.parquet", "2024-08-01.parquet"]
    assert len(store.load(FQME, 60)) == 4


def test_month_whose_merge_was_cut_short_reads_the_same(store: BarStore) -> None:
    store.append(FQME, 60, bars(AUGUST, 100))
    day = store.root / FQME / "60s" / "2024-08-01.parquet"
    (day.parent / "2024-08.parquet").write_bytes(day.read_bytes())
    assert len(store.load(FQME, 60)) == 100
    store.append(FQME, 60, bars(AUGUST + 31 * DAY, 1))
    assert names(store) == ["2024-08.parquet", "2024-09-01.parquet"]
    assert len(store.load(FQME, 60)) == 101


def test_index_is_by_market_and_period(store: BarStore) -> None:
    store.append(FQME, 60, bars(AUGUST, 10))
    store.append(FQME, 1, bars(AUGUST, 5, 1))
    store.append("ethusdt.spot.binance", 60, bars(AUGUST, 2))
    assert [(e.fqme, e.period_s, e.last_s - e.first_s) for e in store.index()] == [
        (FQME, 1, 4),
        (FQME, 60, 540),
        ("ethusdt.spot.binance", 60, 60),
    ]
    assert store.list_keys() == [FQME, "ethusdt.spot.binance"]
    assert store.search_keys("eth") == ["ethusdt.spot.binance"]
    assert (store.first_time(FQME, 1), store.last_time(FQME, 1)) == (AUGUST, AUGUST + 4)
    assert store.last_time(FQME, 300) is None


def test_unknown_series_names_keys_that_are_like_it(store: BarStore) -> None:
    with pytest.raises(TimeseriesNotFound, match=r"no 1m bars are stored$"):
        store.load(FQME, 60)
    store.append(FQME, 60, bars(AUGUST, 1))
    with pytest.raises(TimeseriesNotFound, match=f"more specific fqme-key like:\n{FQME}"):
        store.load("btcusdt.binance", 60)


def test_deleted_series_is_gone_and_others_stay(store: BarStore) -> None:
    store.write_ohlcv(FQME, bars(AUGUST, 1), 60)
    store.write_ohlcv(FQME, bars(AUGUST, 1, 1), 1)
    store.delete_ts(FQME, 60)
    assert [entry.period_s for entry in store.index()] == [1]
    with pytest.raises(TimeseriesNotFound):
        store.delete_ts(FQME, 60)


def test_address_of_any_shape_is_a_folder_of_its_own(store: BarStore) -> None:
    for fqme in ("a/../../b.spot.x", "%2e%2e", "tsla.cboe.20230324.200c.ib"):
        store.append(fqme, 60, bars(AUGUST, 1))
        assert fqme in store.list_keys()
    for fqme in ("", ".", ".."):
        with pytest.raises(ValueError, match="expected a name"):
            store.append(fqme, 60, bars(AUGUST, 1))
    assert {path.name for path in store.root.parent.iterdir()} == {"nativedb"}


def test_times_off_the_grid_are_refused(store: BarStore) -> None:
    for rows in (bars(AUGUST + 1, 2), bars(0, 2)):
        with pytest.raises(ValueError, match="multiple of 60"):
            store.append(FQME, 60, rows)
    with pytest.raises(ValueError, match="at least 1"):
        store.append(FQME, 0, bars(AUGUST, 1))
    assert store.append(FQME, 60, bars(AUGUST, 0)) == 0


# ---- certificates -------------------------------------------------------------------------


def test_each_range_has_a_certificate_with_source_and_hash(store: BarStore) -> None:
    store.append(FQME, 60, bars(AUGUST, 1440 + 10), "binance")
    store.append(FQME, 60, bars(AUGUST + 600, 5, price=9.0), "repair")
    found = [(c.source, c.first_s, c.rows) for c in store.certificates(FQME, 60)]
    assert found == [
        ("binance", AUGUST, 1435),
        ("repair", AUGUST + 600, 5),
        ("binance", AUGUST + DAY, 10),
    ]
    first = store.certificates(FQME, 60)
    store.append(FQME, 60, bars(AUGUST + 600, 5, price=9.5), "repair")
    changed = [a != b for a, b in zip(first, store.certificates(FQME, 60), strict=True)]
    assert changed == [False, True, False]


def test_any_parquet_reader_can_read_the_files(store: BarStore) -> None:
    store.append(FQME, 60, bars(AUGUST, 10), "binance")
    frame = pl.read_parquet(store.root / FQME / "60s" / "2024-08-01.parquet")
    assert frame.columns == [*_parquet.COLUMNS, "source"]
    assert frame["source"].unique().to_list() == ["binance"]


# ---- what goes wrong ----------------------------------------------------------------------


def _damage(data: bytes, rng: random.Random) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return data[: rng.randrange(len(data))]
    if kind == 1:
        return rng.randbytes(rng.randrange(2000))
    if kind == 2:
        cut = rng.randrange(len(data))
        return data[:cut] + data[cut + rng.randrange(1, 50) :]
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def test_damaged_file_is_set_aside_with_a_warning_and_never_half_read(
    store: BarStore, caplog: pytest.LogCaptureFixture
) -> None:
    rows = bars(AUGUST, 2 * 1440)
    store.append(FQME, 60, rows)
    path = store.root / FQME / "60s" / "2024-08-01.parquet"
    data, rng = path.read_bytes(), random.Random(7)
    for _ in range(300):
        damaged = _damage(data, rng)
        path.write_bytes(damaged)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = store.load(FQME, 60)
        if damaged == data:
            continue
        assert np.array_equal(found, rows[1440:])
        assert "set aside" in caplog.text
        aside = path.with_name(path.name + ".damaged-1")
        assert aside.read_bytes() == damaged
        aside.unlink()
    store.append(FQME, 60, rows)
    assert np.array_equal(store.load(FQME, 60), rows), "history can be stored again"


def test_file_of_another_format_is_refused_with_a_hint_and_left_alone(
    store: BarStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_parquet, "FORMAT", 2)
    store.append(FQME, 60, bars(AUGUST, 10))
    monkeypatch.undo()
    _parquet._checked.cache_clear()
    for call in (lambda: store.load(FQME, 60), lambda: store.append(FQME, 60, bars(AUGUST, 1))):
        with pytest.raises(UnknownFormat, match=r"format was 2, expected 1; .* move the file away"):
            call()
    assert names(store) == ["2024-08-01.parquet"]


def test_folder_that_cannot_be_used_is_one_line_for_the_operator(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="PIKER_CONFIG_DIR"):
        open_bar_store(tmp_path / "file" / "nativedb")


def test_disk_that_refuses_leaves_the_old_file_standing(
    store: BarStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append(FQME, 60, bars(AUGUST, 10))

    def refuse(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageConnectionError, match="No space left") as caught:
        store.append(FQME, 60, bars(AUGUST + 600, 10))
    monkeypatch.undo()
    assert caught.value.is_transient
    assert len(store.load(FQME, 60)) == 10
    assert names(store) == ["2024-08-01.parquet"]


WRITER = """
import sys
import numpy as np
from piker.model.bars import empty_bars
from piker.storage.bars import open_bar_store
store = open_bar_store(sys.argv[1])
for i in range(10_000):
    rows = empty_bars(10)
    rows["time"] = 1_722_470_400 + 86_400 * (i % 40) + 600 * (i // 40) + 60 * np.arange(10)
    rows["close"] = 1.0
    store.append("btcusdt.spot.binance", 60, rows)
    print(i, flush=True)
"""


def test_writer_killed_at_any_moment_loses_nothing_that_was_appended(store: BarStore) -> None:
    rng = random.Random(11)
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store.root)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(rng.randrange(45, 90)):
                done = int(writer.stdout.readline())
            os.kill(writer.pid, signal.SIGKILL)
        times = set(store.load(FQME, 60)["time"].tolist())
        for i in range(done + 1):
            start = AUGUST + DAY * (i % 40) + 600 * (i // 40)
            assert start in times
            assert start + 540 in times
    assert not [name for name in names(store) if "damaged" in name]


def test_two_writers_of_one_series_wait_for_each_other(store: BarStore) -> None:
    code = """
import sys
from piker.model.bars import empty_bars
from piker.storage.bars import open_bar_store
store = open_bar_store(sys.argv[1])
for i in range(40):
    rows = empty_bars(1)
    rows["time"] = 1_722_470_400 + 120 * i + 60 * int(sys.argv[2])
    store.append("btcusdt.spot.binance", 60, rows)
"""
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(store.root), n]) for n in ("0", "1")
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(store.load(FQME, 60)) == 80
