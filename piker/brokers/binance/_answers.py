"""
Whether binance granted a REST request: status, headers and packing in, a JSON body or an error out.

Pure. What the body means is in `_wire`. Source: binance-spot-api-docs, rest-api.md and errors.md.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from piker.brokers.binance._wire import BROKER, decode_error
from piker.errors import (
    AuthFailed,
    BadPayload,
    BrokerError,
    ConnectionLost,
    DataThrottle,
    SymbolNotFound,
)
from piker.web.budget import parse_retry_after


def unpack(body: bytes, encoding: str, size_max: int) -> bytes:
    """Return `body` unpacked; raises BadPayload when that is over `size_max` or not possible."""
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise BadPayload(
            f"{BROKER}: the answer is packed as {encoding[:40]!r}, expected gzip", body
        )
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(body, size_max + 1)
    except zlib.error as err:
        raise BadPayload(f"{BROKER}: the answer is garbled ({err})", body) from None
    if len(plain) > size_max:
        raise BadPayload(f"{BROKER}: the answer is over {size_max} bytes unpacked", plain)
    return plain


def check_answer(status: int, headers: dict[str, str], body: bytes, what: str) -> bytes:
    """
    Return `body` when the request for `what` was granted; header names are lower case.

    Raises:
      DataThrottle: too many requests, or a ban (`code` 418); with the venue's Retry-After.
      SymbolNotFound: the venue does not know the symbol.
      AuthFailed, BrokerError: another refusal, with the venue's code and text.
      ConnectionLost: the venue is failing (5xx).
      BadPayload: an answer that is not JSON.
    """
    is_json = body.lstrip()[:1] in (b"{", b"[")
    if status == 200 and is_json:
        return body
    code, text = _read_error(body) if is_json else (0, "")
    if status in (418, 429) or code == -1003:
        word = "this address is banned for a while" if status == 418 else "too many requests"
        retry_s = parse_retry_after(headers.get("retry-after"), 10.0)
        throttle = DataThrottle(
            f"{BROKER} says: {word}, waiting {retry_s:.0f} s", broker=BROKER, retry_after_s=retry_s
        )
        throttle.code = status if status == 418 else 429
        raise throttle
    if status >= 500 or status == 408:
        raise ConnectionLost(f"{BROKER}: {what}: the venue is failing (HTTP {status})")
    if code == -1121:
        raise SymbolNotFound(f"{BROKER}: {what}: {text or 'Invalid symbol.'}", broker=BROKER)
    if status == 401 or code in (-2014, -2015):
        raise AuthFailed(f"{BROKER}: {what}: {text or 'keys refused'}", broker=BROKER, code=code)
    if code:
        raise BrokerError(f"{BROKER}: {what}: {text} ({code})", broker=BROKER, code=code)
    if status == 403:
        raise BrokerError(
            f"{BROKER}: {what}: refused by the venue's firewall or for this region (HTTP 403)",
            broker=BROKER,
            code=403,
        )
    kind = "a web page" if b"<" in body[:200] else "something else"
    raise BadPayload(
        f"{BROKER}: {what}: the venue sent {kind} instead of JSON (HTTP {status})", body
    )


def _read_error(body: bytes) -> tuple[int, str]:
    try:
        error = decode_error(body)
    except BadPayload:
        return 0, ""
    return error.code, error.msg[:200]


@contextmanager
def try_again_later() -> Iterator[None]:
    """Turn rubbish from the venue, already asked several times, into a connection to be retried."""
    try:
        yield
    except BadPayload as err:
        raise ConnectionLost(str(err)) from err
