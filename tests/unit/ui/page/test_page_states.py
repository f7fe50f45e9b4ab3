"""Every state of the page as it is seen: feed, loading, loss of the actor, refusals, search."""

import pytest
from stage import CODE, DAEMONS, FQME, NOW, ORIGIN, picture_of, status

from piker.ui import messages
from piker.ui.picture import TAIL_ROWS_MAX

pytestmark = pytest.mark.browser


def say_status(stage, feed, **fields):
    made = status(feed, **fields)
    stage.markets[FQME].status = made
    stage.markets[FQME].publish(made)
    stage.pump()
    stage.until(f"piker.debug.facts().feed === '{feed}'")
    stage.until_written()


def test_live_says_its_latency(stage):
    stage.until("document.querySelector('.pill').textContent.includes('ms')")
    assert stage.page.inner_text(".pill .word") == "live"
    assert stage.page.locator(".banner").is_hidden()


def test_late_is_said_by_the_pill_alone(stage):
    say_status(stage, "late", age=1.8)
    assert stage.page.inner_text(".pill .word") == "late"
    assert stage.page.locator(".banner").is_hidden()


def test_stale_is_obvious(stage):
    say_status(stage, "stale", age=41.0, attempt=3, retry_in=4.0)
    banner = stage.page.inner_text(".banner")
    assert "No data from binance for 4" in banner
    assert "expected every 0.4 s" in banner
    assert "reconnecting, attempt 3, next in 4 s" in banner
    assert stage.page.inner_text(".pill .word") == "stale"
    assert stage.js("() => document.getElementById('header').classList.contains('grey')")


@pytest.mark.parametrize(
    ("feed", "cause"),
    [
        ("refused", "binance says: too many requests, waiting 38 s"),
        ("down", "datad.binance restarted 2 times, next try 4 s"),
    ],
)
def test_what_the_venue_or_datad_said_is_in_the_banner(stage, feed, cause):
    say_status(stage, feed, cause=cause, age=12.0)
    assert cause in stage.page.inner_text(".banner")
    assert cause in stage.facts()["messages"]


def test_a_filled_gap_is_told_and_marked(stage):
    stage.markets[FQME].add_gap(messages.Gap(NOW - 2520, NOW, "feed", 0, True))
    stage.pump()
    stage.until("piker.debug.facts().gaps.length === 1")
    assert any("42 bars filled" in text for text in stage.facts()["messages"])
    warn = stage.js("t => piker.debug.pixel(piker.debug.xy(t, 0).x, 631).slice(0, 3)", NOW - 600)
    assert warn == [0xE0, 0xA0, 0x30]


def test_loading_has_a_card_with_counts_and_the_time_left(stage):
    load = messages.Load(0, 60, 184_320, 1_000_000, "binance REST", 0.62, 14)
    stage.markets[FQME].publish(load)
    stage.pump()
    stage.page.locator(".card").wait_for(state="visible")
    card = stage.page.inner_text(".card").replace("\u2009", " ")
    assert "Loading 1 m history" in card
    assert "18 %" in card
    assert "184 320 of 1 000 000 bars, newest first" in card
    assert "binance REST, request budget 62 %, about 14 s left" in card
    stage.markets[FQME].publish(messages.Load(0, 60, 1_000_000, 1_000_000))
    stage.pump()
    stage.page.locator(".card").wait_for(state="hidden")


def test_a_lost_actor_leaves_the_picture_and_comes_back(stage):
    stage.is_down = True
    stage.drop()
    stage.until("piker.debug.state === 'lost'")
    stage.page.locator(".banner").wait_for(state="visible")
    assert "Lost the chart process." in stage.page.inner_text(".banner")
    stage.page.mouse.move(600, 300)
    stage.page.mouse.wheel(0, 100)
    before = stage.facts()
    assert before["bars_in_view"] > 0
    stage.is_down = False
    stage.until("piker.debug.state === 'open'")
    hello = [said for said in stage.heard if isinstance(said, messages.Hello)][-1]
    assert hello.secret == "secret"
    assert hello.have == {FQME: (7, stage.markets[FQME].rev)}
    stage.until("piker.debug.facts().blocks.missing === 0")
    assert stage.facts()["view"] == before["view"]


def test_bars_missed_while_away_arrive_with_the_block(stage):
    stage.is_down = True
    stage.drop()
    stage.until("piker.debug.state === 'lost'")
    for i in range(1, 4):
        stage.trade(61_000.0 + i, at=NOW + 60 * i)
    stage.is_down = False
    stage.until(f"piker.debug.facts().last && piker.debug.facts().last.c === {61_003.0}")
    stage.until("piker.debug.facts().blocks.missing === 0")
    closes = [
        bar["c"] for bar in stage.js("t => piker.debug.bars(t, t + 300)", NOW // 60 * 60 + 60)
    ]
    assert closes == [61_001.0, 61_002.0, 61_003.0]


def test_another_generation_keeps_the_old_picture_until_the_new_one_is_there(stage):
    market = stage.markets[FQME]
    fresh = picture_of(n=2000)
    rows = {60: fresh.block(60, int(NOW // 60) // 1024)[0], 1: fresh.block(1, int(NOW) // 1024)[0]}
    market.renew(8, rows)
    stage.pump()
    stage.until("piker.debug.facts().blocks.missing === 0 && piker.debug.facts().bars_in_view > 0")
    assert stage.page.locator(".chart.lost").count() == 0


def test_a_hole_in_the_frames_starts_a_resync(stage):
    seen = []

    def swallow_one(frame):
        if isinstance(frame, bytes) and not seen:
            seen.append(frame)
            return False
        return True

    stage.filter = swallow_one
    stage.trade(61_111.1)
    stage.trade(61_222.2)
    stage.until("piker.debug.facts().rx.lost === 1")
    stage.until("piker.debug.facts().price === 61222.2 && piker.debug.facts().blocks.missing === 0")
    hellos = [said for said in stage.heard if isinstance(said, messages.Hello)]
    assert len(hellos) == 2


def test_seconds_that_a_busy_actor_did_not_send_one_by_one_come_with_their_block(stage):
    stage.page.keyboard.type("1s")
    stage.page.keyboard.press("Enter")
    stage.until("piker.debug.facts().period === 1 && piker.debug.facts().blocks.missing === 0")
    market, late = stage.markets[FQME], TAIL_ROWS_MAX + 6
    row = market.block(1, int(NOW) // 1024)[0][:, -1:].copy()
    for second in range(1, late + 1):  # all of them between two frames
        row[0] = NOW + second
        market.merge(1, row)
        market.touch(NOW + second)
    stage.pump()
    asked = "([a, b]) => piker.debug.bars(a, b).map((bar) => bar.t)"
    stage.until("piker.debug.facts().last && piker.debug.facts().last.t > 1732147300")
    stage.until("piker.debug.facts().blocks.missing === 0")
    expected = [NOW + second for second in range(1, late + 1)]
    assert stage.js(asked, [NOW + 1, NOW + late + 1]) == expected


def test_a_used_code_gets_one_card(make_stage):
    stage = make_stage()
    stage.open(code="f" * 32)
    stage.page.locator(".blocked").wait_for(state="visible")
    assert "Press Enter where piker chart runs" in stage.page.inner_text(".blocked")


def test_the_code_leaves_the_address_at_once(stage):
    assert stage.page.url == f"{ORIGIN}/"
    hello = stage.heard[0]
    assert (hello.code, hello.secret) == (CODE, "")


def test_a_bare_chart_opens_the_palette(make_stage):
    stage = make_stage(charts=[])
    stage.open()
    stage.page.locator(".palette").wait_for(state="visible")
    assert stage.page.get_attribute(".palette input", "placeholder") == "Type a symbol."
    assert stage.page.locator(".pill").is_hidden()


def test_an_unknown_symbol_shows_the_closest(make_stage):
    stage = make_stage(charts=["btcusdtt.binance"])
    stage.has_debug = False
    stage.open()
    stage.page.locator(".palette").wait_for(state="visible")
    assert 'No market "btcusdtt.binance".' in stage.page.inner_text(".palette")
    assert FQME in stage.page.inner_text(".palette")
    stage.page.keyboard.press("Enter")
    stage.page.locator("#header .last").wait_for(state="visible")


def test_search_opens_a_market_by_keyboard(make_stage):
    other = "ethusdt.spot.binance"
    stage = make_stage(markets={FQME: picture_of(), other: picture_of(other)})
    stage.open()
    stage.page.keyboard.press("/")
    stage.page.keyboard.type("eth")
    stage.page.locator(".hit").wait_for(state="visible")
    stage.page.keyboard.press("Enter")
    stage.until(f"piker.debug.facts().market === '{other}' && piker.debug.facts().bars_in_view > 0")
    stage.page.keyboard.press("[")
    stage.until(f"piker.debug.facts().market === '{FQME}'")


def test_without_the_flag_nothing_can_be_inspected(make_stage):
    stage = make_stage()
    stage.has_debug = False
    stage.open()
    stage.page.locator("#header .last").wait_for(state="visible")
    assert stage.js("() => window.piker === undefined")


def test_no_word_of_orders_is_on_the_page(stage):
    text = stage.page.inner_text("body").lower()
    assert "order" not in text
    assert [node.inner_text() for node in stage.page.locator(".daemons > span").all()] == [
        "pikerd", "samplerd", "datad.binance", "emsd", "brokerd",
    ]  # fmt: skip


def test_changes_of_state_are_spoken(stage):
    say_status(stage, "stale", cause="No data from binance", age=9.0)
    stage.until("document.getElementById('polite').textContent.includes('No data')")


@pytest.mark.parametrize(
    ("key", "claim"),
    [
        ("Alt+l", "piker.debug.facts().view.log"),
        ("Alt+p", "piker.debug.facts().view.percent"),
        ("Alt+i", "piker.debug.facts().view.invert"),
        ("b", "document.documentElement.dataset.cvd === 'on'"),
        (",", "piker.debug.facts().period === 15"),
        (".", "piker.debug.facts().period === 300"),
        ("=", "piker.debug.facts().view.spacing > 9"),
        ("-", "piker.debug.facts().view.spacing < 7"),
        ("Home", "!piker.debug.facts().view.follow"),
        ("ArrowLeft", "document.querySelector('.tag.time:not(.hidden)') !== null"),
        ("?", "document.querySelector('.help').offsetParent !== null"),
        ("Control+k", "document.querySelector('.palette').offsetParent !== null"),
        ("Alt+v", "document.getElementById('polite').textContent.includes('last')"),
        ("\\", "piker.debug.facts().layout === 'two'"),
    ],
)
def test_a_key_does_what_the_sheet_says(stage, key, claim):
    stage.facts()  # log scale asks the painted picture whether all prices are positive
    stage.page.keyboard.press(key)
    stage.until(claim)


def test_typing_a_digit_opens_the_period_entry(stage):
    stage.page.keyboard.type("15")
    stage.page.keyboard.press("Enter")
    stage.until("piker.debug.facts().period === 900")
    stage.page.keyboard.type("7")
    stage.page.keyboard.press("Enter")
    assert "No such period" in stage.page.inner_text(".entry .wrong")
    stage.page.keyboard.press("Escape")
    assert stage.facts()["period"] == 900


def test_a_date_can_be_gone_to(stage):
    stage.page.keyboard.press("Alt+g")
    stage.page.keyboard.type("-1d")
    stage.page.keyboard.press("Enter")
    view = stage.facts()["view"]
    assert view["t0"] < NOW - 86400 < view["t1"]


def test_keys_are_remappable(make_stage):
    stage = make_stage()
    stage.prefs["keys"] = {"log": "l"}
    stage.open()
    stage.page.keyboard.press("l")
    stage.until("piker.debug.facts().view.log")


def test_a_measure_has_six_figures_and_esc_clears_it(stage):
    stage.page.keyboard.down("Shift")
    stage.page.mouse.move(500, 400)
    stage.page.mouse.down()
    stage.page.mouse.move(700, 250, steps=3)
    stage.page.mouse.up()
    stage.page.keyboard.up("Shift")
    assert stage.page.locator(".measure-words > span").all_inner_texts() == [
        "change", "bars", "max", "min", "sigma", "volume",
    ]  # fmt: skip
    stage.page.keyboard.press("Escape")
    assert stage.page.locator(".measure").is_hidden()


def test_a_phone_has_its_periods_in_the_thumb_bar(make_stage):
    stage = make_stage(390, 844, dpr=2, has_touch=True)
    stage.open()
    stage.page.tap("#thumb button:has-text('5m')")
    stage.until("piker.debug.facts().period === 300")
    assert stage.page.locator("#status").is_hidden()
    box = stage.page.locator(".pill").bounding_box()
    assert box["x"] + box["width"] <= 390


def test_a_reload_comes_back_with_the_tabs_own_secret(stage):
    stage.page.reload()
    stage.until("window.piker && piker.debug.facts().bars_in_view > 0")
    hello = [said for said in stage.heard if isinstance(said, messages.Hello)][-1]
    assert (hello.code, hello.secret) == ("", "secret")


def test_the_step_under_way_is_told_before_a_market_is_there(make_stage):
    stage = make_stage()
    stage.is_slow = True
    stage.page.goto(f"{ORIGIN}/#c={CODE}")
    stage.until("window.piker !== undefined")
    stage.say(messages.Status(0, "connecting", cause="Starting datad.binance…", daemons=DAEMONS))
    stage.page.locator(".note").wait_for(state="visible")
    assert stage.page.inner_text(".note") == "Starting datad.binance…"
    assert stage.page.inner_text(".pill .word") == "connecting"
    assert stage.page.locator(".daemons > span").count() == 5
