"""One page's connection: order of writing, credits, replaced wants, refusals."""

import json
import random

import numpy as np
import pytest

from piker.ui import frames, messages
from piker.ui.picture import Facts, Picture
from piker.ui.session import CONTROL_MAX, CREDITS, Session, SessionOver

START = 1_700_006_400
FQME = "btcusdt.spot.binance"
FACTS = Facts(FQME, "BTCUSDT", "binance · spot", "BTC", "0.01", "0.00001")


def rows(n, start=START):
    out = np.ones((6, n))
    out[0] = start + 60 * np.arange(n)
    return out


class Page:
    """The other end: sends requests, reads everything that is due."""

    def __init__(self, picture):
        self.session = Session()
        self.picture = picture
        self.now = 0.0

    def say(self, op, **fields):
        return self.session.receive(json.dumps({"op": op, **fields}), self.now, 1000.0)

    def read(self):
        got = []
        while (frame := self.session.next_frame(self.now, 1000.0)) is not None:
            got.append(json.loads(frame) if isinstance(frame, str) else frames.unpack_frame(frame))
        return got

    def open(self, rungs=(60,), ticks=False):
        assert self.say("open", chan=1, fqme=FQME) == messages.Open(1, FQME)
        self.session.attach(1, self.picture)
        self.say("live", chan=1, rungs=list(rungs), ticks=ticks)
        return self.read()


@pytest.fixture
def picture():
    made = Picture(FACTS, gen=7)
    made.merge(60, rows(3000))
    return made


@pytest.fixture
def page(picture):
    return Page(picture)


def kinds(got):
    return [m["op"] if isinstance(m, dict) else m[0].kind for m in got]


def test_live_is_answered_by_one_tail_at_once(page):
    assert kinds(page.open()) == ["market", frames.TAIL]


def test_live_before_the_market_is_known_is_answered_when_it_is(page):
    page.say("open", chan=1, fqme=FQME)
    page.say("live", chan=1, rungs=[60])
    assert page.read() == []
    page.session.attach(1, page.picture)
    assert kinds(page.read()) == ["market", frames.TAIL]


def test_two_tails_may_be_under_way_and_no_third(page, picture):
    page.open()
    sent = []
    for _ in range(50):
        picture.touch(START + 2999 * 60)
        sent += page.read()
    assert kinds(sent) == [frames.TAIL] * (CREDITS - 1)
    page.say("ack", seq=2)
    newest = page.read()
    assert kinds(newest) == [frames.TAIL]
    assert newest[0][0].ver == picture.ver


def test_control_goes_before_newest_values_and_those_before_blocks(page, picture):
    page.open()
    page.say("ack", seq=1)
    key = START // 60 // 1024
    page.say("want", chan=1, id=4, period=60, t0=0, t1=60, px=2, ks=[key, key + 1, 3])
    picture.touch(START + 2999 * 60)
    page.say("ping", t=1.5)
    got = page.read()
    assert kinds(got) == ["pong", frames.TAIL, frames.BLOCK, frames.BLOCK, "done"]
    assert got[-1] == {"op": "done", "chan": 1, "id": 4, "rung": 60, "sent": 2, "missing": [3]}
    assert [m[0].seq for m in got[1:4]] == [2, 3, 4]


def test_a_newer_want_of_a_rung_replaces_what_is_unsent(page):
    page.open()
    page.say("want", chan=1, id=1, period=60, t0=0, t1=60, px=2, ks=[1, 2, 3])
    page.say("want", chan=1, id=2, period=60, t0=0, t1=60, px=2, ks=[4])
    page.say("want", chan=1, id=3, period=3600, t0=0, t1=3600, px=2, ks=[5])
    done = [(m["id"], m["missing"]) for m in page.read() if m["op"] == "done"]
    assert done == [(1, []), (2, [4]), (3, [5])]


def test_the_level_of_a_want_follows_from_its_view(page):
    page.open()
    page.say("want", chan=1, id=1, period=60, t0=0, t1=60 * 8000, px=1600, ks=[1])
    assert page.read()[0]["rung"] == 300


def test_ticks_ride_behind_a_tail(page, picture):
    page.open(ticks=True)
    page.say("ack", seq=1)
    picture.add_ticks(np.ones((4, 3)))
    picture.touch(START + 2999 * 60)
    got = page.read()
    assert kinds(got) == [frames.TAIL, frames.TICKS]
    assert got[1][0].n == 3


def test_a_hidden_page_gets_no_deltas_and_one_tail_when_shown(page, picture):
    page.open()
    page.say("ack", seq=1)
    page.say("vis", hidden=True)
    for n in range(20):
        picture.merge(60, rows(1, START + (3000 + n) * 60))
        assert page.read() == []
    page.say("vis", hidden=False)
    (tail,) = page.read()
    assert tail[2][:, 1].tolist() == [START + (3000 + n) * 60 for n in range(20)]


def test_rows_of_an_unacknowledged_tail_are_sent_again(page, picture):
    page.open()
    page.say("ack", seq=1)
    picture.merge(60, rows(1, START + 3000 * 60))
    page.read()
    picture.merge(60, rows(1, START + 3001 * 60))
    (tail,) = page.read()
    assert tail[2][:, 1].tolist() == [START + 3000 * 60, START + 3001 * 60]


def test_changed_history_is_told_once_for_waiting_ranges(page, picture):
    page.open()
    for start in (100, 300):
        fixed = rows(10, START + start * 60)
        fixed[5] = 9
        picture.merge(60, fixed)
    dirty = [m for m in page.read() if isinstance(m, dict)]
    assert [(m["op"], m["t0"], m["t1"]) for m in dirty] == [
        ("dirty", START + 100 * 60, START + 310 * 60)
    ]


def test_a_new_generation_is_told_by_a_new_market(page, picture):
    page.open()
    picture.renew(8, {60: rows(10)})
    got = page.read()
    assert got[0]["op"] == "market"
    assert got[0]["gen"] == 8


def test_a_page_that_comes_back_learns_what_was_rewritten(page, picture):
    rev = picture.rev
    fixed = rows(10, START + 6000)
    fixed[5] = 9
    picture.merge(60, fixed)
    page.session.have = {FQME: (7, rev)}
    market = page.open()[0]
    assert market["dirty"] == [[START + 6000, START + 6600]]


@pytest.mark.parametrize(
    "message", ["", "{", '{"op":"order"}', '{"op":"ack"}', "[1]", "x" * 20_000, b"\xff\xfe"]
)
def test_what_is_no_message_ends_the_connection(page, message):
    with pytest.raises(SessionOver) as over:
        page.session.receive(message, 0.0, 0.0)
    assert over.value.code == 4400


def test_a_want_out_of_bounds_is_refused_and_the_connection_lives(page):
    page.open()
    page.say("want", chan=1, id=1, period=7, t0=0, t1=60, px=2, ks=[1])
    page.say("want", chan=9, id=2, period=60, t0=0, t1=60, px=2, ks=[1])
    page.say("want", chan=1, id=3, period=60, t0=0, t1=60, px=2, ks=list(range(65)))
    assert [(m["op"], m["id"]) for m in page.read()] == [("err", 1), ("err", 2), ("err", 3)]


def test_a_page_that_reads_nothing_is_closed(page):
    for n in range(CONTROL_MAX + 1):
        page.say("ping", t=n)
    with pytest.raises(SessionOver) as over:
        page.session.next_frame(0.0, 0.0)
    assert over.value.code == 4408


def test_a_visible_page_that_owes_an_ack_is_quiet_after_ten_seconds(page):
    page.open()
    assert not page.session.is_quiet(9.9)
    assert page.session.is_quiet(10.1)
    page.say("vis", hidden=True)
    assert not page.session.is_quiet(10.1)
    page.say("vis", hidden=False)
    page.say("ack", seq=1)
    assert not page.session.is_quiet(1000.0)


def test_a_closed_session_is_no_longer_told(page, picture):
    page.open()
    page.session.close()
    assert not picture.listeners


@pytest.mark.parametrize("seed", range(20))
def test_no_schedule_grows_a_queue_or_outruns_the_credits(seed):
    rng = random.Random(seed)
    picture = Picture(FACTS, gen=7)
    picture.merge(60, rows(200))
    page = Page(picture)
    page.open(ticks=True)
    under_way, last_ver, bars = [1], 0, 200
    for _ in range(400):
        match rng.choice(["tick", "bar", "write", "write", "ack", "want", "vis", "status"]):
            case "tick":
                picture.add_ticks(np.ones((4, rng.randrange(1, 9))))
                picture.touch(START + (bars - 1) * 60)
            case "bar":
                picture.merge(60, rows(1, START + bars * 60))
                bars += 1
            case "ack" if under_way:
                page.say("ack", seq=under_way.pop(0))
            case "want":
                ks = [START // 60 // 1024] * rng.randrange(0, 5)
                page.say("want", chan=1, id=0, period=60, t0=0, t1=60, px=2, ks=ks)
            case "vis":
                page.say("vis", hidden=rng.random() < 0.5)
            case "status":
                picture.publish(messages.Status(0, "live"))
            case "write":
                for message in page.read():
                    if isinstance(message, tuple) and message[0].kind == frames.TAIL:
                        under_way.append(message[0].seq)
                        assert message[0].ver >= last_ver
                        last_ver = message[0].ver
                assert len(under_way) <= CREDITS
        assert len(page.session._control) < 100
    page.say("vis", hidden=False)
    page.say("ack", seq=10**9)
    page.read()
    page.say("ack", seq=10**9)
    picture.touch(START)
    tails = [m for m in page.read() if isinstance(m, tuple) and m[0].kind == frames.TAIL]
    assert tails[-1][0].ver == picture.ver
    assert tails[-1][2][-1, 1] == START + (bars - 1) * 60
