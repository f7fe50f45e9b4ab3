"""
Read everything that a state folder has stored and say what is wrong with it; changes nothing.

    for finding in verify_state(folder): print(finding.place, finding.state, finding.text)

Journals lie in `journal/<account>/`, bars in `bars/<fqme>/<period>s/`; a local venue has the same
below `venues/<name>/`. Files may be written meanwhile: what goes away while it is read was
replaced by its owner and is no damage.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

import msgspec

from piker.errors import ConfigError
from piker.storage._parquet import DamagedFile, UnknownFormat, read_certificates
from piker.storage.journal import verify

State = Literal["sound", "doubt", "damaged", "unreadable"]


class Finding(msgspec.Struct, frozen=True):
    """
    What was found in one journal or one series of bars.

    `state`: "sound"; "doubt": nothing is known to be missing, and `text` says what cannot be told;
    "damaged": something that was stored is missing; "unreadable": nothing could be read.
    `venue` is the local venue's name, `name` the account or the market with its period.
    """

    kind: Literal["journal", "bars"]
    venue: str
    name: str
    place: str
    state: State
    records: int
    text: str

    @property
    def is_bad(self) -> bool:
        """Whether a person has to act."""
        return self.state in ("damaged", "unreadable")


def verify_state(folder: Path) -> Iterator[Finding]:
    """Yield a finding for every journal and series of bars below the state folder; blocks."""
    yield from _verify_one(folder, "")
    for venue in sorted((folder / "venues").glob("*/")):
        yield from _verify_one(venue, venue.name)


def _verify_one(folder: Path, venue: str) -> Iterator[Finding]:
    """Yield the findings of one venue's folder."""
    for journal in sorted((folder / "journal").glob("*/")):
        if any(journal.iterdir()):
            yield verify_journal(journal, venue)
    for series in sorted((folder / "bars").glob("*/*s/")):
        yield verify_bars(series, venue)


def verify_journal(folder: Path, venue: str = "") -> Finding:
    """Return what is in the journal of one account."""
    try:
        report = verify(folder)
    except ConfigError as err:  # of another version too
        return Finding("journal", venue, folder.name, str(folder), "unreadable", 0, str(err))
    texts = [damage.text for damage in report.damages]
    is_in_use = is_held(folder)
    if report.doubt_s != 0.0 and not is_in_use:
        texts.append(report.lines()[-1])
    state: State = "doubt" if texts else "sound"
    if not report.is_sound:
        state = "damaged"
        if report.is_state_sound:
            texts.append("the last snapshot is younger: what stands now is whole")
    if is_in_use:
        texts.append("being written")
    name = report.account or folder.name
    return Finding("journal", venue, name, str(folder), state, report.records, "; ".join(texts))


def is_held(folder: Path) -> bool:
    """Whether a process holds the lock of a journal's folder; asked without touching the lock."""
    try:
        inode = (folder / "lock").stat().st_ino
        return any(
            line.split()[1] == "FLOCK" and line.split()[5].endswith(f":{inode}")
            for line in Path("/proc/locks").read_text("ascii").splitlines()
        )
    except (OSError, IndexError):
        return False


def verify_bars(folder: Path, venue: str = "") -> Finding:
    """Return what is in one series of bars: every byte of its files is read."""
    rows, bad = 0, list[str]()
    state: State = "sound"
    for path in sorted(folder.glob("*.parquet*")):
        if ".damaged-" in path.name:
            bad.append(f"{path.name} was set aside earlier: ask for its range again")
            state = "damaged"
        elif path.suffix == ".parquet":
            try:
                rows += sum(certificate.rows for certificate in read_certificates(path))
            except (DamagedFile, UnknownFormat) as err:
                if path.exists():
                    bad.append(str(err).removeprefix(f"{folder}/"))
                    state = "unreadable" if isinstance(err, UnknownFormat) else "damaged"
    name = f"{unquote(folder.parent.name)} {folder.name}"
    return Finding("bars", venue, name, str(folder), state, rows, "; ".join(bad))
