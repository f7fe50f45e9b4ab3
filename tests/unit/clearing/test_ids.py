"""Client order ids: pure, without collisions, and in the form that each venue takes."""

from __future__ import annotations

import pytest

from piker.clearing._ids import VENUE_IDS, client_order_id, plain_id, render_id


def ids(count: int = 3_000) -> list[str]:
    return [
        client_order_id(account, oid, number)
        for account in ("paper", "binance.spot", "kraken.main")
        for oid in (f"{index:032x}" for index in range(count // 9))
        for number in (1, 2, 3)
    ]


def test_an_id_is_a_pure_function_of_the_request() -> None:
    assert client_order_id("paper", "a1", 1) == client_order_id("paper", "a1", 1)
    # Fixed for good: ids in journals and at venues were made by this very function.
    assert client_order_id("paper", "a1", 1) == "c361e012d37eafedb9ab0d65d7b29676"


def test_parts_that_spell_the_same_text_have_ids_of_their_own() -> None:
    texts = [("ab", "c", 1), ("a", "bc", 1), ("ab", "c1", 1), ("ab", "c", 11), ("a", "b:c", 1)]
    assert len({client_order_id(*parts) for parts in texts}) == len(texts)
    assert client_order_id("1:a", "b", 1) != client_order_id("1", "a1:b", 1)


@pytest.mark.parametrize("broker", sorted(VENUE_IDS))
def test_an_id_has_the_length_and_alphabet_of_its_venue(broker: str) -> None:
    pattern = VENUE_IDS[broker].pattern
    refused = [plain for plain in ids() if not pattern.fullmatch(render_id(broker, plain))]
    assert refused == []


@pytest.mark.parametrize("broker", sorted(VENUE_IDS))
def test_ids_do_not_collide_at_any_venue_and_read_back(broker: str) -> None:
    plain = ids()
    rendered = [render_id(broker, one) for one in plain]
    assert len({text.lower() for text in rendered}) == len(plain)
    assert [plain_id(text) for text in rendered] == plain


def test_an_id_that_is_not_ours_is_not_read_as_one() -> None:
    assert [plain_id(text) for text in ("", "x-HJ2", "web_9f", "12", "g" * 32)] == [None] * 5


def test_a_broker_without_a_row_gets_the_id_as_it_is() -> None:
    plain = client_order_id("paper", "a1", 1)
    assert render_id("nowhere", plain) == plain
