"""The order side of a chart: what pages ask, what they are told, over the real state machine."""

import json
import random
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import trio
import trio.testing
from fake_ems import FakeEms
from msgspec.structs import replace
from test_order_sizes import MKT

from piker import clock
from piker.clearing import BrokerdFill
from piker.errors import ConnectionLost, OrderRejected, PikerError
from piker.ui.order_link import AWAY
from piker.ui.orders import OrderDesk
from piker.ui.picture import Facts, Picture
from piker.ui.session import Session

FQME = MKT.fqme
OID = "ab" * 16


class Page:
    """A page that reads everything it is sent."""

    def __init__(self, desk, picture):
        self.desk, self.picture = desk, picture
        self.inbox = []
        self.woken = trio.Event()
        self.session = Session(self.wake)
        self.ids = 0

    def wake(self):
        self.woken.set()

    def receive(self, op, **fields):
        return self.session.receive(json.dumps({"op": op, **fields}), 0.0, 0.0)

    def open(self):
        self.receive("open", chan=1, fqme=FQME)
        self.session.attach(1, self.picture)
        self.desk.follow(self.session, 1, self.picture)

    def ask(self, op, **fields):
        self.ids += 1
        request = self.receive(op, id=self.ids, chan=1, **fields)
        self.desk.ask(self.session, request, self.session.picture_of(1))
        return self.ids

    def order(self, oid=OID, **fields):
        base = {"action": "buy", "exec_mode": "live", "price": "100.00", "size": "1"}
        return self.ask("order", oid=oid, **base | fields)

    async def until(self, op, **claims):
        """Return the next message of this kind of which the claims hold."""
        with trio.fail_after(5):
            while True:
                while (frame := self.session.next_frame(0.0, 0.0)) is not None:
                    if isinstance(frame, str):
                        self.inbox.append(json.loads(frame))
                while self.inbox:
                    said = self.inbox.pop(0)
                    if said["op"] == op and all(said[key] == claims[key] for key in claims):
                        return said
                await self.woken.wait()
                self.woken = trio.Event()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PIKER_CONFIG_DIR", str(tmp_path))
    return tmp_path


@asynccontextmanager
async def open_desk(ems=None, ledger=lambda broker, account: [], on_gate=lambda picture: None):
    """Yield a desk, its order path and a maker of pages."""
    ems = ems or FakeEms(FQME)
    picture = Picture(Facts(FQME, "BTCUSDT", "binance", "BTC", "0.01", "0.00001", mkt=MKT), 7)
    picture.l1[0] = 100.0
    async with trio.open_nursery() as nursery:
        desk = OrderDesk(ems.ems(ledger), nursery, on_gate)

        def new_page():
            page = Page(desk, picture)
            page.open()
            return page

        yield desk, ems, new_page
        nursery.cancel_scope.cancel()


async def ready(new_page):
    page = new_page()
    page.ask("trade")
    await page.until("desk", state="ready")
    await trio.testing.wait_all_tasks_blocked()
    return page


async def test_a_page_that_only_looks_starts_no_order_daemon():
    async with open_desk() as (_, ems, new_page):
        page = new_page()
        assert (await page.until("desk"))["state"] == "off"
        assert ems.opened == 0


async def test_a_running_emsd_is_attached_without_being_asked():
    async with open_desk() as (desk, ems, new_page):
        desk.see_tree(True)
        page = new_page()
        await page.until("desk", state="ready")
        desk.see_tree(True)
        assert ems.opened == 1


async def test_pages_share_one_client_and_see_each_others_orders():
    async with open_desk() as (_, ems, new_page):
        one, other = await ready(new_page), await ready(new_page)
        id = one.order()
        assert (await one.until("ordst", state="sent"))["id"] == id
        assert (await other.until("ordst", state="open"))["id"] == 0
        assert ems.opened == 1


async def test_a_page_that_comes_later_is_told_all_that_is_open_and_held():
    async with open_desk() as (_, ems, new_page):
        one = await ready(new_page)
        one.order()
        await one.until("ordst", state="open")
        ems.fill(OID, Decimal("0.4"), Decimal(100))
        await one.until("pos", size="0.4")
        late = new_page()
        (row,) = (await late.until("orders"))["rows"]
        assert (row["oid"], row["filled"], row["state"]) == (OID, "0.4", "partially_filled")
        assert [mark["size"] for mark in (await late.until("fills"))["rows"]] == ["0.4"]
        assert (await late.until("pos"))["size"] == "0.4"


async def test_orders_carry_prices_and_sizes_to_the_last_digit():
    async with open_desk() as (_, ems, new_page):
        page = await ready(new_page)
        page.order(price="61278.90", size="0.01632", take_profit="61300.10", tif="ioc")
        await page.until("ordst", state="open")
        (sent,) = ems.sent
        assert (str(sent.price), str(sent.size)) == ("61278.90", "0.01632")
        assert (str(sent.take_profit), sent.time_in_force) == ("61300.10", "ioc")
        assert (sent.client_ref, sent.account, sent.symbol) == ("chart", "paper", FQME)


async def test_an_order_without_a_size_gets_the_allocators():
    async with open_desk() as (_, _, new_page):
        page = await ready(new_page)
        page.order(size="", steps=2)
        assert (await page.until("ordst", state="open"))["size"] == "20"


async def test_one_click_is_one_order():
    async with open_desk() as (_, ems, new_page):
        page = await ready(new_page)
        page.order()
        id = page.order()
        assert (await page.until("err"))["id"] == id
        await page.until("ordst", state="open")
        assert len(ems.sent) == 1


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"oid": "short"}, "oid: "),
        ({"price": ""}, "price: "),
        ({"price": "-1"}, "price: "),
        ({"price": "1e400"}, "price: "),
        ({"size": "nan"}, "size: "),
        ({"size": "0"}, "size: "),
        ({"trail": "100%"}, "trail: "),
        ({"post_only": True, "tif": "fok"}, "post_only: "),
        ({"tif": "gtd"}, "expire_time_ns: "),
    ],
)
async def test_an_order_that_makes_no_sense_is_refused_by_the_name_of_its_field(fields, says):
    async with open_desk() as (_, ems, new_page):
        page = await ready(new_page)
        id = page.order(**fields)
        said = await page.until("err")
        assert said["text"].startswith(says)
        assert (said["re"], said["id"], ems.sent) == ("order", id, [])
        page.order("cd" * 16)
        await page.until("ordst", state="open")


async def test_before_the_desk_is_ready_nothing_is_sent():
    async with open_desk() as (_, ems, new_page):
        page = new_page()
        page.order()
        assert (await page.until("err"))["code"] == "gate"
        assert ems.sent == []


async def test_an_order_that_the_client_does_not_take_loses_its_line_with_the_reason():
    ems = FakeEms(FQME)

    async def refuse(order):
        raise OrderRejected("the outbox is full", oid=order.oid)

    ems.send = refuse
    async with open_desk(ems) as (_, _, new_page):
        page = await ready(new_page)
        page.order()
        said = await page.until("ordst", gone=True)
        assert (said["refused"], said["reason"]) == ("entry", "the outbox is full")


async def test_an_amend_shows_old_and_new_until_it_is_in_force():
    async with open_desk() as (_, ems, new_page):
        ems.latency_s = 0.01
        page = await ready(new_page)
        page.order()
        await page.until("ordst", state="open")
        page.ask("amend", oid=OID, revision=1, price="101.00")
        said = await page.until("ordst", state="amend_in_flight")
        assert (said["price"], said["asked_price"]) == ("100.00", "101.00")
        said = await page.until("ordst", state="open")
        assert (said["price"], said["asked_price"], said["revision"]) == ("101.00", "", 2)


@pytest.mark.parametrize(("price", "moved"), [("95.00", "95.00"), ("98.00", "97.00")])
async def test_a_line_at_its_trigger_is_moved_by_it(price, moved):
    async with open_desk() as (_, _ems, new_page):
        page = await ready(new_page)
        trigger = {"order_type": "stop", "trigger_price": "98.00", "exec_mode": "dark"}
        page.order(price=price, **trigger)
        await page.until("ordst", state="dark_open")
        page.ask("amend", oid=OID, revision=1, price="97.00")
        said = await page.until("ordst", revision=2)
        assert (said["trigger_price"], said["price"]) == ("97.00", moved)


async def test_a_stale_amend_is_refused_before_it_is_sent():
    async with open_desk() as (_, _, new_page):
        page = await ready(new_page)
        page.order()
        await page.until("ordst", state="open")
        page.ask("amend", oid=OID, revision=1, price="101.00")
        await page.until("ordst", revision=2, state="open")
        page.ask("amend", oid=OID, revision=1, price="102.00")
        assert (await page.until("err"))["code"] == "stale"


@pytest.mark.parametrize("op", ["amend", "cancel"])
async def test_an_order_that_is_not_there_is_said_so(op):
    async with open_desk() as (_, _, new_page):
        page = await ready(new_page)
        page.ask(op, oid=OID, **({"revision": 1, "price": "1"} if op == "amend" else {}))
        said = await page.until("err")
        assert (said["code"], said["oid"]) == ("unknown_order", OID)


async def test_cancel_all_counts_what_it_cancels():
    async with open_desk() as (_, _, new_page):
        page = await ready(new_page)
        for n in range(3):
            page.order(f"{n:032x}")
            await page.until("ordst", state="open")
        page.ask("cancel_all")
        assert (await page.until("count"))["asked"] == 3
        for _ in range(3):
            await page.until("ordst", state="canceled", gone=True)


async def test_closing_a_position_cancels_its_exits_first():
    async with open_desk() as (_, ems, new_page):
        page = await ready(new_page)
        page.order()
        await page.until("ordst", state="open")
        ems.fill(OID, Decimal(1), Decimal(100))
        await page.until("pos", size="1")
        page.order("cd" * 16, action="sell", exec_mode="dark", price="120.00")
        page.order("ef" * 16, price="90.00")
        await page.until("ordst", oid="ef" * 16, state="open")
        id = page.ask("flatten", account="paper")
        assert (await page.until("ordst", oid="cd" * 16, gone=True))["state"] == "canceled"
        said = await page.until("ordst", id=id)
        assert (said["action"], said["order_type"], said["reduce_only"]) == ("sell", "market", True)
        await page.until("pos", size="0")
        assert ems.statuses["ef" * 16].state == "open"


async def test_a_position_is_closed_once_however_often_it_is_asked():
    async with open_desk() as (_, ems, new_page):
        page = await ready(new_page)
        page.order()
        await page.until("ordst", state="open")
        ems.fill(OID, Decimal(1), Decimal(100))
        await page.until("pos", size="1")
        ems.latency_s = 0.01
        page.ask("flatten", account="paper")
        page.ask("flatten", account="paper")
        assert (await page.until("err"))["text"] == "paper: the position is being closed"
        await page.until("pos", size="0")
        assert len(ems.sent) == 2


async def test_closing_nothing_is_refused():
    async with open_desk() as (_, _, new_page):
        page = await ready(new_page)
        page.ask("flatten", account="paper")
        assert (await page.until("err"))["text"] == f"paper holds nothing of {FQME}"


async def test_kill_stops_everything_until_armed():
    async with open_desk() as (desk, ems, new_page):
        page = await ready(new_page)
        page.order()
        await page.until("ordst", state="open")
        page.ask("kill")
        said = await page.until("desk", state="ready")
        assert said["killed"] == "stopped: piker arm to trade again"
        assert ems.statuses[OID].state == "canceled"
        assert desk.gate(FQME) == "stopped: piker arm to trade again"
        page.ask("arm")
        await page.until("desk", killed="")
        assert ems.calls == ["stop_all", "arm"]


async def test_a_gate_that_opens_or_closes_is_told_at_once():
    gates = []

    def on_gate(picture):
        gates.append(desk.gate(picture.facts.fqme))

    async with open_desk(on_gate=on_gate) as (desk, _, new_page):
        page = await ready(new_page)
        page.ask("kill")
        await page.until("desk", killed="stopped: piker arm to trade again")
        page.ask("arm")
        await page.until("desk", killed="")
        assert gates == ["", "", "stopped: piker arm to trade again", ""]


async def test_a_lost_emsd_is_said_and_all_is_read_again_when_it_is_back():
    async with open_desk() as (desk, ems, new_page):
        page = await ready(new_page)
        page.order()
        await page.until("ordst", state="open")
        ems.set_state("reconnecting", "emsd has left")
        assert (await page.until("desk"))["text"] == AWAY
        page.order("cd" * 16)
        assert (await page.until("err"))["code"] == "gate"
        assert desk.gate(FQME) == AWAY
        ems.set_state("ready")
        (row,) = (await page.until("orders"))["rows"]
        assert row["oid"] == OID
        assert desk.gate(FQME) == ""


async def test_an_order_without_a_word_goes_with_the_way_to_the_ems():
    async with open_desk() as (_, ems, new_page):
        page = await ready(new_page)
        ems.is_mute = True
        page.order()
        await page.until("ordst", state="sent")
        ems.hang_up()
        said = await page.until("ordst", gone=True)
        assert said["reason"] == "no word from emsd: emsd has left"


async def test_a_page_is_told_how_long_nobody_has_watched():
    ems = FakeEms(FQME)
    second = 10**9
    ems.not_watched = {"from_ns": 0, "to_ns": 90 * second, "held": 2}
    async with open_desk(ems) as (_, _, new_page):
        page = new_page()
        page.ask("trade")
        note = (await page.until("desk", state="ready"))["note"]
        assert note == "2 orders were not watched from 01 Jan 00:00:00 to 01 Jan 00:01:30 UTC"


async def test_an_ems_that_cannot_be_reached_is_tried_again(autojump_clock):
    ems = FakeEms(FQME)
    ems.refusal = ConnectionLost("emsd: no answer")
    async with open_desk(ems) as (_, _, new_page):
        page = new_page()
        page.ask("trade")
        assert (await page.until("desk", state="lost"))["text"] == "emsd: no answer"
        ems.refusal = None
        await page.until("desk", state="ready")


async def test_a_live_account_that_cannot_trade_is_refused_by_name(folder):
    (folder / "brokers.toml").write_text("[binance.accounts]\nmain = 'x'\n")
    ems = FakeEms(FQME)
    async with open_desk(ems) as (_, _, new_page):
        page = await ready(new_page)
        ems.refusal = PikerError("binance is data-only: use paper mode")
        page.ask("alloc", account="binance.main")
        assert (await page.until("allocst", account="binance.main"))["mode"] == "live"
        said = await page.until("desk", mode="live", state="refused")
        assert said["text"] == "binance is data-only: use paper mode"
        page.order()
        assert (await page.until("err"))["text"].startswith("not sent: binance is data-only")
        page.ask("alloc", account="paper")
        page.order()
        await page.until("ordst", state="open", mode="paper")


async def test_an_account_that_does_not_exist_is_refused_and_the_pane_stays():
    async with open_desk() as (_, _, new_page):
        page = await ready(new_page)
        page.ask("alloc", account="binance.other")
        assert (await page.until("allocst"))["account"] == "paper"
        assert "expected one of paper" in (await page.until("err"))["text"]


@pytest.mark.parametrize(
    ("confirm", "fields", "is_asked"),
    [
        ("live", {}, False),
        ("none", {}, False),
        ("50", {}, True),
        ("50", {"confirmed": True}, False),
        ("500", {}, False),
        ("50", {"action": "alert"}, False),
    ],
)
async def test_what_must_be_confirmed_is_not_sent_before(folder, confirm, fields, is_asked):
    (folder / "conf.toml").write_text(f'[ui]\nconfirm = "{confirm}"\n')
    async with open_desk() as (_, ems, new_page):
        page = await ready(new_page)
        page.order(**fields)
        if is_asked:
            assert (await page.until("err"))["code"] == "confirm"
            page.order(confirmed=True)
        await page.until("ordst", resp="dark_open" if fields.get("action") else "open")
        assert len(ems.sent) == 1


async def test_a_size_says_whether_its_order_must_be_confirmed(folder):
    (folder / "conf.toml").write_text('[ui]\nconfirm = "1500"\n')
    async with open_desk() as (_, _, new_page):
        page = new_page()
        for steps, needs in ((1, False), (2, True)):
            page.ask("size", side="buy", price="100.00", steps=steps)
            said = await page.until("sized")
            assert (said["size"], said["confirm"]) == (str(10 * steps), needs)


async def test_fills_of_the_ledger_are_marked_before_anything_is_traded():
    fills = [record(n) for n in range(3)]
    async with open_desk(ledger=lambda broker, account: fills) as (_, _, new_page):
        page = new_page()
        said = await page.until("fills")
        assert [mark["tid"] for mark in said["rows"]] == ["0", "1", "2"]


async def test_an_account_that_was_reset_loses_its_marks():
    ledger = [record(0)]
    async with open_desk(ledger=lambda broker, account: list(ledger)) as (_, ems, new_page):
        ems.size, ems.average = Decimal(1), Decimal(100)
        page = await ready(new_page)
        await page.until("pos", size="1", fees="1")
        ledger.clear()
        ems.size = Decimal(0)
        ems.tell(ems.position())
        assert (await page.until("fills", anew="paper"))["rows"] == []
        await page.until("pos", size="0", fees="0")


def record(n):
    """A purchase of this moment: what is paid is counted by the day."""
    from test_order_money import record as made

    return replace(made(str(n), 1, 100, 0), dt=datetime.fromtimestamp(clock.now_s(), UTC))


async def test_fills_of_an_order_that_goes_on_come_with_the_handshake():
    ems = FakeEms(FQME)
    async with open_desk(ems) as (_, _, new_page):
        page = await ready(new_page)
        page.order()
        await page.until("ordst", state="open")
    ems.fills[OID] = [
        BrokerdFill(time_ns=1, broker_time=1.0, reqid=1, size="0.3", price="100", tid="t")
    ]
    async with open_desk(ems) as (_, _, new_page):
        page = await ready(new_page)
        (row,) = (await page.until("orders"))["rows"]
        assert row["filled"] == "0.3"


async def test_a_page_that_shows_another_market_hears_no_more():
    async with open_desk() as (_, _, new_page):
        one, other = await ready(new_page), await ready(new_page)
        other.receive("close", chan=1)
        one.order()
        await one.until("ordst", state="open")
        said = [json.loads(f) for f in iter(lambda: other.session.next_frame(0, 0), None)]
        assert "ordst" not in [each["op"] for each in said]


async def test_the_end_of_an_order_never_overtakes_a_snapshot_that_shows_it():
    async with open_desk() as (desk, ems, new_page):
        page = await ready(new_page)
        page.order()
        await page.until("ordst", state="open")
        desk.market(FQME).greet(page.session, 1)
        await ems.cancel(OID)
        await trio.testing.wait_all_tasks_blocked()
        said = [json.loads(f) for f in iter(lambda: page.session.next_frame(0, 0), None)]
        ops = [(each["op"], each.get("gone")) for each in said if each["op"] in ("orders", "ordst")]
        assert ops[0][0] == "orders"
        assert ops[-1] == ("ordst", True)


async def test_a_burst_of_statuses_never_overflows_a_page():
    async with open_desk() as (_, ems, new_page):
        page = await ready(new_page)
        page.order()
        await page.until("ordst", state="open")
        for _ in range(1000):
            ems.tell(ems.statuses[OID])
            await trio.lowlevel.checkpoint()
            assert not page.session.is_overflowing


def test_orders_of_a_channel_that_is_not_open_are_refused():
    session = Session()
    asked = json.dumps({"op": "cancel", "id": 3, "chan": 9, "oid": OID})
    request = session.receive(asked, 0.0, 0.0)
    OrderDesk(FakeEms(FQME).ems(), None).ask(session, request, session.picture_of(9))
    assert json.loads(session.next_frame(0.0, 0.0))["code"] == "bad_request"


WORDS = [
    "",
    "0",
    "-1",
    "1.5k",
    "abc",
    "nan",
    "inf",
    "1e99",
    "9" * 40,
    "1,000",
    "½",
    "\x00",
    "1" * 200,
]


@pytest.mark.parametrize("seed", range(3))
async def test_no_request_of_a_page_ends_the_desk(seed):
    rng = random.Random(seed)
    async with open_desk() as (_, _, new_page):
        page = await ready(new_page)
        page.order()
        await page.until("ordst", state="open")
        for _ in range(400):
            page.ask(**random_request(rng))
            if not rng.randrange(20):
                await trio.testing.wait_all_tasks_blocked()
                while page.session.next_frame(0.0, 0.0) is not None:
                    pass
        page.ask("arm")
        page.ask("alloc", account="paper", limit="6000", unit="currency", slots=6)
        page.order("cd" * 16)
        await page.until("ordst", oid="cd" * 16, state="open")


def random_request(rng):
    word = lambda: rng.choice([*WORDS, "100.00", "2"])  # noqa: E731
    amounts = ("price", "size", "trigger_price", "take_profit", "stop_loss")
    order = {name: word() for name in amounts if rng.randrange(2)}
    oid = rng.choice([OID, f"{rng.getrandbits(128):032x}", word()])
    match rng.randrange(5):
        case 0:
            terms = {
                "action": rng.choice(["buy", "sell", "alert"]),
                "exec_mode": rng.choice(["dark", "live"]),
                "order_type": rng.choice(["limit", "market", "stop", "take_profit"]),
                "tif": rng.choice(["gtc", "ioc", "fok", "gtd"]),
                "expire": rng.choice([0, -1, 1e300, 2e9]),
                "steps": rng.choice([1, 0, -5, 10**9]),
                "trail": word(),
                "parent": rng.choice(["", OID]),
            }
            return {"op": "order", "oid": oid, **terms, **order}
        case 1:
            order.pop("trigger_price", None)
            return {"op": "amend", "oid": oid, "revision": rng.choice([0, 1, -1, 2]), **order}
        case 2:
            steps = rng.choice([1, -1, 10**12])
            return {"op": "size", "side": "buy", "price": word(), "steps": steps}
        case 3:
            slots = rng.choice([1, 0, -1, 100, 10**9])
            unit = rng.choice(["currency", "units"])
            return {"op": "alloc", "limit": word(), "slots": slots, "unit": unit}
        case _:
            return {"op": rng.choice(["flatten", "trade"]), "account": word()}
