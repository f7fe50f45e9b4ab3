"""The paper market under random requests and events: what must hold whatever happens."""

from __future__ import annotations

import random
from collections.abc import Sequence
from decimal import Decimal

import pytest

from piker.clearing._fill_events import Change, Closed, Ended, Opened, Output, Refused, Traded
from piker.clearing._matching import PaperBook
from piker.clearing._own_side import BUY, SELL
from piker.clearing._queue import Resting

STEPS = 4_000


class Watch:
    """What was asked, what came back, and the rules between them."""

    def __init__(self, book: PaperBook) -> None:
        self.book = book
        self.orders: dict[str, Resting] = {}
        self.limits: dict[str, set[int]] = {}  # prices that an order may have had
        self.filled: dict[str, int] = {}
        self.over: set[str] = set()
        self.position = 0

    def hear(self, outputs: Sequence[Output], traded: int = 0) -> None:
        """Check what one event led to; `traded` is the size of the public trade that it was."""
        passive = 0
        for out in outputs:
            assert out.key not in self.over or isinstance(out, Refused), f"{out} after its end"
            order = self.orders[out.key]
            match out:
                case Traded():
                    assert out.size > 0
                    self.filled[out.key] = self.filled.get(out.key, 0) + out.size
                    assert self.filled[out.key] <= order.size
                    if order.reduce_only:
                        assert -order.side * self.position >= out.size, "it turned a position"
                    self.position += order.side * out.size
                    limits = self.limits[out.key] - {0}
                    if limits:
                        best = max(order.side * price for price in limits)
                        assert order.side * out.price <= best, "worse than its limit"
                    passive += out.size * (out.is_maker and not out.gapped)
                case Closed():
                    assert self.filled[out.key] == order.size
                    self.over.add(out.key)
                case Ended():
                    assert out.filled + out.remaining == order.size
                    self.over.add(out.key)
                case Refused(request="entry"):
                    self.over.add(out.key)
                case Opened() | Refused():
                    pass
        assert passive <= traded, "resting orders filled more than was traded"
        assert self.book.position == self.position

    def settle(self) -> None:
        """Check that the market holds exactly the orders that go on."""
        going = {order.key for order in self.book.orders()}
        assert not going & self.over
        standing = [
            order.key
            for sides in (self.book._sides, self.book._triggers)
            for side in sides.values()
            for level in side.levels()
            for order in level.orders
        ]
        assert sorted(standing) == sorted(going)


def entry(rng: random.Random, key: str, middle: int) -> Resting:
    """Return a random order near the market."""
    kind = rng.choice(("limit", "limit", "limit", "market", "stop", "take_profit"))
    expire_ns = 0
    time_in_force = rng.choice(("gtc", "gtc", "ioc", "fok", "gtd"))
    if time_in_force == "gtd":
        expire_ns = 1 << 40
    price = middle + rng.randrange(-6, 7)
    is_bare = kind == "market" or (kind != "limit" and rng.random() < 0.5)
    return Resting(
        key=key,
        side=rng.choice((BUY, SELL)),
        price=0 if is_bare else price,
        size=rng.randrange(1, 40),
        kind=kind,
        time_in_force=time_in_force,
        post_only=kind == "limit" and time_in_force == "gtc" and rng.random() < 0.2,
        reduce_only=rng.random() < 0.2,
        trigger=middle + rng.randrange(-6, 7) if kind in {"stop", "take_profit"} else 0,
        expire_ns=expire_ns,
    )


def levels(rng: random.Random, best: int, step: int) -> list[tuple[int, int]]:
    """Return random displayed levels away from a best price."""
    prices = sorted({best + step * rng.randrange(8) for _ in range(5)} | {best}, reverse=step < 0)
    return [(price, rng.randrange(1, 50)) for price in prices]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_no_order_breaks_its_word(seed: int) -> None:
    rng = random.Random(seed)
    book = PaperBook(Decimal(1), Decimal(1), slippage_ticks=seed % 3)
    watch = Watch(book)
    middle, now_ns = 1000, 0
    for step in range(STEPS):
        now_ns += rng.choice((0, 1, 1_000, 80_000_000, 400_000_000))
        middle += rng.choice((-2, -1, 0, 0, 0, 1, 2))
        going = [order.key for order in book.orders()]
        match rng.randrange(12):
            case 0 | 1:
                order = entry(rng, str(step), middle)
                watch.orders[order.key] = order
                watch.limits[order.key] = {order.price}
                book.submit(order, now_ns + rng.choice((0, 50_000_000)))
            case 2 if going:
                known = watch.orders[rng.choice(going)]
                price = known.price and middle + rng.randrange(-6, 7)
                watch.limits[known.key].add(price)
                book.amend(
                    Change(key=known.key, number=2, price=price, size=rng.randrange(1, 40),
                           trigger=known.trigger, expire_ns=known.expire_ns),
                    now_ns + 50_000_000,
                )  # fmt: skip
            case 3 if going:
                book.cancel(rng.choice(going), now_ns)
            case 4 if rng.random() < 0.1:
                book.lose()
            case 5 if book.is_lost:
                watch.hear(book.resume(now_ns))
            case 6 | 7 | 8:
                quote = middle - 1, rng.randrange(1, 50), middle + 1, rng.randrange(1, 50)
                watch.hear(book.on_quote(*quote, now_ns))
            case 9 | 10:
                # What is due by then takes before the trade; it is not the trade's.
                watch.hear(book.on_time(now_ns))
                size = rng.randrange(1, 30)
                watch.hear(book.on_trade(middle + rng.choice((-1, 1)), size, now_ns), size)
            case _:
                bids, asks = levels(rng, middle - 1, -1), levels(rng, middle + 1, 1)
                watch.hear(book.on_book(bids, asks, now_ns))
        watch.hear(book.on_time(now_ns))
        if step % 50 == 0:
            watch.settle()
    assert len(watch.over) > STEPS // 12


def test_same_events_give_the_same_fills() -> None:
    def run() -> list[Output]:
        rng = random.Random(99)
        book = PaperBook(Decimal(1), Decimal(1))
        out: list[Output] = []
        for step in range(2_000):
            middle = 1000 + rng.randrange(-3, 4)
            out += book.on_quote(middle - 1, 5, middle + 1, 5, step)
            if step == 0:
                out += book.resume(0)
            if rng.random() < 0.3:
                book.submit(entry(rng, str(step), middle), step + rng.randrange(5))
            out += book.on_trade(middle + rng.choice((-1, 1)), rng.randrange(1, 9), step)
        return out

    assert run() == run()
