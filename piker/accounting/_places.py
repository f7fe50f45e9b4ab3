"""Where an account's files are, and how one is replaced whole."""

from __future__ import annotations

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


def lock_path(folder: Path, broker: str, account: str) -> Path:
    """Return the file whose lock its writer holds, in the folder of its files."""
    return folder / f".{broker}.{label_of(broker, account)}.lock"


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
