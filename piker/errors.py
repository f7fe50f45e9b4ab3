"""
Errors by what the caller can do about them.

A bad *request* becomes a reply and its dialog lives on; a broken *connection* is
`ConnectionLost` and is retried within a bound; a broken rule of ours is an `AssertionError`
and ends the actor. A retry loop asks one question only: `is_transient`.

Messages read `<where>: <what> was <value>, <expected>; <what to do>`.
"""

from __future__ import annotations

from collections.abc import Iterator


class PikerError(Exception):
    """Base of every error that piker raises on purpose."""

    is_transient = False


class ConfigError(PikerError):
    """The operator must fix something; raised before any socket opens; names file and key."""


class EndpointMissing(PikerError):
    """A backend lacks the endpoints of a daemon kind; lists them and what to use instead."""


class ServiceUnavailable(PikerError):
    """A daemon of the tree does not start, or no `pikerd` runs; says which and why."""


class ConnectionLost(PikerError):
    """A peer is gone; reconnect with bounded backoff."""

    is_transient = True

    def __init__(self, text: str, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class SequenceGap(ConnectionLost):
    """A book or stream lost messages: drop its state and subscribe again."""


class BrokerError(PikerError):
    """The venue answered no; the same request again is useless."""

    def __init__(self, text: str, *, broker: str = "", code: int | str = "") -> None:
        super().__init__(text)
        self.broker = broker
        self.code = code
        self.text = text


class SymbolNotFound(BrokerError):
    """The venue does not know this market; `matches` holds the closest names it does know."""

    def __init__(self, text: str, *, broker: str = "", matches: tuple[str, ...] = ()) -> None:
        super().__init__(text, broker=broker)
        self.matches = matches


class NoData(BrokerError):
    """Nothing in this range; the caller may step back in time."""


class DataUnavailable(BrokerError):
    """No more history, or not at this period; the caller stops."""


class AuthFailed(BrokerError):
    """The venue refused the credentials."""


class DataThrottle(BrokerError):
    """The venue asks for fewer requests; the one transient `BrokerError`."""

    is_transient = True

    def __init__(self, text: str, *, broker: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(text, broker=broker, code=429)
        self.retry_after_s = retry_after_s


class OrderRejected(PikerError):
    """A request for an order was refused, by us or by the venue; `reason` is the whole why."""

    def __init__(self, reason: str, *, oid: str = "") -> None:
        super().__init__(reason)
        self.oid = oid
        self.reason = reason


class BadPayload(PikerError):
    """A peer sent something that is not what its protocol says; `head` is its first 200 bytes."""

    def __init__(self, text: str, head: bytes = b"") -> None:
        super().__init__(text)
        self.head = head[:200]


class LedgerError(PikerError):
    """
    Records of a ledger contradict each other, or one of them cannot be a record at all.

    A batch check returns a list of these, so that one bad line never hides the others; `tid` names
    the record.
    """

    def __init__(self, text: str, *, tid: str = "") -> None:
        super().__init__(text)
        self.tid = tid


def leaves(err: BaseException) -> Iterator[BaseException]:
    """Yield the single errors of a group, depth first; an error by itself is its own leaf."""
    if isinstance(err, BaseExceptionGroup):
        for inner in err.exceptions:
            yield from leaves(inner)
    else:
        yield err


def innermost(err: BaseException) -> BaseException:
    """Return the first single error of a group, or the error itself."""
    return next(leaves(err))
