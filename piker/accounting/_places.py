"""Where an account's files are, who may write them, and how one is replaced whole."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from piker import config
from piker.errors import ConfigError
from piker.storage.disk import Disk


class LedgerLocked(ConfigError):
    """Another process writes this ledger."""


def label_of(broker: str, account: str) -> str:
    """Return an account's name in file names: `<broker>.<label>` is its label."""
    return account.removeprefix(f"{broker}.")


def ledger_name(broker: str, account: str) -> str:
    """Return the name of an account's ledger file."""
    return f"trades_{broker}_{label_of(broker, account)}.toml"


def account_name(broker: str, account: str) -> str:
    """Return the name of an account's account file."""
    return f"account.{broker}.{label_of(broker, account)}.toml"


def accounting_dir(broker: str) -> Path:
    """Return the folder of a broker's account files; its ledgers are in `ledgers` below."""
    return config.broker_dir(broker) / "accounting"


def replace_file(disk: Disk, name: str, data: bytes) -> None:
    """Put a whole new file in the place of one, durably: either is there, never a part."""
    new = f".{name}.new"
    disk.remove(new)
    file = disk.create(new, len(data))
    try:
        file.write(0, data)
        file.sync()
    finally:
        file.close()
    disk.rename(new, name)
    disk.sync_folder()


def read_or_empty(disk: Disk, name: str) -> bytes:
    """Return a file's content; nothing when there is no such file."""
    try:
        return disk.read(name)
    except FileNotFoundError:
        return b""


class Lock:
    """A locked file that names its holder; released when its process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def take(self) -> str | None:
        """Take it; None when it is ours now, else who has it."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
            os.close(fd)
            return f"process {holder}" if holder else "another process"
        except OSError:
            os.close(fd)
            raise
        self._fd = fd
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return None

    def release(self) -> None:
        """Give it back."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
