"""Order mode in a real browser: stage, submit, amend, cancel, close, stop, every state's looks."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from msgspec.structs import replace
from order_stage import ALLOC, CHAN, FQME, Desk, fill_of, position_of
from stage import NOW, picture_of, status

from piker.ui import messages
from piker.ui import order_messages as om

pytestmark = pytest.mark.browser


@pytest.fixture
def desk(make_stage):
    made = Desk(make_stage())
    made.open()
    made.stage.until("piker.debug.facts().desk.state === 'ready'")
    return made


def staged(desk, offset=-20.0, keys=("f", "s")):
    """Hold order keys over a price below the last one and return that price."""
    price = desk.price(offset)
    desk.hover(price)
    desk.hold(*keys)
    desk.stage.until("piker.debug.facts().stage?.sized || piker.debug.facts().stage?.price")
    return price


def click(desk):
    desk.stage.page.mouse.down()
    desk.stage.page.mouse.up()


# ---- staging


@pytest.mark.parametrize(
    ("keys", "mode", "tone", "dash"),
    [
        (("f", "s"), "buy", "buy", False),
        (("d", "s"), "sell", "sell", False),
        (("f", "Control"), "buy", "buy", False),
        (("f",), "dark buy", "buy", True),
        (("d",), "dark sell", "sell", True),
        (("a",), "alert", "alert", False),
    ],
)
def test_held_keys_stage_an_order_at_the_pointer(desk, keys, mode, tone, dash):
    staged(desk, keys=keys)
    facts = desk.stage.facts()
    assert facts["mode"] == mode
    assert desk.stage.page.inner_text("#status .mode") == mode
    line = desk.line("staged", "staged")
    assert (line["tone"], line["dash"], line["words"][0]) == (tone, dash, mode)
    assert facts["side"] is True
    desk.let_go(*keys)
    desk.stage.until("piker.debug.facts().mode === 'view'")
    assert not desk.of(om.OrderAsked)


def test_the_staged_price_is_a_whole_tick_and_its_size_the_allocators(desk):
    staged(desk)
    desk.stage.until("piker.debug.facts().stage.sized")
    facts = desk.stage.facts()
    assert re.fullmatch(r"\d+\.\d", facts["stage"]["price"])
    words = desk.line("staged", "staged")["words"]
    assert words == ["buy", "0.01632", "1.0x", "~ 1\u2009000 $"]
    asked = desk.of(om.SizeAsked)[-1]
    assert (asked.side, asked.price, asked.steps) == ("buy", facts["stage"]["price"], 1)


def test_the_last_price_label_gives_way_to_the_staged_tag(desk):
    price = desk.price(-4)
    y = desk.y_of(price) - 40
    pixel = (
        "([x, y]) => { const c = [...document.querySelectorAll('canvas.edge:not(.hidden)')].pop();"
    )
    pixel += " return [...c.getContext('2d').getImageData(x - c.offsetLeft, y, 1, 1).data]; }"
    x = desk.stage.js("() => document.querySelector('.chart').clientWidth - 3")
    assert desk.stage.js(pixel, [x, y])[3] == 255
    desk.hover(price)
    desk.hold("f", "s")
    desk.stage.until("piker.debug.facts().stage?.price")
    x = desk.stage.js("() => document.querySelector('.chart').clientWidth - 3")
    desk.stage.facts()
    assert desk.stage.js(pixel, [x, y])[3] == 0


@pytest.mark.parametrize("how", ["wheel", "digit"])
def test_wheel_and_digit_choose_the_slots(desk, how):
    staged(desk)
    if how == "wheel":
        desk.stage.page.mouse.wheel(0, -100)
        desk.stage.page.mouse.wheel(0, -100)
    else:
        desk.stage.page.keyboard.press("3")
    desk.stage.until("piker.debug.facts().stage.sized?.share === '3.0'")
    assert desk.stage.js("() => document.querySelectorAll('#side .cell.staged').length") == 3
    click(desk)
    desk.stage.until("piker.debug.facts().orders.length === 1")
    order = desk.of(om.OrderAsked)[0]
    assert (order.steps, order.size) == (3, "0.04896")


def test_the_view_stands_still_while_an_order_is_staged(desk):
    before = desk.stage.facts()
    staged(desk)
    high = before["view"]["hi"] + 50
    desk.stage.trade(high)
    desk.stage.trade(high, at=NOW + 60)
    desk.stage.until(f"piker.debug.facts().price === {high}")
    during = desk.stage.facts()["view"]
    assert (during["lo"], during["hi"]) == (before["view"]["lo"], before["view"]["hi"])
    assert during["t1"] == before["view"]["t1"]
    desk.let_go("s", "f")
    desk.stage.until(f"piker.debug.facts().view.hi > {high}")
    assert desk.stage.facts()["view"]["t1"] > during["t1"]


def test_a_lost_key_up_leaves_order_mode(desk):
    staged(desk)
    desk.stage.js("() => dispatchEvent(new Event('blur'))")
    assert desk.stage.facts()["mode"] == "view"


def test_searching_ends_staging(desk):
    staged(desk, keys=("f",))
    desk.stage.page.keyboard.press("/")
    assert desk.stage.facts()["mode"] == "view"


def test_an_order_key_asks_for_the_order_side_when_it_is_off(make_stage):
    desk = Desk(make_stage(), "off")
    desk.open()
    desk.hover(desk.price(-10))
    desk.hold("f")
    desk.stage.until("piker.debug.facts().mode === 'dark buy'")
    assert desk.of(om.Trade)
    click(desk)
    assert not desk.of(om.OrderAsked)
    assert "connecting" in desk.last_message()


# ---- submit


def test_a_click_sends_one_order_whose_line_is_grey_until_acknowledged(desk):
    desk.is_mute = False
    staged(desk)
    desk.stage.until("piker.debug.facts().stage.sized")
    price = desk.stage.facts()["stage"]["price"]
    click(desk)
    desk.let_go("s", "f")
    desk.stage.until("piker.debug.facts().orders.length === 1")
    (order,) = desk.of(om.OrderAsked)
    assert (order.action, order.exec_mode, order.price) == ("buy", "live", price)
    assert (order.size, order.steps, order.confirmed) == ("0.01632", 1, False)
    assert re.fullmatch("[0-9a-f]{32}", order.oid)
    assert desk.line(order.oid)["tone"] == "pending"
    desk.stage.until("piker.debug.facts().lines[0].words.some(w => /^sent \\d+ ms$/.test(w))")
    assert any(text == "submitting buy" for text in desk.stage.facts()["messages"])
    desk.say(order.oid, state="open", revision=1)
    desk.stage.until("piker.debug.facts().lines[0].tone === 'buy'")
    assert desk.line(order.oid)["words"] == ["buy"]


def test_a_double_click_is_one_order(desk):
    staged(desk)
    desk.stage.page.mouse.dblclick(500, desk.y_of(desk.price(-20)))
    desk.stage.facts()
    assert len(desk.of(om.OrderAsked)) == 1


def test_the_button_is_dead_until_the_line_exists(desk):
    staged(desk)
    desk.stage.until("piker.debug.facts().stage.sized")
    desk.is_mute = True
    click(desk)
    desk.stage.page.wait_for_timeout(300)
    click(desk)
    assert len(desk.of(om.OrderAsked)) == 1
    desk.answer(desk.of(om.OrderAsked)[0])
    desk.stage.facts()
    click(desk)
    desk.stage.facts()
    assert len(desk.of(om.OrderAsked)) == 2


def test_an_alert_has_no_size_and_is_held(desk):
    staged(desk, keys=("a",))
    click(desk)
    desk.stage.until("piker.debug.facts().orders.length === 1")
    (order,) = desk.of(om.OrderAsked)
    assert (order.action, order.exec_mode, order.size) == ("alert", "dark", "")
    desk.say(order.oid, state="dark_open", fires="at or below")
    desk.stage.until("piker.debug.facts().lines[0].tone === 'alert'")
    assert desk.stage.js("() => document.querySelectorAll('.bell').length") == 1


def test_a_click_beside_the_plot_sends_nothing(desk):
    staged(desk)
    desk.stage.page.mouse.move(500, 640)
    desk.stage.facts()
    click(desk)
    assert not desk.of(om.OrderAsked)
    assert "click on the plot" in desk.last_message()


def test_a_price_below_zero_is_refused_here(make_stage):
    desk = Desk(make_stage())
    desk.open()
    page = desk.stage.page
    page.mouse.move(1240, 300)
    for _ in range(80):
        page.mouse.wheel(0, 120)
    page.mouse.move(500, 560)
    desk.stage.until("piker.debug.facts().view.lo < -1000")
    desk.hold("f", "s")
    desk.stage.until("Number(piker.debug.facts().stage?.price) < 0")
    click(desk)
    assert not desk.of(om.OrderAsked)
    assert "above zero" in desk.last_message()
    assert "above zero" in desk.stage.page.inner_text("#alarm")


def test_a_closed_gate_refuses_staging_in_words(desk):
    gate = f"order gate closed: {FQME} is stale"
    made = status("stale", age=41.0, gate=gate)
    desk.stage.markets[FQME].status = made
    desk.stage.markets[FQME].publish(made)
    desk.stage.pump()
    desk.stage.until("piker.debug.facts().feed === 'stale'")
    staged(desk)
    desk.stage.until(f"piker.debug.facts().hint === '{gate}'")
    click(desk)
    assert not desk.of(om.OrderAsked)
    assert desk.last_message() == f"Nothing sent: {gate}"


def test_what_the_allocator_has_no_size_for_is_not_sent(desk):
    staged(desk)
    desk.stage.until("piker.debug.facts().stage.sized")
    asked = desk.of(om.SizeAsked)[-1]
    text = "limit is used up"
    desk.stage.say(om.Sized(asked.id, CHAN, "buy", asked.price, 1, "", "", "0.0", text=text))
    desk.stage.until("piker.debug.facts().stage.sized.size === ''")
    click(desk)
    assert not desk.of(om.OrderAsked)
    assert desk.last_message() == text


def test_an_order_that_needs_it_waits_for_enter(desk):
    desk.needs_confirm = True
    staged(desk)
    desk.stage.until("piker.debug.facts().stage.sized")
    click(desk)
    desk.let_go("s", "f")
    assert not desk.of(om.OrderAsked)
    facts = desk.stage.facts()
    assert facts["waits"].startswith("enter within 3 s: buy 0.01632 at")
    assert any("enter sends" in word for word in desk.line("staged", "staged")["words"])
    desk.stage.page.keyboard.press("Enter")
    desk.stage.until("piker.debug.facts().orders.length === 1")
    assert desk.of(om.OrderAsked)[0].confirmed is True
    assert desk.stage.facts()["mode"] == "view"


def test_what_is_not_confirmed_in_three_seconds_is_dropped(desk):
    desk.needs_confirm = True
    staged(desk)
    desk.stage.until("piker.debug.facts().stage.sized")
    click(desk)
    desk.let_go("s", "f")
    desk.stage.until("piker.debug.facts().waits === ''", 5)
    desk.stage.page.keyboard.press("Enter")
    assert not desk.of(om.OrderAsked)
    assert desk.last_message() == "Dropped: nothing was sent."


def test_an_order_that_the_desk_wants_confirmed_is_sent_again_under_its_own_name(desk):
    staged(desk)
    desk.is_mute = True
    click(desk)
    desk.let_go("s", "f")
    desk.stage.facts()
    (first,) = desk.of(om.OrderAsked)
    desk.stage.say(messages.Err("order", "confirm", "confirm", CHAN, first.id, oid=first.oid))
    desk.stage.until("piker.debug.facts().waits !== ''")
    desk.stage.page.keyboard.press("Enter")
    desk.stage.facts()
    second = desk.of(om.OrderAsked)[1]
    assert (second.oid, second.confirmed) == (first.oid, True)


def test_a_refused_entry_leaves_and_its_reason_is_said_in_full(desk):
    staged(desk)
    desk.is_mute = True
    click(desk)
    desk.stage.facts()
    (order,) = desk.of(om.OrderAsked)
    reason = "max_notional: was 3012.50 USDT, limit 2500"
    desk.answer(order)
    desk.say(order.oid, state="error", gone=True, refused="entry", reason=reason)
    desk.stage.until("piker.debug.facts().orders.length === 0")
    assert reason in desk.last_message()
    assert reason in desk.stage.page.inner_text("#alarm")
    desk.stage.until("!piker.debug.facts().lines.some(l => l.kind === 'order')")


# ---- amend


def drag(desk, y0, y1, x=900):
    mouse = desk.stage.page.mouse
    mouse.move(x, y0)
    mouse.down()
    mouse.move(x, (y0 + y1) / 2)
    mouse.move(x, y1)
    desk.stage.facts()


def test_a_dragged_line_is_amended_on_release(desk):
    oid = desk.working(desk.price(-20))
    before = desk.line(oid)
    target = desk.price(-30)
    drag(desk, desk.y_of(desk.price(-20)), desk.y_of(target))
    ghost = desk.line(oid, "ghost")
    assert ghost["tone"] == "pending"
    assert desk.line(oid)["y"] == before["y"]
    assert not desk.of(om.AmendAsked)
    desk.stage.page.mouse.up()
    desk.stage.until("piker.debug.facts().orders[0].state === 'amend_in_flight'")
    (asked,) = desk.of(om.AmendAsked)
    assert (asked.oid, asked.revision) == (oid, 1)
    assert float(asked.price) == pytest.approx(target, abs=0.6)
    assert "amend sent" in desk.line(oid)["words"]
    assert desk.line(oid, "ghost")["words"] == ["amend → sent"]
    desk.say(oid, state="open", price=asked.price, asked_price="", revision=2)
    desk.stage.until("piker.debug.facts().lines.length === 1")
    assert desk.line(oid)["level"] == float(asked.price)


def test_esc_during_the_drag_undoes_it(desk):
    oid = desk.working(desk.price(-20))
    drag(desk, desk.y_of(desk.price(-20)), desk.y_of(desk.price(-30)))
    desk.stage.page.keyboard.press("Escape")
    desk.stage.page.mouse.up()
    desk.stage.facts()
    assert not desk.of(om.AmendAsked)
    assert [line["kind"] for line in desk.stage.facts()["lines"]] == ["order"]
    assert desk.line(oid)["state"] == "open"


def test_a_drag_along_a_line_pans_and_changes_nothing(desk):
    desk.working(desk.price(-20))
    y = desk.y_of(desk.price(-20))
    before = desk.stage.facts()["view"]["t1"]
    mouse = desk.stage.page.mouse
    mouse.move(500, y)
    mouse.down()
    mouse.move(600, y + 2, steps=4)
    mouse.move(700, y + 30, steps=4)
    mouse.up()
    assert desk.stage.facts()["view"]["t1"] < before
    assert not desk.of(om.AmendAsked)


def test_a_refused_amend_keeps_the_old_line(desk):
    oid = desk.working(desk.price(-20))
    drag(desk, desk.y_of(desk.price(-20)), desk.y_of(desk.price(-30)))
    desk.stage.page.mouse.up()
    desk.stage.until("piker.debug.facts().orders[0].state === 'amend_in_flight'")
    reason = "price: was 1.23, expected a multiple of 0.1"
    desk.say(oid, state="open", asked_price="", refused="amend", reason=reason)
    desk.stage.until("!piker.debug.facts().lines.some(l => l.kind === 'ghost')")
    assert desk.line(oid)["tone"] == "buy"
    assert desk.last_message().startswith("Change refused: buy")
    assert reason in desk.last_message()


def test_a_focused_line_is_moved_by_ticks_and_enter(desk):
    oid = desk.working(desk.price(-20))
    price = desk.price(-20)
    desk.stage.js("() => document.querySelector('.order-line').focus()")
    keyboard = desk.stage.page.keyboard
    keyboard.press("ArrowUp")
    keyboard.press("Shift+ArrowUp")
    assert desk.line(oid, "ghost")["level"] == pytest.approx(price + 1.1)
    assert not desk.of(om.AmendAsked)
    keyboard.press("Enter")
    desk.stage.facts()
    assert [asked.price for asked in desk.of(om.AmendAsked)] == [f"{price + 1.1:.1f}"]


def test_a_nudge_is_undone_when_the_line_loses_the_focus(desk):
    desk.working(desk.price(-20))
    desk.stage.js("() => document.querySelector('.order-line').focus()")
    desk.stage.page.keyboard.press("ArrowUp")
    desk.stage.until("piker.debug.facts().lines.length === 2")
    desk.stage.page.mouse.click(300, 120)
    desk.stage.until("piker.debug.facts().lines.length === 1")
    desk.stage.page.keyboard.press("Enter")
    desk.stage.facts()
    assert not desk.of(om.AmendAsked)


def test_another_market_ends_staging(make_stage):
    other = "ethusdt.spot.binance"
    markets = {FQME: picture_of(), other: picture_of(other)}
    desk = Desk(make_stage(markets=markets))
    desk.open()
    desk.stage.page.keyboard.press("/")
    desk.stage.page.keyboard.type("eth")
    desk.stage.page.wait_for_timeout(200)
    desk.stage.page.keyboard.press("Enter")
    desk.stage.until(f"piker.debug.facts().market === '{other}'")
    desk.stage.page.keyboard.press("[")
    desk.stage.until(f"piker.debug.facts().market === '{FQME}'")
    staged(desk)
    desk.stage.page.keyboard.press("]")
    desk.stage.until(f"piker.debug.facts().market === '{other}'")
    assert desk.stage.facts()["mode"] == "view"
    click(desk)
    assert not desk.of(om.OrderAsked)


def test_lines_are_mirrored_and_staged_where_the_pointer_is(desk):
    desk.stage.page.keyboard.press("\\")
    desk.stage.until("piker.debug.facts().layout === 'two'")
    desk.working(desk.price(-20))
    assert desk.stage.js("() => document.querySelectorAll('.order-line.order').length") == 2
    desk.stage.page.mouse.move(900, 300)
    desk.stage.facts()
    desk.hold("d")
    desk.stage.until("document.querySelectorAll('.order-line.staged').length === 1")
    left = desk.stage.js("() => document.querySelector('.staged').closest('.chart').offsetLeft")
    assert left > 600


def test_a_finger_moves_only_a_line_that_it_tapped_before(make_stage):
    desk = Desk(make_stage(width=390, height=844, has_touch=True, is_mobile=True))
    desk.open()
    oid = desk.working(desk.price(-20))
    y = desk.y_of(desk.price(-20))
    touch = desk.stage.page.context.new_cdp_session(desk.stage.page)

    def swipe(*points):
        for kind, at in zip(("touchStart", *["touchMove"] * 9), points, strict=False):
            where = [{"x": 100, "y": at}]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": where})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        desk.stage.facts()

    swipe(y, y + 10, y + 40)
    assert not desk.of(om.AmendAsked)
    swipe(y)
    swipe(y, y + 10, y + 40)
    assert [asked.oid for asked in desk.of(om.AmendAsked)] == [oid]


def test_a_double_click_on_a_line_edits_its_size(desk):
    desk.working(desk.price(-20))
    desk.stage.page.mouse.dblclick(600, desk.y_of(desk.price(-20)))
    desk.stage.page.locator(".entry").wait_for(state="visible")
    desk.stage.page.fill(".entry input", "0")
    desk.stage.page.keyboard.press("Enter")
    assert "above zero" in desk.stage.page.inner_text(".entry .wrong")
    desk.stage.page.fill(".entry input", "0.01")
    desk.stage.page.keyboard.press("Enter")
    desk.stage.facts()
    assert [asked.size for asked in desk.of(om.AmendAsked)] == ["0.01"]


@pytest.mark.parametrize(("what", "offset"), [("take_profit", 15.0), ("stop_loss", -35.0)])
def test_a_handle_of_an_entry_makes_its_bracket(desk, what, offset):
    oid = desk.working(desk.price(-20))
    desk.hover(desk.price(-20), 600)
    handle = desk.stage.page.locator(f"[data-handle={what}]")
    box = handle.bounding_box()
    assert box
    target = desk.price(offset)
    drag(desk, box["y"] + 8, desk.y_of(target), box["x"] + 8)
    desk.stage.page.mouse.up()
    desk.stage.facts()
    (asked,) = desk.of(om.AmendAsked)
    assert float(getattr(asked, what)) == pytest.approx(target, abs=0.6)
    assert (asked.oid, asked.price) == (oid, "")


def test_the_legs_of_a_bracket_are_joined_to_their_entry(desk):
    entry = desk.working(desk.price(-10))
    legs = {
        "take profit": desk.working(
            desk.price(10), "sell", parent=entry, order_type="take_profit", exec_mode="dark",
            state="dark_open", fires="at or above",
        ),
        "stop loss": desk.working(
            0, "sell", parent=entry, order_type="stop", exec_mode="dark", state="dark_open",
            trigger_price=f"{desk.price(-30):.1f}", fires="at or below",
        ),
    }  # fmt: skip
    for words, oid in legs.items():
        assert desk.line(oid)["words"] == [words]
    assert desk.stage.js("() => document.querySelectorAll('.join:not(.hidden)').length") == 2
    desk.stage.page.keyboard.press("Control+ ")
    desk.stage.until("piker.debug.facts().side")
    assert "only while piker runs" in desk.stage.page.inner_text("#side .working")


# ---- cancel, close, stop


@pytest.mark.parametrize("key", ["c", "Delete"])
def test_a_key_cancels_the_line_under_the_pointer(desk, key):
    oid = desk.working(desk.price(-20))
    desk.working(desk.price(-28))
    desk.hover(desk.price(-20))
    desk.stage.page.keyboard.press(key)
    desk.stage.until("piker.debug.facts().orders.some(o => o.state === 'cancel_in_flight')")
    assert [asked.oid for asked in desk.of(om.CancelAsked)] == [oid]
    line = desk.line(oid)
    assert (line["tone"], line["words"][-1]) == ("pending", "cancelling")
    desk.say(oid, state="canceled", gone=True)
    desk.stage.until("piker.debug.facts().orders.length === 1")


def test_the_cross_of_a_chip_cancels(desk):
    oid = desk.working(desk.price(-20))
    desk.stage.page.click(".order-line.order .close")
    desk.stage.facts()
    assert [asked.oid for asked in desk.of(om.CancelAsked)] == [oid]


def test_c_twice_cancels_all_and_counts_down(desk):
    oids = [desk.working(desk.price(-20 - 8 * i)) for i in range(3)]
    desk.stage.page.mouse.move(500, 60)
    desk.stage.page.keyboard.press("c")
    desk.stage.page.keyboard.press("c")
    desk.stage.facts()
    assert len(desk.of(om.CancelAll)) == 1
    assert desk.last_message() == "cancelling 3"
    for oid in oids:
        desk.say(oid, state="canceled", gone=True)
    assert desk.last_message() == "cancelled 3"


def test_c_once_over_nothing_cancels_nothing(desk):
    desk.working(desk.price(-20))
    desk.stage.page.mouse.move(500, 60)
    desk.stage.page.keyboard.press("c")
    desk.stage.page.wait_for_timeout(250)
    desk.stage.page.keyboard.press("c")
    desk.stage.facts()
    assert not desk.of(om.CancelAll)
    assert not desk.of(om.CancelAsked)


def test_a_position_is_closed_after_enter_only(desk):
    desk.stage.say(position_of("0.03264", desk.price(-10)))
    desk.stage.until("piker.debug.facts().lines.length === 1")
    line = desk.line("pos:paper", "position")
    assert (line["words"], line["secret"][:2], line["tone"]) == (
        ["long"], ["0.03264", "2.0x"], "accent",
    )  # fmt: skip
    assert line["secret"][2] == "+0.33 $"
    desk.stage.page.click(".order-line.position .close")
    assert not desk.of(om.Flatten)
    assert "close long 0.03264 BTC" in desk.stage.facts()["waits"]
    desk.stage.page.keyboard.press("Enter")
    desk.stage.facts()
    assert [asked.account for asked in desk.of(om.Flatten)] == ["paper"]


def test_stop_all_waits_for_enter_and_shows_the_red_bar(desk):
    desk.stage.page.keyboard.press("Control+ ")
    desk.stage.page.click("#side .stop")
    assert not desk.of(om.Kill)
    desk.stage.page.keyboard.press("Enter")
    desk.stage.facts()
    assert len(desk.of(om.Kill)) == 1
    text = "stopped: piker arm to trade again"
    desk.stage.say(om.DeskState(CHAN, "ready", killed=text))
    desk.stage.page.locator(".stopped").wait_for(state="visible")
    assert desk.stage.page.inner_text(".stopped") == text
    staged(desk)
    click(desk)
    assert not desk.of(om.OrderAsked)
    desk.let_go("s", "f")
    desk.stage.page.click("#side .stop")
    desk.stage.page.keyboard.press("Enter")
    desk.stage.facts()
    assert len(desk.of(om.Arm)) == 1
    desk.stage.say(om.DeskState(CHAN, "ready"))
    desk.stage.page.locator(".stopped").wait_for(state="hidden")


# ---- looks


@pytest.mark.parametrize(
    ("fields", "tone", "dash", "words"),
    [
        ({"state": "open"}, "sell", False, ["sell"]),
        (
            {"state": "partially_filled", "filled": "0.006528"}, "sell", False,
            ["sell", "40 % filled"],
        ),
        ({"state": "dark_open", "exec_mode": "dark"}, "sell", True, ["sell dark"]),
        (
            {"state": "triggered", "exec_mode": "dark"}, "pending", False,
            ["sell dark", "triggered"],
        ),
        ({"state": "unknown"}, "warn", False, ["sell", "unknown: asking the venue"]),
        ({"state": "cancel_in_flight"}, "pending", False, ["sell", "cancelling"]),
        ({"state": "open", "client_ref": "grid-bot"}, "sell", False, ["sell", "grid-bot"]),
    ],
)  # fmt: skip
def test_each_state_has_its_looks(desk, fields, tone, dash, words):
    oid = desk.working(desk.price(15), "sell", **fields)
    line = desk.line(oid)
    assert (line["tone"], line["dash"], line["words"]) == (tone, dash, words)
    token = desk.stage.js(
        "t => { const n = document.createElement('i'); n.style.color = `var(--${t})`;"
        " document.body.append(n); const c = getComputedStyle(n).color; n.remove(); return c; }",
        tone,
    )
    assert line["colour"] == token


def test_sizes_and_money_show_only_on_hover_focus_or_a_held_key(desk):
    desk.working(desk.price(15), "sell")
    desk.stage.page.mouse.move(400, 500)
    visible = "() => getComputedStyle(document.querySelector('.order-line .secret')).display"
    assert desk.stage.js(visible) == "none"
    desk.hover(desk.price(15))
    assert desk.stage.js(visible) == "block"
    desk.stage.page.mouse.move(400, 500)
    desk.hold("f")
    desk.stage.facts()
    assert desk.stage.js(visible) == "block"


def test_order_labels_always_shows_them(make_stage):
    desk = Desk(make_stage(), order_labels="always")
    desk.open()
    desk.working(desk.price(15), "sell")
    assert desk.stage.js("() => document.body.classList.contains('revealing')")


def test_lines_off_the_axis_stand_at_its_edge_and_never_stretch_it(desk):
    before = desk.stage.facts()["view"]
    desk.working(desk.price(5000), "sell")
    after = desk.stage.facts()["view"]
    assert (before["lo"], before["hi"]) == (after["lo"], after["hi"])
    assert "▲" in desk.stage.page.inner_text(".off-lines.above")


def test_chips_of_close_lines_do_not_cover_one_another(desk):
    for i in range(4):
        desk.working(desk.price(-20 - i * 0.5))
    tops = desk.stage.js(
        "() => [...document.querySelectorAll('.order-chip')]"
        ".map(n => n.getBoundingClientRect().top)"
    )
    assert all(b - a >= 17.9 for a, b in pairwise(sorted(tops)))


def test_fills_are_marked_on_their_bar_and_told_once(desk):
    bar = desk.stage.js("t => piker.debug.bars(t, t + 60)[0]", NOW // 60 * 60 - 1200)
    fill = fill_of("ab" * 16, bar["l"] + 0.1, t=bar["t"] + 5)
    desk.stage.say(fill)
    desk.stage.say(fill)
    desk.stage.say(fill_of("ab" * 16, bar["h"], "sell", t=bar["t"] + 9))
    desk.stage.until("piker.debug.facts().marks.length === 2")
    facts = desk.stage.facts()
    assert len(facts["fills"]) == 2
    assert sum("bought" in text for text in facts["messages"]) == 1
    low = desk.stage.js("([t, p]) => piker.debug.xy(t, p)", [bar["t"], bar["l"]])
    up = next(mark for mark in facts["marks"] if mark["side"] == "buy")
    assert abs(up["x"] - low["x"]) <= 1
    assert up["y"] > low["y"]
    pixel = desk.stage.js("([x, y]) => piker.debug.pixel(x, y).slice(0, 3)", [up["x"], up["y"] + 4])
    assert pixel == [0x2F, 0xB5, 0x8C]
    desk.stage.page.mouse.move(up["x"], up["y"] + 40)
    desk.stage.until("document.querySelector('.chart').title.includes('fee 0.3 USDT, paper')")


def test_many_fills_in_one_place_are_one_arrow_with_a_count(desk):
    t = NOW // 60 * 60 - 600
    rows = [fill_of(f"{i:032x}", 61_000.0, t=t + i / 100) for i in range(300)]
    desk.stage.say(om.Fills(CHAN, rows))
    desk.stage.until("piker.debug.facts().marks.length === 1")
    assert desk.stage.facts()["marks"][0]["count"] == 300
    assert not any("bought" in text for text in desk.stage.facts()["messages"])


def test_an_account_that_begins_anew_has_no_marks(desk):
    desk.stage.say(om.Fills(CHAN, [fill_of("ab" * 16, 61_000.0, t=NOW - 600)]))
    desk.stage.until("piker.debug.facts().marks.length === 1")
    desk.stage.say(om.Fills(CHAN, [], anew="paper"))
    desk.stage.until("piker.debug.facts().marks.length === 0")
    desk.stage.say(om.Fills(CHAN, [fill_of("ab" * 16, 61_000.0, t=NOW - 600)]))
    desk.stage.until("piker.debug.facts().marks.length === 1")


def test_a_triggered_alert_leaves_an_arrow(desk):
    price = desk.price(-20)
    oid = desk.working(price, "alert", exec_mode="dark", state="dark_open", size="")
    desk.say(oid, state="triggered", gone=True, t=NOW)
    desk.stage.until("piker.debug.facts().marks.some(m => m.side === 'alert')")
    assert not desk.stage.facts()["orders"]
    assert desk.last_message().startswith(f"alert: {FQME} at")


def test_a_notice_is_sounded_as_configured(make_stage):
    desk = Desk(make_stage(), notify={"fill": "both", "closed": "none", "alert": "desktop"})
    desk.open()
    desk.stage.say(fill_of("ab" * 16, 61_000.0))
    desk.stage.until("piker.debug.facts().sounds === 1")
    oid = desk.working(desk.price(-20))
    desk.say(oid, state="closed", gone=True, filled="0.01632")
    facts = desk.stage.facts()
    assert facts["sounds"] == 1
    assert facts["notified"] == [f"{FQME}: bought 0.005 at 61\u2009000.0"]


def test_existing_orders_are_drawn_on_connect_and_lost_ones_are_told(desk):
    oid = desk.working(desk.price(-20))
    desk.stage.say(om.Orders(CHAN, "paper", [desk.rows[oid]]))
    assert [line["oid"] for line in desk.stage.facts()["lines"]] == [oid]
    desk.stage.say(om.Orders(CHAN, "paper", []))
    desk.stage.until("piker.debug.facts().lines.length === 0")
    assert "not working any more" in desk.last_message()


def test_a_long_list_of_orders_comes_in_parts(desk):
    oid = desk.working(desk.price(-20))
    rows = [replace(desk.rows[oid], oid=f"{i:032x}") for i in range(1, 151)]
    desk.stage.say(om.Orders(CHAN, "paper", rows[:100], more=True))
    desk.stage.say(om.Orders(CHAN, "paper", rows[100:]))
    desk.stage.until("piker.debug.facts().orders.length === 150")


def test_lines_say_that_they_are_not_connected(desk):
    oid = desk.working(desk.price(-20))
    desk.stage.say(om.DeskState(CHAN, "lost", "emsd is away, coming back"))
    desk.stage.until("piker.debug.facts().lines[0].words.includes('not connected')")
    assert desk.line(oid)["tone"] == "buy"
    assert "emsd is away" in desk.last_message()


def test_nothing_is_sent_without_a_connection(desk):
    staged(desk)
    desk.stage.until("piker.debug.facts().stage.sized")
    desk.stage.is_down = True
    desk.stage.drop()
    desk.stage.until("piker.debug.state === 'lost'")
    click(desk)
    desk.stage.is_down = False
    desk.stage.until("piker.debug.state === 'open'", 8)
    assert not desk.of(om.OrderAsked)
    assert any("Not connected" in text for text in desk.stage.facts()["messages"])


# ---- the pane and the mark


def test_the_mark_says_paper_or_live(desk):
    marks = "[...document.querySelectorAll('.mark:not(.hidden)')].map(n => n.textContent).join(' ')"
    assert desk.stage.js(f"() => {marks}") == "LOCAL PAPER"
    accounts = [*ALLOC.accounts, om.Account("binance.main", "live", "0")]
    desk.stage.say(replace(ALLOC, account="binance.main", mode="live", accounts=accounts))
    desk.stage.until(f"{marks} === 'LOCAL LIVE'")


def test_the_pane_shows_limits_position_and_working_orders(desk):
    desk.stage.page.keyboard.press("Control+ ")
    desk.stage.say(replace(ALLOC, used="2.0"))
    desk.stage.say(position_of("-0.03264", 61_222.1))
    desk.working(desk.price(-20), exec_mode="dark", state="dark_open", fires="at or below")
    text = desk.stage.page.inner_text("#side").replace("\u2009", " ")
    for words in (
        "2.0 of 6 slots", "0.01632 BTC ≈ 1 000 $", "short 0.03264 BTC", "61 222.1", "+12.40 $",
        "1.96 $", "buy dark", "in emsd, fires at or below",
    ):  # fmt: skip
        assert words in text, words
    assert desk.stage.js("() => document.querySelectorAll('#side .cell').length") == 6


def test_fields_of_the_pane_change_the_allocator(desk):
    page = desk.stage.page
    page.keyboard.press("Control+ ")
    desk.stage.until("piker.debug.facts().side")
    page.fill("#side input >> nth=0", "1.5k")
    page.keyboard.press("Enter")
    page.fill("#side input >> nth=1", "4")
    page.keyboard.press("Enter")
    page.select_option("#side select >> nth=1", "units")
    desk.stage.facts()
    asked = desk.of(om.AllocAsked)
    assert [one.limit for one in asked if one.limit] == ["1.5k"]
    assert [one.slots for one in asked if one.slots] == [4]
    assert [one.unit for one in asked if one.unit] == ["units"]
    page.fill("#side input >> nth=1", "-1")
    page.keyboard.press("Enter")
    desk.stage.facts()
    assert len(desk.of(om.AllocAsked)) == 3
    assert "slots: was -1" in desk.last_message()


def test_s_and_a_digit_set_the_slots(desk):
    desk.hold("s")
    desk.stage.page.keyboard.press("4")
    desk.stage.facts()
    assert [asked.slots for asked in desk.of(om.AllocAsked)] == [4]


def test_lines_are_buttons_with_a_spoken_name_and_tab_walks_them_by_price(desk):
    desk.working(desk.price(-20))
    desk.working(desk.price(15), "sell", state="pending")
    names = desk.stage.js(
        "() => [...document.querySelectorAll('.order-line[role=button]')]"
        ".map(n => n.getAttribute('aria-label'))"
    )
    assert names[0].startswith("sell 0.01632 at ")
    assert names[0].endswith("sent, not acknowledged")
    assert names[1].startswith("buy")
