"""How fast a sleeping reader in another process has a record, beside a bare eventfd and epoll."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import numpy as np
import trio
from record import Result, compare

from piker import clock
from piker.data._doorbell import DoorbellServer
from piker.data._ring import TickRing
from piker.model.ticks import TICK_DTYPE

SAMPLES = 500
GAP_S = 0.001

READER = """
import sys
import numpy as np
import trio
from piker import clock
from piker.data._doorbell import open_doorbell
from piker.data._ring import TickRing
address, path, generation, capacity, total = sys.argv[1:]
async def main():
    token = {"path": path, "generation": int(generation), "capacity": int(capacity)}
    reader, waits = TickRing.attach(token).reader(0), []
    async with open_doorbell(address, "m") as bell:
        print("ready", flush=True)
        while len(waits) < int(total):
            await bell.wait(reader.has_data)
            rows = reader.read()
            now = clock.monotonic_ns()
            waits += (now - rows["time_recv_ns"]).tolist()
        print(np.median(waits) / 1e3, np.quantile(waits, 0.99) / 1e3, flush=True)
trio.run(main)
"""

FLOOR = """
import os, select, sys
from piker import clock
wake, stamp = int(sys.argv[1]), int(sys.argv[2])
poll = select.epoll()
poll.register(wake, select.EPOLLIN)
waits, seen = [], 0
print("ready", flush=True)
while seen < int(sys.argv[3]):
    poll.poll()
    now = clock.monotonic_ns()
    seen += os.eventfd_read(wake)
    waits.append(now - int.from_bytes(os.pread(stamp, 8, 0), "little"))
print(sorted(waits)[len(waits) // 2] / 1e3, flush=True)
"""


def measure() -> Iterator[Result]:
    """Yield the median and the 99th percentile from put to read at 1,000 records a second."""
    floor = trio.run(measure_floor)
    median, p99 = trio.run(measure_bell)
    peer = "eventfd and epoll alone, median"
    yield compare("record to a sleeping reader, p50", median, "us", peer, floor, target=0.4)
    yield compare("record to a sleeping reader, p99", p99, "us", peer, floor, target=0.08)


async def measure_bell() -> tuple[float, float]:
    """Return median and 99th percentile in microseconds."""
    run_id = f"bench{clock.rng().getrandbits(32):x}"
    with tempfile.TemporaryDirectory() as folder:
        ring = TickRing.create(folder, run_id, "bench", "m", 1 << 12)
        server = DoorbellServer(run_id, "bench")
        bells, record = server.bell("m"), np.zeros(1, TICK_DTYPE)
        token = [str(value) for value in ring.token.values()]
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            command = [sys.executable, "-c", READER, server.address, *token, str(SAMPLES)]
            reader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert reader.stdout is not None
            await trio.to_thread.run_sync(reader.stdout.readline)
            for _ in range(SAMPLES):
                record["time_recv_ns"] = clock.monotonic_ns()
                ring.put_many(record)
                bells.ring()
                await trio.sleep(GAP_S)
            line = await trio.to_thread.run_sync(reader.stdout.readline)
            reader.wait()
            nursery.cancel_scope.cancel()
        ring.close()
    median, p99 = map(float, line.split())
    return median, p99


async def measure_floor() -> float:
    """Return the median of a bare eventfd between two processes, in microseconds."""
    wake = os.eventfd(0)
    stamp = os.memfd_create("bench", 0)
    command = [sys.executable, "-c", FLOOR, str(wake), str(stamp), str(SAMPLES)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, pass_fds=(wake, stamp)
    ) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        for _ in range(SAMPLES):
            os.pwrite(stamp, clock.monotonic_ns().to_bytes(8, "little"), 0)
            os.eventfd_write(wake, 1)
            await trio.sleep(GAP_S)
        median = float(reader.stdout.readline())
    os.close(wake)
    os.close(stamp)
    return median
