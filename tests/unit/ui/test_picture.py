"""One market's picture: what changed is told as tail or as history, blocks and rows are slices."""

import numpy as np
import pytest

from piker.ui.frames import COMPLETE, HAS_GAP, LOADING, TICKS_MAX
from piker.ui.lod import C, T
from piker.ui.messages import Gap, Load
from piker.ui.picture import Facts, HistoryChanged, Picture, Renewed, TailMoved

FACTS = Facts("btcusdt.spot.binance", "BTCUSDT", "binance · spot", "BTC", "0.01", "0.00001")
START = 1_700_006_400


def rows(n, base=60, start=START):
    out = np.ones((6, n))
    out[T] = start + base * np.arange(n)
    out[C] = np.arange(n)
    return out


@pytest.fixture
def picture():
    made = Picture(FACTS, gen=7)
    made.merge(60, rows(3000))
    made.merge(1, rows(300, 1, START + 2999 * 60))
    return made


def heard(picture):
    changes = []
    picture.listeners.add(changes.append)
    return changes


def test_a_new_last_bar_moves_the_tail_and_leaves_the_revision(picture):
    changes, rev, ver = heard(picture), picture.rev, picture.ver
    picture.merge(60, rows(1, start=START + 3000 * 60))
    assert changes == [TailMoved(START + 3000 * 60)]
    assert picture.rev == rev
    assert picture.ver == ver + 1


def test_repaired_history_is_told_with_its_range(picture):
    changes, rev = heard(picture), picture.rev
    fixed = rows(3000)[:, 100:110] + 0.5
    fixed[T] -= 0.5
    picture.merge(60, fixed)
    t0 = START + 100 * 60
    assert changes[0] == HistoryChanged(t0, t0 + 600, rev + 1)
    assert picture.changed_since(7, rev) == [(t0, t0 + 600)]
    assert picture.changed_since(7, rev + 1) == []


def test_what_changed_is_everything_when_the_page_comes_from_another_generation(picture):
    assert picture.changed_since(8, picture.rev) == [(0.0, 1e12)]


def test_another_generation_replaces_all_rows(picture):
    changes = heard(picture)
    picture.renew(9, {60: rows(5)})
    assert changes == [Renewed()]
    assert picture.bars == {"1": 0, "60": 5}
    assert picture.market(1, (7, 1)).dirty == [(0.0, 1e12)]


def test_blocks_hold_the_rows_of_their_slots(picture):
    key = START // 60 // 1024
    columns, flags = picture.block(60, key + 1)
    assert columns.shape[1] == 1024
    assert columns[T, 0] == (key + 1) * 1024 * 60
    assert flags == COMPLETE
    last, flags = picture.block(60, (START // 60 + 2999) // 1024)
    assert last[T, -1] == START + 2999 * 60
    assert not flags & COMPLETE
    assert picture.block(60, 1)[0].shape[1] == 0


def test_a_block_before_which_history_loads_is_not_complete(picture):
    picture.loads[60] = Load(0, 60, 10, 100)
    _, flags = picture.block(60, START // 60 // 1024)
    assert flags & LOADING
    assert not flags & COMPLETE


def test_a_block_with_a_hole_says_so(picture):
    late = rows(1, start=START + 3100 * 60)
    picture.merge(60, late)
    _, flags = picture.block(60, (START // 60 + 3100) // 1024)
    assert flags & HAS_GAP


def test_tail_rows_begin_with_the_bucket_that_holds_the_change(picture):
    since = START + 2998 * 60
    got = picture.tail_rows([60, 3600], since)
    assert [tuple(r[:2]) for r in got] == [
        (60, since),
        (60, since + 60),
        (3600, since // 3600 * 3600),
    ]
    assert (got[:, 7] == picture.ver).all()
    assert picture.tail_rows([60], np.inf)[:, 1].tolist() == [START + 2999 * 60]
    assert Picture(FACTS, 1).tail_rows([60], np.inf).shape == (0, 8)


def test_only_the_newest_ticks_are_kept_and_the_others_are_counted(picture):
    n = TICKS_MAX + 88
    picture.add_ticks(np.vstack([np.arange(n), np.ones((3, n))])[:, :600])
    ticks, lost = picture.ticks_since(0)
    assert ticks.shape[1] + lost == picture.ticks_seen
    picture.add_ticks(np.full((4, 3), 9.0))
    ticks, lost = picture.ticks_since(picture.ticks_seen - 3)
    assert (ticks.shape[1], lost) == (3, 0)


def test_a_filled_gap_replaces_the_open_one(picture):
    changes = heard(picture)
    picture.add_gap(Gap(1.0, 2.0, "feed"))
    picture.add_gap(Gap(1.0, 3.0, "feed", 42, True))
    assert list(picture.gaps) == [Gap(1.0, 3.0, "feed", 42, True)]
    assert len(changes) == 2
    picture.add_gap(Gap(2.0, 2.5, "lost", 7))
    picture.add_gap(Gap(0.5, 4.0, "feed", 50, True))
    assert list(picture.gaps) == [Gap(2.0, 2.5, "lost", 7), Gap(0.5, 4.0, "feed", 50, True)]
