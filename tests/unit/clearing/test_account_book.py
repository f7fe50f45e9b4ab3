"""An account as its journal tells it: equal records make equal books, snapshots included."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from ems_world import FQME, MKT, START_NS, order

from piker.accounting import Transaction
from piker.clearing import _book_events as on
from piker.clearing import _records as rec
from piker.clearing._account_book import AccountBook
from piker.clearing._journal_view import import_record, read_journal
from piker.clearing._messages import BrokerdFill, BrokerdStatus, Cancel
from piker.errors import BadPayload, OrderRejected
from piker.storage.journal import Record

A = "a" * 32
DAY_S = 86_400


def asked(**fields: Any) -> rec.Asked:
    return rec.Asked(
        time_ns=START_NS, request=order(**fields), last=Decimal(100), mkt=MKT.to_dict()
    )


def fill(tid: str, size: str = "1", price: str = "100", **fields: Any) -> rec.Told:
    given: dict[str, Any] = {
        "time_ns": START_NS,
        "broker_time": START_NS / 1e9,
        "reqid": "r",
        "oid": A,
        "size": size,
        "price": price,
        "tid": tid,
        "fee": "0.1",
        "fee_asset": "USDT",
    }
    return rec.Told(time_ns=START_NS, message=BrokerdFill(**{**given, **fields}))


def book_of(*records: rec.Input) -> AccountBook:
    book = AccountBook("binance", "paper")
    for record in records:
        book.apply(record)
    return book


def replayed(parts: list[bytes]) -> AccountBook:
    book = AccountBook("binance", "paper")
    for part in parts:
        book.replay(part)
    book.end_snapshot()
    return book


def test_a_snapshot_holds_all_of_an_order_with_many_fills() -> None:
    count = 3 * rec.PART_ITEMS
    book = book_of(asked(size=str(count + 5)), *(fill(f"t{n}") for n in range(count)))
    parts = book.snapshot()
    assert max(map(len, parts)) < 1 << 17
    again = replayed(parts)
    assert again.dialogs[A] == book.dialogs[A]
    assert again.unsynced == book.unsynced
    assert again.snapshot() == parts


def test_what_has_left_is_part_of_the_next_record() -> None:
    live = AccountBook("binance", "paper")
    live.apply(asked())
    live.dialogs.apply(A, on.Left(time_ns=START_NS, number=1))
    cancel = rec.Asked(time_ns=START_NS, request=Cancel(oid=A, symbol=FQME), left=((A, 1),))
    live.apply(cancel)
    again = replayed([rec.encode(asked()), rec.encode(cancel)])
    assert again.dialogs[A].state == "cancel_in_flight"
    assert again.snapshot() == live.snapshot()


def test_a_fee_in_another_asset_never_enters_the_price() -> None:
    book = book_of(asked(), fill("t1", fee="0.01", fee_asset="BNB"))
    assert book.unsynced[0].cost_asset == "BNB"
    assert book.balances(Decimal(1000)) == {
        "BNB": Decimal("-0.01"),
        "btc": Decimal(1),
        "usdt": Decimal(900),
    }
    assert book.positions[FQME].average_entry_price == 100


def test_the_days_result_begins_again_at_midnight() -> None:
    midnight_s = START_NS // 1_000_000_000 // DAY_S * DAY_S + DAY_S
    book = book_of(asked(size="9"), fill("t1"), fill("t2", price="90", action="sell"))
    assert book.made_today("usdt", START_NS) == Decimal("-10.2")
    assert book.made_today("usdt", midnight_s * 10**9) == 0
    book.apply(fill("t3", broker_time=midnight_s + 1.0))
    assert book.made_today("usdt", (midnight_s + 2) * 10**9) == Decimal("-0.1")


def test_a_fill_told_twice_is_booked_once_and_not_news() -> None:
    book = book_of(asked(), fill("t1", size="0.5"))
    book.apply(fill("t1", size="0.5"))
    assert not book.changed
    assert len(book.unsynced) == 1


def test_a_fill_after_the_end_is_booked_and_told_as_late() -> None:
    gone = BrokerdStatus(time_ns=START_NS, reqid="r", status="canceled", oid=A)
    book = book_of(asked(), rec.Told(time_ns=START_NS, message=gone))
    outputs = book.apply(fill("t1", size="0.5"))
    told = [output.status for output in outputs if isinstance(output, on.Tell)]
    assert told[0].brokerd_msg["late"] is True
    assert book.positions[FQME].size == Decimal("0.5")


def test_a_request_that_cannot_be_changes_nothing() -> None:
    book = book_of(asked())
    before = book.snapshot()
    with pytest.raises(OrderRejected, match="expected a known order"):
        book.apply(rec.Asked(time_ns=START_NS, request=Cancel(oid="b" * 32, symbol=FQME)))
    assert book.snapshot() == before


def test_the_kill_switch_ends_what_is_held_and_asks_for_the_rest() -> None:
    book = book_of(
        asked(),
        asked(oid="b" * 32, exec_mode="dark", price="150"),
        rec.Told(
            time_ns=START_NS,
            message=BrokerdStatus(time_ns=START_NS, reqid="r", status="open", oid=A),
        ),
    )
    outputs = book.apply(rec.Stopped(time_ns=START_NS + 1, reason="enough"))
    assert book.dialogs["b" * 32].state == "canceled"
    assert book.dialogs[A].state == "cancel_in_flight"
    assert any(isinstance(output, on.SendCancel) for output in outputs)
    assert (book.stopped, book.held()) == ("enough", 1)
    book.apply(rec.Armed(time_ns=START_NS + 2))
    assert book.stopped == ""


def test_a_journal_of_another_version_is_refused() -> None:
    with pytest.raises(BadPayload, match="cannot be read"):
        AccountBook("binance", "paper").replay(msgspec.msgpack.encode({"kind": "new"}))


def stored(number: int, payload: bytes, **fields: Any) -> Record:
    given = {"segment": 1, "is_snapshot": False, "is_after_damage": False, **fields}
    return Record(sequence=number, time_ns=START_NS + number, payload=payload, **given)


def test_a_view_holds_every_transaction_of_the_journal_once() -> None:
    book = book_of(asked(size="9"), fill("t1"))
    records = [
        stored(1, rec.encode(asked(size="9"))),
        stored(2, rec.encode(fill("t1"))),
        *(stored(3, part, is_snapshot=True, segment=2) for part in book.snapshot()),
        stored(9, rec.encode(fill("t2")), segment=2),
    ]
    whole = read_journal(records, "binance", "paper")
    assert [each.tid for each in whole.transactions] == ["t1", "t2"]
    assert whole.since is None
    assert [dialog.filled for dialog in whole.dialogs] == [2]
    rest = read_journal(records[2:], "binance", "paper")
    assert [each.tid for each in rest.transactions] == ["t1", "t2"]
    assert rest.since is not None


def test_imported_fills_are_folded_like_any_other() -> None:
    imported = Transaction(
        broker="binance",
        account="paper",
        fqme=FQME,
        tid="old",
        size=Decimal(2),
        price=Decimal(50),
        dt=datetime(2020, 1, 1, tzinfo=UTC),
        bs_mktid=FQME,
    )
    view = read_journal(
        [stored(1, import_record([imported], "file", START_NS))], "binance", "paper"
    )
    assert view.book.positions[FQME].size == 2
    assert view.transactions == [imported]
