"""
The run's own files: who serves this state folder, where, and the token of the run.

`<state>/run/` (0700, ours) holds `lock` (held with `flock` by `pikerd`), `run.json` (address, pid,
start time, boot id, URL set, clock) and `token` (32 random bytes, 0600, new at each start). All
but the lock file vanish with their `pikerd`; a `run.json` whose process is gone counts as absent.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from piker.errors import ConfigError
from piker.faults import MARK
from piker.service._procfs import boot_id, start_ticks

RUN_FORMAT = 1


class RunInfo(msgspec.Struct, frozen=True):
    """What `run.json` says; `started` is the process's start in clock ticks since boot."""

    run_id: str
    host: str
    port: int
    pid: int
    started: int
    boot_id: str
    venues: dict[str, str] = {}
    clock: str | None = None
    private: bool = False
    format: int = RUN_FORMAT

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port


def is_alive(info: RunInfo) -> bool:
    """Whether the very process that wrote `info` still runs."""
    return info.boot_id == boot_id() and start_ticks(info.pid) == info.started


def read_run(folder: Path) -> RunInfo | None:
    """Return the live run of the state folder whose run folder this is, or None."""
    try:
        info = msgspec.json.decode((folder / "run.json").read_bytes(), type=RunInfo)
    except (OSError, msgspec.DecodeError):
        return None
    return info if info.format == RUN_FORMAT and is_alive(info) else None


def _unwritable(folder: Path, why: OSError) -> ConfigError:
    return ConfigError(
        f"state folder {folder}: cannot be written ({why.strerror}); make it writable"
        " or choose another one with -c or PIKER_CONFIG_DIR"
    )


def _make_folder(folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.stat()
        if found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) & 0o077:
            folder.chmod(0o700)
    except OSError as err:
        raise _unwritable(folder.parent, err) from None
    if found.st_uid != os.getuid():
        raise ConfigError(f"{folder}: belongs to another user; choose another state folder")


def _lock(folder: Path) -> int:
    """Take the folder's lock, or say who has it."""
    try:
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as err:
        raise _unwritable(folder.parent, err) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "?"
        os.close(fd)
        run = read_run(folder)
        where = f" at {run.host}:{run.port}" if run else ""
        raise ConfigError(
            f"state folder {folder.parent}: pikerd with pid {holder} already serves it{where};"
            " stop that one, or choose another folder with -c or PIKER_CONFIG_DIR"
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, str(os.getpid()).encode(), 0)
    return fd


def held_by(folder: Path) -> int | None:
    """
    Return the pid of the process that holds the run folder, be it starting, serving or ending.

    0: it has not said yet; None: nobody does. Takes no lock itself.
    """
    try:
        inode = (folder / "lock").stat().st_ino
        pid = (folder / "lock").read_text("ascii", "replace").strip()
    except OSError:
        return None
    held = Path("/proc/locks").read_text().splitlines()
    if not any(" FLOCK " in line and f":{inode} " in line for line in held):
        return None
    return int(pid) if pid.isdecimal() else 0


@contextmanager
def claim_folder(folder: Path) -> Iterator[None]:
    """
    Hold the run folder for this process; what the run left in it goes at the end.

    Raises:
      ConfigError: the state folder cannot be written, is not ours, or another `pikerd` has it.
    """
    _make_folder(folder)
    fd = _lock(folder)
    for left in folder.glob(f"{MARK}*"):  # of a run that was killed
        left.unlink(missing_ok=True)
    try:
        yield
    finally:
        for path in (folder / "run.json", folder / "token", *folder.glob(f"{MARK}*")):
            with suppress(OSError):
                path.unlink()
        os.close(fd)


def unpublish(folder: Path) -> None:
    """Make the run unknown to new clients: it ends."""
    (folder / "run.json").unlink(missing_ok=True)


def publish(folder: Path, info: RunInfo) -> None:
    """Write the token, then `run.json`, which makes the run known."""
    token = folder / "token"
    token.unlink(missing_ok=True)
    fd = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(secrets.token_bytes(32))
    temporary = folder / ".run.json"
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(info)))
    temporary.replace(folder / "run.json")
