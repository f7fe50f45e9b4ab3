"""Codes are good once and for their time; Host and Origin must be ours."""

from itertools import count

import pytest

from piker.ui.door import Door, refusal


@pytest.fixture
def door():
    numbers = count()
    return Door(lambda: f"{next(numbers):032x}")


def test_a_code_is_good_once(door):
    code = door.mint()
    secret = door.redeem(code, 0.0)
    assert secret
    assert door.knows(secret)
    assert door.redeem(code, 0.0) is None


def test_an_opened_code_dies_with_its_time_and_a_printed_one_does_not(door):
    opened, printed = door.mint(until=60.0), door.mint()
    assert door.redeem(opened, 60.1) is None
    assert door.redeem(opened, 0.0) is None
    assert door.redeem(printed, 1e9)


def test_a_code_is_no_secret_and_a_secret_no_code(door):
    code = door.mint()
    assert not door.knows(code)
    secret = door.redeem(code, 0.0)
    assert door.redeem(secret, 0.0) is None
    assert not door.knows("")


def test_unused_codes_are_bounded(door):
    first = door.mint()
    for _ in range(100):
        door.mint()
    assert door.redeem(first, 0.0) is None


@pytest.mark.parametrize("host", ["127.0.0.1:80", "localhost:80"])
def test_our_own_host_and_origin_pass(host):
    assert refusal({"host": host}, 80, False) == ""
    assert refusal({"host": host, "origin": f"http://{host}"}, 80, True) == ""


@pytest.mark.parametrize("host", ["", "evil.example", "127.0.0.1:81", "127.0.0.1", "0.0.0.0:80"])
def test_another_host_is_refused(host):
    assert "Host" in refusal({"host": host}, 80, False)


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "https://127.0.0.1:80", "http://localhost:80"]
)
def test_a_socket_of_another_origin_is_refused(origin):
    headers = {"host": "127.0.0.1:80"} | ({"origin": origin} if origin else {})
    assert "Origin" in refusal(headers, 80, True)
