"""What a live account's venue says it holds, asked through an actor of the command's own."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from piker.accounting._books import Account, Books
from piker.accounting._ledger import ZERO
from piker.accounting._views import plain
from piker.errors import PikerError


def can_trade(account: Account) -> bool:
    """Whether an account is one of a broker that can be asked about it."""
    from piker.brokers import get_brokermod
    from piker.data.validate import get_eps

    if account.account == "paper":
        return False
    return "open_trade_dialog" in get_eps(get_brokermod(account.broker), "brokerd")


async def compare_with_venue(
    every: Sequence[Books], loglevel: str | None
) -> dict[Account, list[str]]:
    """Return where live accounts hold something else at their venue than in their ledger."""
    live = [books for books in every if can_trade(books.account)]
    found: dict[Account, list[str]] = {books.account: [] for books in live}
    for broker in sorted({books.account.broker for books in live}):
        own = [books for books in live if books.account.broker == broker]
        try:
            positions = await ask_venue(broker, loglevel)
        except PikerError as err:
            for books in own:
                found[books.account].append(f"{broker} was not asked: {err}")
            continue
        for books in own:
            found[books.account] += differences(books, positions)
    return found


def differences(books: Books, positions: Sequence[dict[str, Any]]) -> list[str]:
    """Return where a venue's positions of an account are not those of its ledger."""
    theirs = {
        str(each["symbol"]): Decimal(str(each["size"]))
        for each in positions
        if each["account"] == books.account.account
    }
    ours = {each.fqme: each.size for each in books.holdings.positions()}
    return [
        f"{fqme}: the venue holds {plain(theirs.get(fqme, ZERO))},"
        f" the ledger {plain(ours.get(fqme, ZERO))}"
        for fqme in sorted({*ours, *theirs})
        if ours.get(fqme, ZERO) != theirs.get(fqme, ZERO)
    ]


async def ask_venue(broker: str, loglevel: str | None) -> list[dict[str, Any]]:
    """Return the positions that a broker's trade dialog begins with; it places nothing."""
    from piker.brokers import get_brokermod
    from piker.clearing import open_brokerd_dialog
    from piker.service import open_adhoc_brokerd

    async with open_adhoc_brokerd(broker, loglevel) as portal:
        async with open_brokerd_dialog(
            get_brokermod(broker), "live", portal=portal, loglevel=loglevel, orders=False
        ) as dialog:
            return list(dialog.positions)
