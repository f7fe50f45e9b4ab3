"""
`make demo`: a local venue with a made-up market, `pikerd` on it and its chart, as one program.

One trio process supervises three real ones. Each has a session of its own and a lifeline to
this process, so a Ctrl-C stops them in reverse order and a crash of this process leaves none.
Ports are kept in the state folder and used again while they are free.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Any

import trio
import typer

from piker.cli.boundary import run_async
from piker.cli.children import ended, lines_of, open_child
from piker.cli.ports import free_port
from piker.errors import ConfigError, ServiceUnavailable

BANNER = "This market is made up: a seeded simulation on this machine. No money moves."
FQME = "btcusdt.spot.binance"
SEED = 1
NEXT = (
    f"order buy {FQME} --notional 500 --market",
    "positions",
    f"quote {FQME}",
    f"bars -n 5 {FQME}",
    "search eth",
    "services",
)
READY_MAX_S = 30.0  # how long one process may take to come up
STOPPED_BY_S = {"chart": 0.8, "pikerd": 2.5, "venue": 2.8}  # after a Ctrl-C, which promises 3 s


def demo(
    banner: Annotated[bool, typer.Option(help="Say first that no money moves.")] = True,
    browser: Annotated[bool, typer.Option(help="Open the page when there is a display.")] = True,
) -> None:
    """
    Run a made-up market, the supervisor and the chart at once; Ctrl-C ends all three.

    \b
    Example:
      piker -c .demo demo
    """
    if banner:
        say(BANNER)
    os.environ.pop("PIKER_REGISTRY", None)  # the state folder alone says which run is meant
    folder = Path(os.environ.setdefault("PIKER_CONFIG_DIR", str(Path(".demo").absolute())))
    with only_one(folder) as kept:
        run_async(run, folder, kept, browser and has_display())


def say(text: str) -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)


def has_display() -> bool:
    """Whether a browser could open a window here."""
    return sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


@contextmanager
def only_one(folder: Path) -> Iterator[dict[str, int]]:
    """
    Hold the demo's state folder and yield the ports it used last; what the caller puts is kept.

    Raises:
      ConfigError: another demo runs from this folder, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "demo.json").open("a+", encoding="utf-8")
    except OSError as err:
        raise ConfigError(f"demo: {folder} cannot be used: {err.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"demo: one already runs from {folder}; end that one first") from None
        yield read_ports(file)


def read_ports(file: IO[str]) -> dict[str, int]:
    """Return free ports by process name, those of the last run where they are still free."""
    file.seek(0)
    try:
        last = json.load(file)
    except ValueError:
        last = {}
    known = last if isinstance(last, dict) else {}
    ports = {name: free_port(wanted=known.get(name)) for name in ("venue", "pikerd")}
    file.seek(0)
    file.truncate()
    json.dump(ports, file)
    file.flush()
    return ports


async def run(folder: Path, ports: dict[str, int], opens_browser: bool) -> None:
    """Start the three, say where the chart is, and supervise until told to stop."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_on_signal, signals, nursery.cancel_scope)
            async with open_demo(folder, ports, opens_browser):
                await trio.sleep_forever()
    say("\nStopped. State is kept in the folder; `make demo-clean` removes it.")


async def cancel_on_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    """Cancel `scope` at the first signal."""
    async for _ in signals:
        scope.cancel()
        return


class Stops:
    """Counts from the first stop on, so that time which one process leaves serves the next."""

    def __init__(self) -> None:
        self._begun: float | None = None

    def left_s(self, name: str) -> float:
        """Return how many seconds the process `name` may still take to end."""
        now = trio.current_time()
        if self._begun is None:
            self._begun = now
        return max(0.1, self._begun + STOPPED_BY_S[name] - now)


@asynccontextmanager
async def open_demo(
    folder: Path, ports: dict[str, int], opens_browser: bool
) -> AsyncIterator[None]:
    """Run venue, pikerd and chart, each started when the one before it is ready."""
    stops = Stops()
    async with trio.open_nursery() as watchers, AsyncExitStack() as stack:

        async def start(name: str, *command: str) -> trio.Process:
            child = open_child(name, list(command), folder, bound_s=partial(stops.left_s, name))
            process = await stack.enter_async_context(child)
            watchers.start_soon(watch, name, process, folder)
            return process

        serve = ("serve", "binance", "--synthetic", "--seed", str(SEED), "--json")
        where = ("--port", str(ports["venue"]), "--state", str(folder / "venue"))
        venue = await start("venue", "piker", "venue", *serve, *where)
        url = f"{(await read_json(venue, folder))['url']}#demo"
        watchers.start_soon(drain, venue)
        pikerd = await start(
            "pikerd", "pikerd", "--port", str(ports["pikerd"]), "--venue", f"binance={url}"
        )
        watchers.start_soon(drain, pikerd)
        await wait_for_run(pikerd, folder)
        options = () if opens_browser else ("--no-browser",)
        chart = await start("chart", "piker", "chart", FQME, *options)
        watchers.start_soon(relay_chart, chart, folder)
        watchers.start_soon(relay_keys, chart)
        yield


async def drain(process: trio.Process) -> None:
    """Read and forget what a process prints, so that it never waits for us."""
    async for _ in lines_of(process):
        pass


async def watch(name: str, process: trio.Process, folder: Path) -> None:
    """End the demo when one of its processes ends by itself."""
    await process.wait()
    raise ServiceUnavailable(ended(name, process, folder))


async def read_json(process: trio.Process, folder: Path) -> dict[str, Any]:
    """Return the one JSON line by which the venue says that it is ready."""
    with trio.move_on_after(READY_MAX_S):
        async with aclosing(lines_of(process)) as lines:
            async for line in lines:
                if line.startswith("{"):
                    ready: dict[str, Any] = json.loads(line)
                    return ready
        await process.wait()
        raise ServiceUnavailable(ended("venue", process, folder))
    raise ServiceUnavailable(f"demo: the venue was not ready within {READY_MAX_S:.0f} s")


async def wait_for_run(process: trio.Process, folder: Path) -> None:
    """Return when `pikerd` has published its run in the state folder."""
    run_file = folder / "run" / "run.json"
    with trio.move_on_after(READY_MAX_S):
        while process.poll() is None:
            try:
                if json.loads(run_file.read_text("utf-8")).get("pid") == process.pid:
                    return
            except (OSError, ValueError):
                pass
            await trio.sleep(0.05)
        raise ServiceUnavailable(ended("pikerd", process, folder))
    raise ServiceUnavailable(f"demo: pikerd was not ready within {READY_MAX_S:.0f} s")


async def relay_chart(process: trio.Process, folder: Path) -> None:
    """Print what the chart prints; after its first URL, what to try next."""
    has_said = False
    async for line in lines_of(process):
        say(line)
        if not has_said and (start := line.find("http://127.0.0.1:")) >= 0:
            has_said = True
            say_what_next(line[start:].split("/")[2].rpartition(":")[2], folder)


async def relay_keys(process: trio.Process) -> None:
    """Hand lines typed here to the chart: Enter asks it for a new address."""
    assert process.stdin is not None
    if not sys.stdin.isatty():
        return
    while True:
        await trio.lowlevel.wait_readable(sys.stdin)
        if not (typed := os.read(sys.stdin.fileno(), 1024)):
            return
        await process.stdin.send_all(typed)


def say_what_next(port: str, folder: Path) -> None:
    """Print lines that work when pasted into another terminal."""
    if not has_display():
        say(f"No display here: from your own machine run  ssh -L {port}:127.0.0.1:{port} THIS-HOST")
    program = shlex.join([shorter(Path(sys.executable).with_name("piker")), "-c", shorter(folder)])
    say("Try in another terminal:")
    for rest in NEXT:
        say(f"  {program} {rest}")
    say("Ctrl-C ends everything.")


def shorter(path: Path) -> str:
    """Return a path relative to the working folder where it lies below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
