"""Frames survive a round trip, sit where the table says, and hostile ones are refused."""

import struct
import typing

import msgspec
import numpy as np
import pytest

from piker.ui import frames, messages


def test_a_block_round_trips_with_its_columns_aligned():
    columns = np.arange(18.0).reshape(6, 3)
    data = frames.pack_block(
        columns, chan=2, seq=9, gen=2**32 + 5, rung=300, key=-4, ver=8, rev=3, flags=5
    )
    head, got, _ = frames.unpack_frame(data)
    assert np.array_equal(got, columns)
    assert (head.kind, head.chan, head.seq, head.gen, head.n) == (frames.BLOCK, 2, 9, 5, 3)
    assert (head.rung, head.key, head.ver, head.extra, head.flags) == (300, -4.0, 8, 3, 5)
    assert len(data) == 40 + 6 * 8 * 3


def test_the_header_has_the_offsets_of_the_table():
    data = frames.pack_block(
        np.zeros((6, 0)), chan=1, seq=2, gen=3, rung=60, key=7, ver=4, rev=5, flags=1
    )
    assert data[0] == 1
    assert data[1] == 1
    assert struct.unpack_from("<H", data, 2) == (1,)
    assert struct.unpack_from("<IIIII", data, 4) == (1, 2, 3, 0, 60)
    assert struct.unpack_from("<d", data, 24) == (7.0,)
    assert struct.unpack_from("<II", data, 32) == (4, 5)


def test_a_tail_round_trips():
    l1, rows = np.arange(8.0), np.arange(16.0).reshape(2, 8)
    data = frames.pack_tail(l1, rows, chan=1, seq=1, gen=1, ver=6, sent_at=12.5)
    head, got_l1, got_rows = frames.unpack_frame(data)
    assert (head.kind, head.n, head.key, head.ver) == (frames.TAIL, 2, 12.5, 6)
    assert np.array_equal(got_l1, l1)
    assert np.array_equal(got_rows, rows)


def test_ticks_round_trip():
    columns = np.arange(9.0).reshape(3, 3)
    flags = np.array([1, 257, 1], "u4")
    data = frames.pack_ticks(columns, flags, chan=1, seq=1, gen=1, ver=6, sent_at=1.0, lost=11)
    head, got, got_flags = frames.unpack_frame(data)
    assert (head.kind, head.extra) == (frames.TICKS, 11)
    assert np.array_equal(got, columns)
    assert got_flags.tolist() == [1, 257, 1]


@pytest.mark.parametrize("cut", [0, 1, 39, 41, 60])
def test_a_cut_frame_is_refused(cut):
    data = frames.pack_block(
        np.zeros((6, 2)), chan=1, seq=2, gen=3, rung=60, key=7, ver=4, rev=5, flags=1
    )
    with pytest.raises(ValueError, match="frame:"):
        frames.unpack_frame(data[:cut])


@pytest.mark.parametrize("kind", typing.get_args(messages.Request))
def test_every_request_names_its_op_first(kind):
    fields = msgspec.inspect.type_info(kind)
    assert fields.tag_field == "op"
    sample = {"chan": 1, "id": 1, "fqme": "a.b", "period": 60, "t0": 0, "t1": 1, "px": 1, "ks": [],
              "rungs": [], "seq": 1, "hidden": True, "text": "", "t": 1, "v": 1, "oid": "a",
              "action": "buy", "exec_mode": "dark", "revision": 1, "side": "buy", "price": "1",
              "account": "paper"}  # fmt: skip
    text = msgspec.json.encode({"op": fields.tag, **sample})
    assert isinstance(messages.parse_request(text), kind)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"op":"order"}', '{"op":"ack","seq":"1"}', '{"op":"open","chan":1}', b"\xff"],
)
def test_what_is_no_request_is_refused(text):
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        messages.parse_request(text)


def test_unknown_fields_of_a_newer_page_are_ignored():
    assert messages.parse_request('{"op":"ack","seq":4,"more":1}') == messages.Ack(4)


def test_answers_say_op_first():
    assert messages.pack_answer(messages.Pong(1.0, 2.0)) == '{"op":"pong","t":1.0,"now":2.0}'
