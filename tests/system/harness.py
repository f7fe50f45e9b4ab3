"""
A whole run as its operator starts it: a local venue, `pikerd` and clients, each a real process.

Used by the system tests, in their short form by `make test` and in their long form by
`make soak`; nothing here knows how piker works inside, only what it leaves on the machine.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio


def scripts() -> tuple[list[str], list[str]]:
    """Return the command lines of `piker` and `pikerd` of the environment that runs the tests."""
    folder = Path(sys.executable).parent
    return [str(folder / "piker")], [str(folder / "pikerd")]


def environment(state: Path) -> dict[str, str]:
    """Return the environment of a process that belongs to the run whose state is in `state`."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PIKER_")}
    return env | {"PIKER_CONFIG_DIR": str(state), "PYTHONUNBUFFERED": "1"}


class VenueProcess(msgspec.Struct):
    """A `piker venue serve` that is ready: its process and the line it printed."""

    process: trio.Process
    url: str
    clock: str | None


async def read_line(process: trio.Process, seconds: float = 30) -> str:
    """Return the first line the process prints; fails when it ends or is silent for too long."""
    assert process.stdout is not None
    text = b""
    with trio.fail_after(seconds):
        while b"\n" not in text:
            chunk = await process.stdout.receive_some(65536)
            assert chunk, f"the process ended with {process.returncode} after printing {text!r}"
            text += chunk
    return text.split(b"\n")[0].decode()


async def end(process: trio.Process, seconds: float = 5) -> float:
    """End the process as Ctrl-C does, within `seconds`; returns how long it took."""
    began = trio.current_time()
    if process.returncode is None:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)  # a stopped one hears nothing else
        with trio.move_on_after(seconds):
            await process.wait()
        if process.returncode is None:
            process.send_signal(signal.SIGUSR1)  # an actor writes its task tree to its log
            with trio.move_on_after(1):
                await process.wait()
            process.kill()
            await process.wait()
            raise AssertionError(f"{process.args} did not end within {seconds} s of SIGINT")
    return trio.current_time() - began


@asynccontextmanager
async def open_process(
    command: list[str], state: Path, log: Path | None = None, **options: Any
) -> AsyncIterator[trio.Process]:
    """Run `command` within the run of `state`; it is ended on leaving, whatever happens."""
    state.mkdir(parents=True, exist_ok=True)
    with open(log or state / "stderr.log", "ab") as errors:
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment(state),
            start_new_session=True,
            **options,
        )
    try:
        yield process
    finally:
        with trio.CancelScope(shield=True):
            try:
                await end(process)
            finally:
                if process.stdout is not None:
                    await process.stdout.aclose()


@asynccontextmanager
async def open_venue(
    state: Path, *options: str, seconds: float = 30
) -> AsyncIterator[VenueProcess]:
    """Serve a local venue for Binance; `options` are those of `piker venue serve binance`."""
    piker, _ = scripts()
    command = [*piker, "venue", "serve", "binance", "--json", *options]
    async with open_process(command, state, log=state.with_suffix(".venue.log")) as process:
        said = json.loads(await read_line(process, seconds))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(discard_output, process)
            yield VenueProcess(process, said["url"], said.get("clock"))
            nursery.cancel_scope.cancel()


async def discard_output(process: trio.Process) -> None:
    """Read what the process prints, so that a full pipe never stops it."""
    assert process.stdout is not None
    while await process.stdout.receive_some(65536):
        pass


def run_file(state: Path) -> dict[str, Any] | None:
    """Return what `run.json` of this state folder says, or None."""
    try:
        return json.loads((state / "run" / "run.json").read_text())
    except (FileNotFoundError, ValueError):
        return None


async def until(claim: Callable[[], Any], what: str, seconds: float = 20) -> Any:
    """Return the first true value of `claim`, asked every 20 ms; fails after `seconds`."""
    with trio.move_on_after(seconds):
        while not (value := claim()):
            await trio.sleep(0.02)
        return value
    raise AssertionError(f"not within {seconds} s: {what}")


@asynccontextmanager
async def open_pikerd(
    state: Path, venue: VenueProcess | None = None, *options: str, seconds: float = 20
) -> AsyncIterator[trio.Process]:
    """Run `pikerd` on a free port; yields when its run file names it."""
    _, pikerd = scripts()
    command = [*pikerd, "--port", str(free_port()), *options]
    if venue is not None:
        command += ["--venue", f"binance={venue.url}"]
        if venue.clock:
            command += ["--clock", venue.clock]
    async with open_process(command, state, log=state.with_suffix(".pikerd.log")) as process:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(discard_output, process)
            await until(
                lambda: (
                    process.returncode is not None
                    or ((said := run_file(state)) and said["pid"] == process.pid)
                ),
                "pikerd writes its run file",
                seconds,
            )
            assert process.returncode is None, state.with_suffix(".pikerd.log").read_text()[-2000:]
            yield process
            nursery.cancel_scope.cancel()


async def piker_json(state: Path, *command: str, seconds: float = 30) -> Any:
    """Return what `piker <command> --json` prints, decoded."""
    piker, _ = scripts()
    with trio.fail_after(seconds):
        done = await trio.run_process(
            [*piker, *command, "--json"],
            env=environment(state),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return json.loads(done.stdout)


def free_port() -> int:
    """Return a TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def processes_of(state: Path) -> dict[int, str]:
    """Return `{pid: command line}` of all live processes whose environment names this run."""
    marker = f"PIKER_CONFIG_DIR={state}".encode()
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if marker in (folder / "environ").read_bytes().split(b"\0") and not is_zombie(folder):
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    return found


def is_zombie(folder: Path) -> bool:
    """Whether the process of this /proc folder has ended and only waits to be reaped."""
    return (folder / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"


def descendants(pid: int, besides: int | None = None) -> list[int]:
    """Return the live descendants of a process, without the subtree of `besides`."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if not is_zombie(folder):
                    children.setdefault(parent, []).append(int(folder.name))
            except OSError:
                continue
    found: list[int] = []
    todo = [pid]
    while todo:
        todo += (below := [one for one in children.get(todo.pop(), []) if one != besides])
        found += below
    return found


def pid_of(state: Path, name: str) -> int | None:
    """Return the pid of the actor `name` of this run (its `--uid` is on its command line)."""
    for pid, command in processes_of(state).items():
        if f"('{name}'," in command:
            return pid
    return None


def segments(run_id: str) -> list[str]:
    """Return the shared-memory files of this run."""
    return [path.name for path in Path("/dev/shm").glob(f"*{run_id}*")]


def sockets(run_id: str) -> list[str]:
    """Return the abstract unix sockets of this run."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    return [line.split()[-1] for line in lines if run_id in line]


def leftovers(state: Path, run_id: str) -> list[str]:
    """Return everything this run left on the machine outside its state folder."""
    left = [f"process {pid}: {command}" for pid, command in processes_of(state).items()]
    left += [f"segment {name}" for name in segments(run_id)]
    return left + [f"socket {name}" for name in sockets(run_id)]


def rss_kb(pid: int) -> int:
    """Return the resident memory of a process without its shared mappings, in kB."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))


def rounds(short: int, long: int) -> Iterator[int]:
    """Yield round numbers: `long` of them under `make soak`, else `short`."""
    yield from range(long if is_soak() else short)


def is_soak() -> bool:
    """Whether the long forms run."""
    return os.environ.get("PIKER_SOAK") == "1"
