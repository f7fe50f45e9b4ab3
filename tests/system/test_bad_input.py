"""
What a run says about bad input: a venue that misbehaves, and an operator's slips.

Every fault leaves the chart with a state and a sentence, `piker services` with a cause, and no
process restarted; when it ends, data goes on by itself.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from system.browser import open_chart
from system.harness import (
    VenueProcess,
    environment,
    free_port,
    open_pikerd,
    open_venue,
    piker_json,
    scripts,
    until,
)

pytestmark = [pytest.mark.tree, pytest.mark.browser]

MARKET = "btcusdt.spot.binance"
SOCKETS = "/stream"


async def play(venue: VenueProcess, **fault: Any) -> None:
    """Let the venue misbehave on its open sockets or its next requests."""
    async with httpx.AsyncClient(trust_env=False, base_url=venue.url) as client:
        (await client.post("/venue/faults", json=fault)).raise_for_status()


async def heal(venue: VenueProcess) -> None:
    """Let the venue behave again."""
    async with httpx.AsyncClient(trust_env=False, base_url=venue.url) as client:
        (await client.delete("/venue/faults")).raise_for_status()


async def datad(state: Path) -> dict[str, Any]:
    """Return the row of datad in the table of `piker services`."""
    rows = await piker_json(state, "services")
    return dict(next(row for row in rows if row["name"] == "datad.binance"))


async def until_row(
    state: Path, claim: Callable[[dict[str, Any]], Any], seconds: float = 15
) -> dict[str, Any]:
    """Return datad's first row for which `claim` holds."""
    row: dict[str, Any] = {}
    with trio.move_on_after(seconds):
        while not claim(row := await datad(state)):
            await trio.sleep(0.1)
        return row
    raise AssertionError(f"not within {seconds} s; datad says {row}")


def stream_stats(row: dict[str, Any]) -> dict[str, Any]:
    """Return the backend's counters of the market."""
    return dict(row["stats"]["backend"]["btcusdt.spot"])


CUT = {"kind": "close", "where": "socket"}  # ends the stream, so that it is asked for again
FAULTS: dict[str, tuple[list[dict[str, Any]], set[str], str]] = {
    "refuses": ([{"kind": "refuse", "count": -1}, CUT], {"down"}, "dropped the connection"),
    "stalls": ([{"kind": "stall", "count": -1}, CUT], {"down"}, "closed the connection"),
    "says HTML": ([{"kind": "html", "count": -1}, CUT], {"refused"}, "a web page instead"),
    "says 429": (
        [{"kind": "status", "status": 429, "retry_after_s": 2, "count": -1}, CUT],
        {"refused"},
        "says: too many requests, waiting ",
    ),
    "breaks a frame": ([{"kind": "half_frame", "where": "socket"}], {"down"}, "dropped"),
    "falls silent": ([{"kind": "mute"}], {"stale", "down"}, "No data from binance for"),
}


@pytest.mark.parametrize("case", FAULTS)
async def test_a_venue_that_misbehaves_is_said_and_overcome(tmp_path: Path, case: str) -> None:
    faults, states, words = FAULTS[case]
    async with open_chart(tmp_path) as (venue, state, page):
        # so much has come that the feed knows how often to expect a message
        before = await until_row(state, lambda row: stream_stats(row)["link"]["messages"] > 40)
        for fault in faults:
            await play(venue, **fault)
        if case == "breaks a frame":  # once: it is over too soon to ask twice
            await play(venue, kind="refuse", path=SOCKETS, count=-1)
        said = await page.until(
            lambda facts: (
                facts["feed"] in states and facts["banner"] and words in " ".join(facts["banner"])
            ),
            f"{states}, {words!r}",
            40,
        )
        assert said["bars_in_view"] > 0  # the picture stays
        during = await until_row(state, lambda row: row["state"] == "degraded")
        assert MARKET in during["cause"]
        await heal(venue)
        healed = await page.until(lambda facts: facts["feed"] == "live", "the feed is live", 40)
        assert healed["banner"] is None
        after = await until_row(state, lambda row: row["state"] == "ready")
        assert (after["pid"], after["restarts"]) == (before["pid"], 0)


async def test_a_frame_of_rubbish_is_counted_and_changes_nothing_else(tmp_path: Path) -> None:
    async with open_chart(tmp_path) as (venue, state, page):
        before = stream_stats(await datad(state))
        await play(venue, kind="rubbish", where="socket")
        row = await until_row(state, lambda row: stream_stats(row)["stream"]["rejected"] == 1)
        assert (row["state"], row["restarts"]) == ("ready", 0)
        facts = await page.until(lambda facts: facts["feed"] == "live", "the feed is live")
        assert facts["banner"] is None
        row = await datad(state)
        assert stream_stats(row)["link"]["reconnects"] == before["link"]["reconnects"] == 0


async def test_stored_bars_are_shown_while_the_venue_refuses_a_new_datad(tmp_path: Path) -> None:
    async with open_chart(tmp_path) as (venue, state, page):
        await page.until(lambda facts: facts["bars_in_view"] > 100, "candles are painted")
        await until(lambda: list(state.rglob("*.parquet")), "bars are stored", 30)
        await play(venue, kind="refuse", count=-1)
        old = (await datad(state))["pid"]
        os.kill(old, signal.SIGKILL)
        facts = await page.until(
            lambda facts: (
                facts["feed"] == "down"
                and facts["banner"]
                and "dropped the connection" in facts["banner"][0]
            ),
            "the venue's cause",
        )
        assert facts["bars_in_view"] > 100
        row = await until_row(
            state, lambda row: row["stats"].get(MARKET, {}).get("rows_1s", 0) > 1000
        )
        assert (row["state"], row["pid"] != old) == ("degraded", True)
        assert "dropped the connection" in row["cause"]
        await heal(venue)
        await page.until(lambda facts: facts["feed"] == "live", "the feed is live", 40)
        assert (await datad(state))["restarts"] == 1


# ---- what the operator got wrong: one line that says what to do ----


async def refused(state: Path, command: list[str], code: int = 1) -> str:
    """Return the one line on stderr of a command that must fail."""
    with trio.fail_after(40):
        done = await trio.run_process(
            command,
            env=environment(state),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, len(lines)) == (code, 1), done.stderr.decode()[-2000:]
    return lines[0]


async def pikerd_refused(state: Path, *options: str) -> str:
    """Return why `pikerd` does not start."""
    _, pikerd = scripts()
    return await refused(state, [*pikerd, "--port", str(free_port()), *options])


async def test_an_unknown_market_is_answered_with_the_closest(tmp_path: Path) -> None:
    piker, _ = scripts()
    state = tmp_path / "state"
    async with (
        open_venue(tmp_path / "venue", "--synthetic", "--seed", "3") as venue,
        open_pikerd(state, venue),
    ):
        for command in (["chart", "--no-browser"], ["quote"], ["bars"], ["mkt-info"]):
            line = await refused(state, [*piker, *command, "btcusdtt.spot.binance"])
            assert line.startswith("piker: ")
            assert "btcusdtt" in line
            assert "losest: btcusdt.spot.binance" in line
        line = await refused(state, [*piker, "quote", "btcusdt.spot.binnance"])
        assert "no broker is named 'binnance', expected one of binance" in line


async def test_a_taken_port_and_a_taken_folder_are_refused(tmp_path: Path) -> None:
    _, pikerd = scripts()
    state = tmp_path / "state"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        state.mkdir()
        line = await refused(state, [*pikerd, "--port", str(port)])
    assert line == (
        f"pikerd: 127.0.0.1:{port}: another program listens there;"
        " stop it or choose another port with --port"
    )
    line = await pikerd_refused(state, "--host", "192.0.2.1")
    assert "choose an address of this machine with --host" in line
    async with open_pikerd(state) as first:
        line = await pikerd_refused(state)
        assert f"pikerd with pid {first.pid} already serves it" in line
        assert "stop that one, or choose another folder" in line


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("conf", "[data]\nring_2s = 3\n", "conf.toml:2: [data] ring_2s: unknown key"),
        ("conf", "[data]\n\nring_1s = 'x'\n", "conf.toml:3: [data] ring_1s: was 'x', expected int"),
        ("conf", "[data\n", "conf.toml:1: is not valid TOML"),
        ("brokers", "[binance]\nvenu_url = ''\n", "brokers.toml:2: [binance] venu_url: unknown"),
        ("brokers", "[binance]\nvenue_url = 5\n", "brokers.toml:2: [binance] venue_url: was 5"),
        ("brokers", "[binance\n", "brokers.toml:1: is not valid TOML"),
    ],
)
async def test_a_broken_configuration_is_named_by_file_line_and_key(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    (tmp_path / f"{name}.toml").write_text(text)
    assert (await pikerd_refused(tmp_path)).startswith(f"pikerd: {words}")
    piker, _ = scripts()
    line = await refused(tmp_path, [*piker, "chart", "--no-browser", MARKET])
    assert line.startswith(f"piker: {words}")


async def test_a_state_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    missing, file = tmp_path / "missing", tmp_path / "file"
    file.touch()
    assert f"make it with `mkdir -p {missing}`" in await pikerd_refused(missing)
    assert "is a file; choose a folder" in await pikerd_refused(file)
    with mounted(tmp_path / "read_only", "ro,size=1m") as folder:
        line = await pikerd_refused(folder)
        assert f"state folder {folder}: cannot be written" in line
        assert "make it writable or choose another one" in line
    state = tmp_path / "state"
    state.mkdir()
    with mounted(state / "logs", "ro,size=1m") as folder:
        assert f"log folder {folder}: cannot be written" in await pikerd_refused(state)


async def test_a_full_shared_memory_is_refused(tmp_path: Path) -> None:
    _, pikerd = scripts()
    with mounted(tmp_path / "shm", "size=1m") as folder:
        line = await refused(
            tmp_path, ["env", f"PIKER_SHM_DIR={folder}", *pikerd, "--port", str(free_port())]
        )
    assert f"shared memory {folder}:" in line
    assert "are free, one market needs" in line
    assert "free some, or set PIKER_SHM_DIR to another tmpfs" in line


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Mount a tmpfs; skips the test where that is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine does not let the tests mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
