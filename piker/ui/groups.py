"""Single errors out of the groups that nurseries raise."""

from __future__ import annotations

from collections.abc import Iterator


def leaves(err: BaseException) -> Iterator[BaseException]:
    """Yield the single errors of a group, depth first; an error by itself is its own leaf."""
    if isinstance(err, BaseExceptionGroup):
        for inner in err.exceptions:
            yield from leaves(inner)
    else:
        yield err
