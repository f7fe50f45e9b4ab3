"""What `/proc` tells about processes: whether one is the same as before, and our own children."""

from __future__ import annotations

from pathlib import Path

PROC = Path("/proc")


def boot_id() -> str:
    """Return the kernel's name for this boot."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def start_ticks(pid: int) -> int | None:
    """Return when `pid` started, in clock ticks since boot; None when it is dead or a zombie."""
    fields = _read(PROC / str(pid) / "stat").rpartition(")")[2].split()
    return None if not fields or fields[0] in "ZX" else int(fields[19])


def actor_children() -> list[str]:
    """Return the uid, as its command line shows it, of each living child that is an actor."""
    found = []
    for task in (PROC / "self/task").iterdir():
        for pid in _read(task / "children").split():
            args = _read(PROC / pid / "cmdline").split("\0")  # empty for a zombie
            if "--uid" in args:
                found.append(args[args.index("--uid") + 1])
    return found


def actor_start(pid: int, name: str) -> int | None:
    """Return `start_ticks` of `pid` when it is the actor `name`; None when it is not."""
    args = _read(PROC / str(pid) / "cmdline").split("\0")
    is_it = "--uid" in args and args[args.index("--uid") + 1].startswith(f"('{name}',")
    return start_ticks(pid) if is_it else None


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
