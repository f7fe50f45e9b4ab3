"""What the page says of feed and tree follows from what both report."""

import pytest

from piker.model.ticks import FEED_CONNECTING, FEED_DOWN, FEED_LIVE, FEED_STALE
from piker.ui.messages import Daemon
from piker.ui.sessions import SlotMap
from piker.ui.status import Latency, Pace, Progress, daemon_dots, feed_status, order_gate

ALWAYS = SlotMap()


@pytest.mark.parametrize(
    ("state", "expected_gap", "age", "feed"),
    [
        (FEED_LIVE, 0.1, 0.4, "live"),
        (FEED_LIVE, 0.1, 0.9, "live"),
        (FEED_LIVE, 0.1, 1.1, "late"),
        (FEED_LIVE, 2.0, 9.0, "live"),
        (FEED_LIVE, 2.0, 11.0, "late"),
        (FEED_STALE, 0.1, 41.0, "stale"),
        (FEED_DOWN, 0.1, 41.0, "down"),
        (FEED_CONNECTING, 0.0, 41.0, "connecting"),
    ],
)
def test_the_pill_follows_state_and_age(state, expected_gap, age, feed):
    event = {"state": state, "expected_gap_s": expected_gap}
    got = feed_status(event, 1000.0 - age, 1000.0, ALWAYS)
    assert got.feed == feed
    assert got.age == pytest.approx(age)


def test_a_venue_that_says_no_is_refused_with_its_words():
    cause = "binance says: too many requests, waiting 38 s"
    event = {"state": FEED_DOWN, "cause": cause, "attempt": 3, "retry_in_s": 38.0}
    got = feed_status(event, 0.0, 1000.0, ALWAYS)
    assert (got.feed, got.cause, got.attempt, got.retry_in) == ("refused", cause, 3, 38.0)
    assert got.age is None


def test_what_is_in_brackets_is_left_out_and_the_wait_of_a_refusal_stays():
    cause = "api.binance.com says: too many requests (HTTP 429), waiting 38 s"
    got = feed_status({"state": FEED_DOWN, "cause": cause}, 0.0, 1000.0, ALWAYS)
    assert got.cause == "api.binance.com says: too many requests, waiting 38 s"


def test_a_wait_is_told_once():
    event = {"state": FEED_DOWN, "cause": "it is gone, waiting 0.2 s", "retry_in_s": 0.2}
    got = feed_status(event, 0.0, 1000.0, ALWAYS)
    assert (got.feed, got.cause, got.retry_in) == ("down", "it is gone", 0.2)


def test_connecting_again_is_still_down():
    event = {"state": FEED_CONNECTING, "cause": "it is gone", "attempt": 2}
    assert feed_status(event, 0.0, 1000.0, ALWAYS).feed == "down"
    assert feed_status(event | {"attempt": 1}, 0.0, 1000.0, ALWAYS).feed == "connecting"


def test_a_closed_market_says_when_it_opens():
    slots = SlotMap([(900.0, 5000.0)])
    got = feed_status({"state": FEED_LIVE}, 800.0, 1000.0, slots)
    assert (got.feed, got.opens) == ("closed", 5000.0)


def test_ages_of_a_fast_clock_are_told_in_real_seconds():
    got = feed_status({"state": FEED_LIVE, "expected_gap_s": 0.1}, 950.0, 1000.0, ALWAYS, 100.0)
    assert (got.feed, got.age) == ("live", 0.5)


def row(name, state="ready", restarts=0, cause=""):
    return {"name": name, "state": state, "restarts": restarts, "cause": cause}


def test_dots_show_what_runs_and_what_was_never_started():
    rows = [row("pikerd"), row("samplerd"), row("datad.binance"), row("chart")]
    dots = [(dot.name, dot.state) for dot in daemon_dots(rows, ["binance"])]
    assert dots == [
        ("pikerd", "up"),
        ("samplerd", "up"),
        ("datad.binance", "up"),
        ("emsd", "none"),
        ("brokerd", "none"),
    ]


def test_a_restarting_daemon_says_how_often():
    dots = daemon_dots([row("pikerd"), row("datad.binance", "restarting", 2)], ["binance"])
    assert Daemon("datad.binance", "degraded", "datad.binance restarted 2 times") in dots
    assert Daemon("samplerd", "none") in dots


def test_without_pikerd_nothing_is_claimed_to_be_up():
    assert {dot.state for dot in daemon_dots(None, ["binance"])} == {"down", "degraded", "none"}


def test_latency_is_the_median_of_two_seconds():
    latency = Latency()
    assert latency.median_ms(0.0) is None
    for n in range(10):
        latency.add(float(n), n / 1000)
    assert latency.median_ms(9.0) == pytest.approx(8.0)
    latency.add(9.0, -5.0)
    assert latency.median_ms(9.0) == pytest.approx(7.5)


def test_progress_tells_the_seconds_left():
    progress = Progress()
    event = {"period_s": 60, "have": 100, "total": 1100, "source": "binance REST"}
    assert progress.load(event, 10.0).eta is None
    got = progress.load(event | {"have": 600}, 15.0)
    assert (got.have, got.total, got.eta) == (600, 1100, 5.0)
    done = progress.load(event | {"have": 700, "done": True}, 16.0)
    assert (done.have, done.total) == (700, 700)


def test_pace_is_the_median_gap_and_decides_what_is_late():
    pace = Pace()
    for n in range(20):
        assert (pace.gap_s is None) == (n < 9)
        pace.add(n * 0.5)
    assert pace.gap_s == pytest.approx(0.5)
    event = {"state": FEED_LIVE, "expected_gap_s": 60.0}
    assert feed_status(event, 997.0, 1000.0, ALWAYS).feed == "live"
    assert feed_status(event, 997.0, 1000.0, ALWAYS, seen_gap_s=pace.gap_s).feed == "late"


def test_order_daemons_are_shown_in_the_order_of_the_path():
    rows = [row("pikerd"), row("paperboi.binance"), row("emsd"), row("datad.binance")]
    dots = [(dot.name, dot.state) for dot in daemon_dots(rows, ["binance"])]
    assert dots[-3:] == [("emsd", "up"), ("paperboi.binance", "up"), ("brokerd", "none")]


@pytest.mark.parametrize(
    ("feed", "desk", "says"),
    [
        ("live", "", None),
        ("late", "", None),
        ("closed", "", None),
        ("stale", "", "order gate closed: a.binance is stale"),
        ("down", "", "order gate closed: a.binance is stale"),
        ("live", "stopped: piker arm", "order gate closed: stopped: piker arm"),
    ],
)
def test_a_gate_that_refuses_orders_is_said(feed, desk, says):
    assert order_gate("a.binance", feed, desk, is_strict=True) == says


def test_a_gate_that_was_switched_off_is_open():
    assert order_gate("a.binance", "stale", "", is_strict=False) is None
