"""The live chart against the real session: bars, the live edge, wants, pixels and gestures."""

import numpy as np
import pytest
from stage import FQME, NOW, bars, picture_of

from piker.ui import messages

pytestmark = pytest.mark.browser
UP, DOWN = [0x2F, 0xA8, 0x86], [0xD9, 0x57, 0x5C]
GROUND = [0x0E, 0x11, 0x15]
GRID = [0x19, 0x1E, 0x25]


def test_the_page_shows_the_bars_of_the_market(stage):
    facts = stage.facts()
    view = facts["view"]
    shown = stage.js("([a, b]) => piker.debug.bars(a, b)", [view["t0"], view["t1"]])
    columns = stage.markets[FQME].block(60, int(NOW // 60) // 1024)[0]
    rows = {row[0]: row for row in columns.T}
    assert len(shown) > 100
    for bar in shown:
        if bar["t"] in rows:
            assert [bar[k] for k in "tohlcv"] == rows[bar["t"]].tolist()
    assert facts["price"] == stage.markets[FQME].l1[0]
    assert facts["mark"] == "LOCAL"
    assert facts["counts"] == {"nan": 0, "odd": 0, "ignored": 0}


def test_a_trade_moves_the_forming_bar_and_the_price(stage):
    price = round(stage.facts()["price"] + 1.5, 1)
    stage.trade(price)
    stage.until(f"piker.debug.facts().price === {price}")
    last = stage.facts()["last"]
    assert (last["c"], last["ver"]) == (price, stage.markets[FQME].ver)


def test_a_new_bar_shifts_a_following_view_by_exactly_one_slot(stage):
    before = stage.facts()
    stage.trade(61_200.0, at=NOW + 60)
    stage.until(f"piker.debug.facts().last.t === {before['last']['t'] + 60}")
    after = stage.facts()
    assert after["view"]["t1"] - before["view"]["t1"] == 60
    closed = stage.js("t => piker.debug.bars(t, t + 60)", before["last"]["t"])
    assert [closed[0][k] for k in "ohlc"] == [before["last"][k] for k in "ohlc"]


def test_a_view_that_does_not_follow_stands_still(stage):
    stage.page.mouse.move(600, 300)
    stage.page.mouse.down()
    stage.page.mouse.move(1100, 300, steps=4)
    stage.page.mouse.up()
    before = stage.facts()
    assert before["view"]["follow"] is False
    stage.trade(61_200.0, at=NOW + 60)
    stage.until(f"piker.debug.facts().last.t > {before['last']['t']}")
    assert stage.facts()["view"] == before["view"]
    stage.page.keyboard.press("n")
    assert stage.facts()["view"]["follow"] is True


def test_history_that_arrives_on_the_left_never_moves_the_view(stage):
    before = stage.facts()["view"]
    older = bars(6000, 60)[:, :3000]
    stage.markets[FQME].merge(60, older)
    stage.pump()
    stage.until("piker.debug.facts().blocks.missing === 0")
    after = stage.facts()["view"]
    assert (after["t0"], after["t1"]) == (before["t0"], before["t1"])


def test_rewritten_history_is_asked_again_and_shown(stage):
    columns = stage.markets[FQME].block(60, int(NOW // 60) // 1024)[0]
    row = columns[:, -30].copy()
    row[4] = row[2]
    stage.markets[FQME].merge(60, row[:, None])
    stage.pump()
    stage.until(f"piker.debug.bars({row[0]}, {row[0] + 60})[0].c === {row[4]}")


def test_no_more_than_sixteen_blocks_are_outstanding(make_stage):
    stage = make_stage(markets={FQME: picture_of(n=60_000)})
    stage.open()
    for _ in range(30):
        stage.page.keyboard.press("-")
    stage.until("piker.debug.facts().blocks.missing === 0")
    wants = [said for said in stage.heard if isinstance(said, messages.Want)]
    assert wants
    assert max(len(want.ks) for want in wants) <= 16


def test_every_extreme_is_lit_when_many_bars_share_a_column(make_stage):
    stage = make_stage(markets={FQME: picture_of(n=60_000)})
    stage.open()
    for _ in range(24):
        stage.page.keyboard.press("-")
    stage.until("piker.debug.facts().blocks.missing === 0")
    facts = stage.facts()
    assert facts["rung"] > 60
    columns = bars(60_000, 60)
    inside = columns[:, (columns[0] > facts["view"]["t0"]) & (columns[0] < NOW - 7200)]
    bar = inside[:, np.argmax(inside[2])]
    # The bucket's column stands within one device px of the bar.
    lit = stage.js(
        "([t, p]) => { const {x, y} = piker.debug.xy(t, p);"
        " return [-1, 0, 1].map(d => piker.debug.pixel(x + d, y + 1).slice(0, 3)); }",
        [float(bar[0]), float(bar[2])],
    )
    assert any(pixel in (UP, DOWN) for pixel in lit)


@pytest.mark.parametrize("dpr", [1, 1.5, 2])
def test_bodies_and_wicks_have_their_colour_and_hairline(make_stage, dpr):
    stage = make_stage(dpr=dpr)
    stage.open()
    facts = stage.facts()
    h = int(max(1, dpr // 1))
    shown = stage.js("([a, b]) => piker.debug.bars(a, b)", [NOW - 6000, NOW - 120])
    probed = 0
    for bar in shown:
        body = abs(bar["c"] - bar["o"])
        if body < 8 or bar["h"] - max(bar["o"], bar["c"]) < 8:
            continue
        middle = (bar["o"] + bar["c"]) / 2
        wick = (bar["h"] + max(bar["o"], bar["c"])) / 2
        colour = UP if bar["c"] >= bar["o"] else DOWN
        pixels = stage.js(
            "([t, body, wick, h]) => { const d = piker.debug;"
            " const a = d.xy(t, body); const b = d.xy(t, wick);"
            " return [[a.x, a.y], [b.x, b.y], [b.x - 1, b.y], [b.x + h, b.y]]"
            ".map(([x, y]) => d.pixel(x, y).slice(0, 3)); }",
            [bar["t"], middle, wick, h],
        )
        assert pixels[0] == colour
        assert pixels[1] == colour
        assert pixels[2] != colour
        assert pixels[3] != colour
        probed += 1
    assert probed >= 10
    assert facts["view"]["spacing"] == pytest.approx(8, abs=0.2)


def test_the_ground_beside_the_bars_is_the_token(stage):
    pixel = stage.js("() => piker.debug.pixel(1186, 3).slice(0, 3)")
    assert pixel in (GROUND, GRID)


def test_light_follows_the_system_and_t_turns_it(make_stage):
    stage = make_stage(scheme="light")
    stage.open()
    assert stage.facts()["theme"] == "light"
    stage.page.keyboard.press("t")
    assert stage.facts()["theme"] == "dark"


def test_the_wheel_zooms_about_the_last_bar_while_following(stage):
    before = stage.facts()
    x = stage.js("t => piker.debug.xy(t, 0).x", before["last"]["t"])
    stage.page.mouse.move(300, 300)
    stage.page.mouse.wheel(0, 100)
    stage.until(f"piker.debug.facts().view.spacing < {before['view']['spacing']}")
    assert stage.js("t => piker.debug.xy(t, 0).x", before["last"]["t"]) == pytest.approx(x, abs=2)


def test_dragging_the_price_axis_is_manual_until_a_double_click(stage):
    stage.page.mouse.move(1240, 300)
    stage.page.mouse.down()
    stage.page.mouse.move(1240, 380, steps=3)
    stage.page.mouse.up()
    assert stage.facts()["view"]["autoY"] is False
    stage.page.mouse.dblclick(1240, 500)
    assert stage.facts()["view"]["autoY"] is True


def test_the_crosshair_reads_the_bar_under_it_and_snaps_to_the_tick(stage):
    stage.page.mouse.move(600, 300)
    stage.facts()
    bar = stage.js("() => piker.debug.at(600, 260).bar")
    readout = stage.page.inner_text(".readout").replace("\u2009", "")
    assert f"{bar['c']:.1f}" in readout
    tag = stage.page.inner_text(".tag.price").replace("\u2009", "")
    assert abs(float(tag) * 10 - round(float(tag) * 10)) < 1e-6


def test_left_of_the_first_second_a_second_chart_shows_minutes(stage):
    stage.page.click("#periods button:has-text('1s')")
    stage.until("piker.debug.facts().bars_in_view > 0")
    for _ in range(12):
        stage.page.keyboard.press("-")
    stage.until("piker.debug.facts().blocks.missing === 0")
    view = stage.facts()["view"]
    assert view["t0"] < NOW - 700
    minute = stage.js("([a, b]) => piker.debug.bars(a, b, 60)", [view["t0"], NOW - 700])
    assert minute


def test_an_idle_page_paints_nothing(stage):
    stage.page.wait_for_timeout(300)
    before = stage.js("() => piker.debug.facts().frames")
    stage.page.wait_for_timeout(400)
    after = stage.js("() => piker.debug.facts().frames")
    # Only the second hand of the countdown may have run.
    assert after["painted"] - before["painted"] <= 1


def test_one_bar_and_no_bar_are_drawn_without_an_error(make_stage):
    lone = picture_of(n=0)
    lone.merge(60, bars(1, 60))
    for market in (lone, picture_of(n=0)):
        stage = make_stage(markets={FQME: market})
        stage.has_debug = True
        stage.page.goto("http://127.0.0.1:9/#c=00112233445566778899aabbccddeeff")
        stage.until("window.piker && piker.debug.facts().feed === 'live'")
        stage.js("() => piker.debug.painted()")


def test_a_market_without_volume_has_no_volume_pane(make_stage):
    stage = make_stage(markets={FQME: picture_of(has_vlm=False)})
    stage.open()
    assert stage.page.locator(".volume-label").is_hidden()


def test_several_markets_are_overlaid_in_percent(make_stage):
    other = "ethusdt.spot.binance"
    stage = make_stage(markets={FQME: picture_of(), other: picture_of(other)}, charts=[FQME, other])
    stage.open()
    stage.until("piker.debug.facts().view.percent === true")
    assert stage.page.locator(".overlay-chips .chip").count() == 1
    stage.page.click(".overlay-chips .chip")
    stage.until("piker.debug.facts().view.percent === false")


def test_two_charts_share_the_time_under_the_pointer(stage):
    stage.page.keyboard.press("\\")
    stage.until("document.querySelectorAll('.chart .last-line:not(.hidden)').length === 2")
    stage.page.mouse.move(300, 300)
    stage.until("document.querySelectorAll('.tag.time:not(.hidden)').length === 2")
    tags = stage.page.locator(".tag.time")
    assert tags.nth(0).inner_text() == tags.nth(1).inner_text()
