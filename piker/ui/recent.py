"""The markets that were last looked at, for a chart that is opened without one."""

from __future__ import annotations

from typing import Final

import msgspec

from piker import config
from piker.log import get_logger
from piker.model.market import unpack_fqme

log = get_logger(__name__)

RECENT_MAX: Final = 5
_NAME: Final = "recent_markets.json"


class Recent:
    """The last used markets, newest first; kept in the state folder, where losing it is no harm."""

    def __init__(self) -> None:
        self.fqmes = _read()

    def use(self, fqme: str) -> None:
        """Put a market first; a name that cannot be one is left out."""
        try:
            unpack_fqme(fqme)
        except ValueError:
            return
        fqmes = [fqme.lower(), *(each for each in self.fqmes if each != fqme.lower())]
        if fqmes[:RECENT_MAX] == self.fqmes:
            return
        self.fqmes = fqmes[:RECENT_MAX]
        path = config.config_dir() / _NAME
        temporary = path.with_suffix(".new")
        try:
            temporary.write_bytes(msgspec.json.encode(self.fqmes))
            temporary.replace(path)
        except OSError as err:
            log.warning("last used markets not kept: %s", err)


def _read() -> list[str]:
    try:
        kept = (config.config_dir() / _NAME).read_bytes()
        return msgspec.json.decode(kept, type=list[str])[:RECENT_MAX]
    except (OSError, msgspec.DecodeError):
        return []
