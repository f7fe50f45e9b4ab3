"""Slots, levels and blocks: the same golden vectors are read by the page's own tests."""

import json
from pathlib import Path

import pytest

from piker.ui import ladder

GOLDEN = json.loads((Path(__file__).parent / "golden_ladder.json").read_text())


@pytest.mark.parametrize(("time", "period", "slot", "block", "opens"), GOLDEN["slots"])
def test_slots_and_blocks_equal_the_golden_vectors(time, period, slot, block, opens):
    assert ladder.slot_of(time, period) == slot
    assert ladder.block_of(slot) == block
    assert ladder.time_of(slot, period) == opens
    assert opens <= time < opens + period


@pytest.mark.parametrize(("period", "px_per_slot", "rung"), GOLDEN["levels"])
def test_levels_equal_the_golden_vectors(period, px_per_slot, rung):
    assert ladder.level(period, px_per_slot) == rung


@pytest.mark.parametrize("period", ladder.LADDER)
def test_a_level_below_one_pixel_is_the_coarsest_that_fits_one(period):
    for exponent in range(60):
        px = 0.999 / 1.3**exponent
        rung = ladder.level(period, px)
        assert rung == period or rung * px <= period
        coarser = [r for r in ladder.LADDER if r > rung and r % period == 0]
        assert not coarser or coarser[0] * px > period


def test_weeks_begin_on_mondays():
    monday = 1_732_492_800  # 2024-11-25 00:00 UTC
    assert ladder.time_of(ladder.slot_of(monday, ladder.WEEK), ladder.WEEK) == monday
    assert ladder.slot_of(monday - 1, ladder.WEEK) == ladder.slot_of(monday, ladder.WEEK) - 1


def test_every_rung_is_built_from_one_that_divides_it():
    for rung in ladder.RUNGS:
        source = ladder.feeder(rung)
        if rung in (1, 60):
            assert source is None
        else:
            assert source is not None
            assert rung % source == 0
            assert ladder.base_of(source) == ladder.base_of(rung)


def test_a_view_of_no_width_draws_its_own_period():
    assert ladder.view_level(60, 5.0, 5.0, 800) == 60
    assert ladder.view_level(60, 0, 60 * 8000, 1600) == 300


def test_blocks_join_without_a_hole():
    for rung in ladder.RUNGS:
        assert ladder.block_span(7, rung)[1] == ladder.block_span(8, rung)[0]
