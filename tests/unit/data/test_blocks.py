"""The L1 and L2 blocks: always one whole value, whatever their writer is doing."""

from __future__ import annotations

import math
import subprocess
import sys
from ast import literal_eval
from pathlib import Path

import numpy as np
import pytest

from piker.data._blocks import L1, NO_L1, L1Block, L2Block
from piker.data._segment import SegmentGone


def quote(n: int) -> dict[str, float]:
    return {name: n for name in L1.__struct_fields__}


def test_block_without_a_value_reads_as_none_yet(tmp_path: Path) -> None:
    l1 = L1Block.create(tmp_path, "r", "a", "m")
    l2 = L2Block.create(tmp_path, "r", "a", "m", 5)
    assert L1Block.attach(l1.token).read() is NO_L1
    assert math.isnan(NO_L1.bid)
    assert len(L2Block.attach(l2.token).read().bids) == 0


def test_newest_quote_is_read_back_field_by_field(tmp_path: Path) -> None:
    block = L1Block.create(tmp_path, "r", "a", "m")
    reader = L1Block.attach(block.token)
    for n in range(5):
        values = {name: n * 100 + i for i, name in enumerate(L1.__struct_fields__)}
        block.write(**values)
        assert {name: getattr(reader.read(), name) for name in values} == values


def test_quote_needs_every_field(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        L1Block.create(tmp_path, "r", "a", "m").write(bid=1.0)


def test_best_levels_are_read_back_and_deeper_ones_cut_off(tmp_path: Path) -> None:
    block = L2Block.create(tmp_path, "r", "a", "m", 3)
    reader = L2Block.attach(block.token)
    bids = [(100.0 - i, 1.0 + i) for i in range(5)]
    block.write(bids, [(101.0, 2.0)], 55, 77)
    book = reader.read()
    assert book.bids.tolist() == [list(level) for level in bids[:3]]
    assert book.asks.tolist() == [[101.0, 2.0]]
    assert (book.time_venue_ns, book.update_id) == (55, 77)
    assert reader.read() is book
    block.write([], [], 56, 78)
    assert len(reader.read().bids) == len(reader.read().asks) == 0


def test_value_before_is_read_while_its_writer_is_stuck_in_the_next(tmp_path: Path) -> None:
    block = L1Block.create(tmp_path, "r", "a", "m")
    block.write(**quote(1))
    base = block._begin()
    block._floats[base + 1] = 99.0
    assert L1Block.attach(block.token).read().bid == 1.0


def test_another_generation_is_not_attached(tmp_path: Path) -> None:
    block = L2Block.create(tmp_path, "r", "a", "m", 3)
    with pytest.raises(SegmentGone):
        L2Block.attach(block.token | {"generation": 1})
    block.unlink()
    assert block.is_stale()


WRITER = """
import sys
from piker.data._blocks import L1, L1Block, L2Block
l1 = L1Block.create(sys.argv[1], "r", "a", "m")
l2 = L2Block.create(sys.argv[1], "r", "a", "m", 20)
print([l1.token, l2.token], flush=True)
n = 0
while True:
    n += 1
    l1.write(**{name: n for name in L1.__struct_fields__})
    levels = [(float(n), float(n))] * 20
    l2.write(levels, levels, n, n)
"""


def test_no_value_is_torn_while_another_process_writes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        tokens = literal_eval(writer.stdout.readline())
        l1, l2 = L1Block.attach(tokens[0]), L2Block.attach(tokens[1])
        try:
            for _ in range(20_000):
                quote_now = l1.read()
                values = {getattr(quote_now, name) for name in L1.__struct_fields__}
                assert len(values) == 1 or quote_now is NO_L1
                book = l2.read()
                assert (book.bids == book.update_id).all()
                assert (book.asks == book.time_venue_ns).all()
            assert np.isfinite(quote_now.bid)
        finally:
            writer.kill()
