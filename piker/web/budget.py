"""
One request budget per venue and IP or key, shared by every process of a run.

A page of one file in the run's folder counts the weight that all processes took in the venue's
current window, under a `flock` held for microseconds. The window is a minute of the run's clock:
it falls together with the venue's own, and a run at 50 times the speed has 50 times the budget.
The venue's own count, from its headers, corrects ours upwards.

Each class of request may fill the window up to its share only, so that a search never uses what a
cancel needs. A refusal closes the class and those below it for its Retry-After, in every process.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

import msgspec
import trio

from piker import clock, config
from piker.errors import ConfigError, DataThrottle
from piker.log import get_logger

log = get_logger(__name__)

# Highest first: what a class may fill of the window, and what a refusal of a class above closes.
SHARES = {"cancel": 1.0, "order": 0.95, "reconcile": 0.85, "history": 0.70, "search": 0.55}
WINDOW_S = 60
RETRY_AFTER_MAX_S = 259_200.0  # three days: the longest ban that Binance announces
LOCK_WAIT_S = 1.0  # a stopped process may hold the lock; past this the local copy must do

_FORMAT = 1
# format, boot id (64 bit), window number, used, limit, one closed_until (CLOCK_MONOTONIC) a class
_PAGE = struct.Struct(f"<qQqqq{len(SHARES)}q")


class _Page(msgspec.Struct):
    """What the page holds; `closed_ns` in the order of `SHARES`."""

    window: int
    used: int
    limit: int
    closed_ns: list[int]


class BudgetStats(msgspec.Struct, frozen=True):
    """Counters of one process' use of a budget, and the shared window as it last saw it."""

    taken: int  # weight
    waits: int
    refusals: int
    used: int
    limit: int


def parse_retry_after(text: str | None, default_s: float = 1.0) -> float:
    """
    Return the seconds of a Retry-After header, between 0.1 and `RETRY_AFTER_MAX_S`.

    A missing header, a date or rubbish gives `default_s`.
    """
    if text is None or not re.fullmatch(r"\s*\d{1,12}(\.\d{1,9})?\s*", text, re.ASCII):
        return default_s
    return min(max(float(text), 0.1), RETRY_AFTER_MAX_S)


def _boot_id() -> int:
    text = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little")


class Budget:
    """A process' hold on one shared budget; made by `open_budget`."""

    def __init__(self, name: str, file: int, page: mmap.mmap, limit: int) -> None:
        self.name = name
        self._file = file
        self._page = page
        self._boot = _boot_id()
        self._limit = limit
        self._taken = self._waits = self._refusals = 0
        self._seen = _Page(0, 0, limit, [0] * len(SHARES))

    async def take(self, kind: str, weight: int, *, timeout_s: float = 30.0) -> None:
        """
        Take `weight` for a request of class `kind`, waiting for the next window when needed.

        Raises:
          DataThrottle: the class is closed, or the share is used up, for longer than `timeout_s`.
        """
        deadline = trio.current_time() + timeout_s
        while (wait_s := await self._try_take(kind, weight)) > 0:
            self._waits += 1
            if trio.current_time() + wait_s > deadline:
                raise DataThrottle(
                    f"{self.name}: request budget of class {kind} is used up, "
                    f"free again in {wait_s:.0f} s",
                    broker=self.name,
                    retry_after_s=wait_s,
                )
            await trio.sleep(clock.jitter(wait_s, 0.05) + 0.005)
        self._taken += weight

    async def correct(self, used: int) -> None:
        """Raise our count to `used`, the weight that the venue says it has counted."""
        if not 0 <= used < 1 << 40:
            return
        async with _Locked(self) as page:
            page.used = max(page.used, used)

    async def set_limit(self, limit: int) -> None:
        """Set the weight of one window, as the venue declares it."""
        if not 0 < limit < 1 << 40:
            return
        self._limit = limit
        async with _Locked(self) as page:
            page.limit = limit

    async def close_class(
        self, kind: str, retry_after_s: float, *, everything: bool = False
    ) -> None:
        """Refuse `kind` and the classes below it (or all) in every process for real seconds."""
        self._refusals += 1
        until_ns = clock.monotonic_ns() + int(min(retry_after_s, RETRY_AFTER_MAX_S) * clock.NS)
        first = 0 if everything else list(SHARES).index(kind)
        async with _Locked(self) as page:
            for place in range(first, len(SHARES)):
                page.closed_ns[place] = max(page.closed_ns[place], until_ns)

    def statistics(self) -> BudgetStats:
        """Return this process' counters and the newest look at the shared window."""
        return BudgetStats(
            self._taken, self._waits, self._refusals, self._seen.used, self._seen.limit
        )

    async def _try_take(self, kind: str, weight: int) -> float:
        """Take it and return 0, or return the real seconds until a new try makes sense."""
        place = list(SHARES).index(kind)
        async with _Locked(self) as page:
            closed_ns = page.closed_ns[place] - clock.monotonic_ns()
            if closed_ns > 0:
                return closed_ns / clock.NS
            # A request heavier than its whole share goes out alone, in a fresh window.
            if page.used and page.used + weight > page.limit * SHARES[kind]:
                left_s = WINDOW_S - clock.now_s() % WINDOW_S
                return max(left_s / clock.speed(), 0.001)
            page.used += weight
        return 0.0

    def load(self) -> _Page:
        """Read the page; one of another boot, format or window counts as fresh."""
        window = clock.now_ns() // clock.NS // WINDOW_S
        form, boot, stamp, used, limit, *closed_ns = _PAGE.unpack_from(self._page)
        if (form, boot) != (_FORMAT, self._boot) or not 0 < limit < 1 << 40:
            return _Page(window, 0, self._limit, [0] * len(SHARES))
        return _Page(window, max(0, used) if stamp == window else 0, limit, closed_ns)

    def store(self, page: _Page) -> None:
        """Write the page; the caller holds the lock."""
        self._seen = page
        _PAGE.pack_into(
            self._page, 0, _FORMAT, self._boot, page.window, page.used, page.limit, *page.closed_ns
        )

    def try_lock(self) -> bool:
        """Take the lock between processes, or say that another one holds it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self) -> None:
        """Give the lock back."""
        fcntl.flock(self._file, fcntl.LOCK_UN)


class _Locked:
    """`async with _Locked(budget) as page`: read, change, write, without a checkpoint inside."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._has_lock = False

    async def __aenter__(self) -> _Page:
        deadline = trio.current_time() + LOCK_WAIT_S
        while not (locked := self._budget.try_lock()):
            if trio.current_time() > deadline:
                break
            await trio.sleep(0.002)
        self._has_lock = locked
        if not locked:
            log.warning("%s: budget page is locked by a stopped process", self._budget.name)
        self._page = self._budget.load()
        return self._page

    async def __aexit__(self, *exc: object) -> None:
        self._budget.store(self._page)
        if self._has_lock:
            self._budget.unlock()


@contextmanager
def open_budget(
    name: str, limit: int, *, key: str = "ip", folder: Path | None = None
) -> Iterator[Budget]:
    """
    Open the budget of venue `name` for `key` (its IP or an API key), `limit` weight a window.

    `name` is part of the file's name: letters, digits, dots and dashes.

    Raises:
      ConfigError: the run's folder cannot be written.
    """
    digest = blake2b(key.encode(), digest_size=6).hexdigest()  # a key is not for reading
    path = (folder or config.run_dir()) / f"budget.{name}.{digest}"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as err:
        raise ConfigError(
            f"{path}: cannot be opened ({err.strerror}); make the folder writable"
        ) from err
    try:
        if os.fstat(file).st_size < _PAGE.size:
            os.posix_fallocate(file, 0, mmap.PAGESIZE)
        with mmap.mmap(file, mmap.PAGESIZE) as page:
            yield Budget(name, file, page, limit)
    finally:
        os.close(file)
