"""
Who may see the page: single-use codes, tab secrets, Host and Origin, the headers of every answer.

Pure: time and randomness are passed in. A code travels in the fragment of the opened address, so
it reaches no log; it is good once, and for a limited time when it stood on a command line.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

CODE_LIFE_S: Final = 60.0  # of a code that a browser's command line shows to other local users
_CODES_MAX: Final = 64
_SECRETS_MAX: Final = 256

HEADERS: Final = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Embedder-Policy", "require-corp"),
    ("Cache-Control", "no-cache"),
)


class Door:
    """The codes and secrets of one chart process; `token` returns 128 fresh random bits as hex."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token
        self._codes: OrderedDict[str, float | None] = OrderedDict()  # code -> until, monotonic s
        self._secrets: OrderedDict[str, None] = OrderedDict()

    def mint(self, until: float | None = None) -> str:
        """Return a new single-use code, good until the monotonic `until` (None: until used)."""
        code = self._token()
        self._codes[code] = until
        while len(self._codes) > _CODES_MAX:
            self._codes.popitem(last=False)
        return code

    def redeem(self, code: str, now: float) -> str | None:
        """Take `code` and return the tab's new secret; None when it is used, old or unknown."""
        if code not in self._codes:
            return None
        until = self._codes.pop(code)
        if until is not None and now > until:
            return None
        secret = self._token()
        self._secrets[secret] = None
        while len(self._secrets) > _SECRETS_MAX:
            self._secrets.popitem(last=False)
        return secret

    def knows(self, secret: str) -> bool:
        """Whether `secret` was given to a tab of this run."""
        if secret not in self._secrets:
            return False
        self._secrets.move_to_end(secret)
        return True


def refusal(headers: dict[str, str], port: int, is_upgrade: bool) -> str:
    """Return why a request is refused; '' when `Host` and (for a WebSocket) `Origin` are ours."""
    host = headers.get("host", "")
    if host not in (f"127.0.0.1:{port}", f"localhost:{port}"):
        return f"Host was {host!r}, expected 127.0.0.1:{port}"
    if is_upgrade and (origin := headers.get("origin", "")) != f"http://{host}":
        return f"Origin was {origin!r}, expected http://{host}"
    return ""
