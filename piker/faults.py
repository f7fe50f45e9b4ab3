"""
Named places where a test may have this process die or stand still.

`point(name)` does nothing unless the run's variables arm that name (`faults`, `{name: pass}`) and
every venue of the run is a local one: no process that could reach a real market ever dies here. A
fault strikes once per run, whatever is restarted: it leaves a mark in the run's folder first.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Mapping

from piker import config
from piker.errors import ConfigError

VAR = "faults"
MARK = "fault."  # followed by the point's name, in the run's folder
_HOW = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}

_passes: Counter[str] = Counter()


def point(name: str) -> None:
    """Go on; or end (`kill`) or stop (`stop`) this process at the pass that `faults` names."""
    armed = config.run_vars().get(VAR)
    if not armed or name not in armed:
        return
    _passes[name] += 1
    how, nth = parse_fault(name, armed[name])
    if _passes[name] < nth or not _is_harmless():
        return
    try:
        os.close(os.open(config.run_dir() / f"{MARK}{name}", os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    os.kill(os.getpid(), how)


def parse_fault(name: str, text: object) -> tuple[signal.Signals, int]:
    """
    Return what happens, and at which pass: of `3` or `kill:3`, or of `stop:3`.

    Raises:
      ConfigError: it says neither.
    """
    word, _, nth = str(text).rpartition(":")
    if (word or "kill") not in _HOW or not nth.isdecimal() or int(nth) < 1:
        raise ConfigError(f"fault {name}: was {text!r}, expected N, kill:N or stop:N")
    return _HOW[word or "kill"], int(nth)


def check_faults(faults: Mapping[str, object], venues: Mapping[str, str]) -> None:
    """
    Refuse faults that say nothing clear, or in a run that is not wholly on local venues.

    Raises:
      ConfigError: says which.
    """
    for name, text in faults.items():
        parse_fault(name, text)
    if faults and not _all_local(venues):
        raise ConfigError("faults: the run has no local venue, expected one for every broker")


def _is_harmless() -> bool:
    return _all_local(config.run_vars().get("venues") or {})


def _all_local(venues: Mapping[str, str]) -> bool:
    return bool(venues) and all(config.parse_venue(*item).is_local for item in venues.items())
