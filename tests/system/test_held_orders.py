"""What is held goes on being watched when its client has left, and again after a crash."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import trio

from system.harness import (
    end,
    environment,
    free_port,
    open_pikerd,
    open_venue,
    pid_of,
    piker_json,
    processes_of,
    run_file,
    scripts,
    until,
)

FQME = "btcusdt.spot.binance"
IDLE_S = 3.0  # longer than a private run lives without clients


async def test_an_alert_is_watched_by_a_private_run_and_again_by_the_next_one(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    async with open_venue(tmp_path / "venue", "--synthetic", "--seed", "3") as venue:
        (state / "brokers.toml").write_text(f"[binance]\nvenue_url = '{venue.url}#made-up'\n")
        (state / "conf.toml").write_text(f"[network]\nport = {free_port()}\n")
        piker, _ = scripts()
        with trio.fail_after(30):
            await trio.run_process([*piker, "alerts", FQME, "1"], env=environment(state))
        private = run_file(state)
        assert private is not None
        assert private["private"]
        await trio.sleep(IDLE_S)
        assert run_file(state) == private, "it left although an alert is held"
        os.kill(private["pid"], signal.SIGKILL)
        await until(lambda: not processes_of(state), "the tree of a killed pikerd is gone", 3)
        log = state.with_suffix(".pikerd.log")
        async with open_pikerd(state) as pikerd:
            await until(lambda: pid_of(state, "emsd"), "emsd starts by itself")
            await until(lambda: "not watched from" in log.read_text(), "from when to when is said")
            rows = await piker_json(state, "alerts")
            assert [row["fqme"] for row in rows] == [FQME]
            with trio.fail_after(30):
                await trio.run_process([*piker, "alerts", FQME, "2"], env=environment(state))
            await end(pikerd)
        # The second one is younger than the order daemon's last word to its supervisor.
        assert "not watched until the next start: 2 orders and alerts" in log.read_text()
