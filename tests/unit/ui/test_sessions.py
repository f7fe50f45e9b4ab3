"""Trading time: closed hours take no slot, a day on which the clocks change keeps its hours."""

from datetime import UTC, date, datetime, time

import numpy as np

from piker.ui.sessions import SlotMap, guess_breaks, weekly_breaks

NEW_YORK = [(day, time(9, 30), time(16, 0)) for day in range(5)]


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_a_market_that_never_closes_counts_plain_periods():
    slots = SlotMap()
    assert slots.slot(1_700_000_123, 60) == 1_700_000_123 // 60
    assert slots.slot_time(28333335, 60) == 28333335 * 60
    assert slots.is_open(5.0)
    assert slots.next_open(5.0) == 5.0


def test_closed_hours_take_no_slot():
    slots = SlotMap(weekly_breaks(NEW_YORK, "America/New_York", date(2026, 1, 5), 14))
    friday_close, monday_open = utc("2026-01-09T21:00"), utc("2026-01-12T14:30")
    assert slots.slot(monday_open, 60) - slots.slot(friday_close - 60, 60) == 1
    assert not slots.is_open(utc("2026-01-10T12:00"))
    assert slots.next_open(utc("2026-01-10T12:00")) == monday_open
    assert slots.is_open(monday_open)


def test_opening_hours_follow_the_local_clock_over_a_change():
    # clocks go forward on Sunday 2026-03-08
    slots = SlotMap(weekly_breaks(NEW_YORK, "America/New_York", date(2026, 3, 2), 14))
    assert slots.is_open(utc("2026-03-06T14:30"))
    assert not slots.is_open(utc("2026-03-06T14:29"))
    assert slots.is_open(utc("2026-03-09T13:30"))
    assert not slots.is_open(utc("2026-03-09T13:29"))
    assert not slots.is_open(utc("2026-03-09T20:00"))


def test_slot_and_time_are_inverse_while_open():
    slots = SlotMap(weekly_breaks(NEW_YORK, "America/New_York", date(2026, 3, 2), 21))
    for t in np.arange(utc("2026-03-02T14:30"), utc("2026-03-20T20:00"), 1860.0):
        if slots.is_open(t):
            slot = slots.slot(t, 60)
            assert slots.slot_time(slot, 60) <= t < slots.slot_time(slot + 1, 60)


def test_only_holes_that_come_back_are_taken_for_closed_hours():
    day = np.arange(0, 6 * 3600, 60) + 1_700_006_400 - 1_700_006_400 % 86400
    times = np.concatenate([day + n * 86400 for n in range(6)])
    lost = (times > times[100]) & (times < times[100] + 5400)
    breaks = guess_breaks(times[~lost], 60)
    assert len(breaks) == 5
    assert all(b - a == 18 * 3600 for a, b in breaks)
