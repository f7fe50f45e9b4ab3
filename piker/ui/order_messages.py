"""
What the page and the chart actor say to each other about orders: JSON, one object, `op` first.

Pure; `messages` joins these to its two unions. Prices, sizes and amounts are decimal text, '' is
not known or none; times are epoch seconds of the run's clock. `id` is the page's number of its
request and stands in the answer. An order's `oid` is made by the page, 32 hexadecimal digits, so
that the line exists at the click and a lost connection leaves no doubt which order was meant.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Mode = Literal["paper", "live"]
Side = Literal["buy", "sell"]
State = Literal["off", "connecting", "ready", "lost", "refused"]


# ---- page to actor


class Request(msgspec.Struct, tag_field="op"):
    """Base of every request: its number, and the chart it is about."""

    id: int
    chan: int


class Trade(Request, tag="trade"):
    """Turn the order side of a market on; the first one in a run starts `emsd`."""


class OrderAsked(Request, tag="order"):
    """
    Enter an order or set an alert; without `size` the allocator's of `steps` slots.

    `take_profit` and `stop_loss` are the prices of an entry's bracket, `parent` the entry that a
    leg protects. `confirmed`: the trader has confirmed what `[ui] confirm` asks for.
    """

    oid: str
    action: Literal["buy", "sell", "alert"]
    exec_mode: Literal["dark", "live"]
    price: str = ""
    size: str = ""
    steps: int = 1
    order_type: Literal["limit", "market", "stop", "take_profit"] = "limit"
    tif: Literal["gtc", "ioc", "fok", "gtd"] = "gtc"
    expire: float = 0.0
    post_only: bool = False
    reduce_only: bool = False
    trigger_price: str = ""
    trail: str = ""
    take_profit: str = ""
    stop_loss: str = ""
    parent: str = ""
    confirmed: bool = False


class AmendAsked(Request, tag="amend"):
    """Change what is not '' of the order that the page saw as `revision`."""

    oid: str
    revision: int
    price: str = ""
    size: str = ""
    take_profit: str = ""
    stop_loss: str = ""
    confirmed: bool = False


class CancelAsked(Request, tag="cancel"):
    """Cancel an order."""

    oid: str


class CancelAll(Request, tag="cancel_all"):
    """Cancel every order and alert of the market."""


class SizeAsked(Request, tag="size"):
    """What would an order of `steps` slots at this price be?"""

    side: Side
    price: str
    steps: int = 1


class AllocAsked(Request, tag="alloc"):
    """Trade another account, or change the limits that sizes come from."""

    account: str | None = None
    unit: Literal["currency", "units"] | None = None
    limit: str | None = None
    slots: int | None = None


class Flatten(Request, tag="flatten"):
    """Close an account's position: its exits are cancelled, then one market order reduces it."""

    account: str


class Kill(Request, tag="kill"):
    """Cancel everything and refuse new risk until `arm`."""


class Arm(Request, tag="arm"):
    """Let orders pass again."""


OrderRequest = (
    Trade | OrderAsked | AmendAsked | CancelAsked | CancelAll | SizeAsked | AllocAsked
    | Flatten | Kill | Arm
)  # fmt: skip


# ---- actor to page


class DeskState(msgspec.Struct, tag_field="op", tag="desk"):
    """
    The order side of a market as a whole; `held` are its orders that `emsd` holds.

    `killed` is the sentence of the red bar, '' while orders pass; `note` what the trader should
    know once, such as how long nobody has watched.
    """

    chan: int
    state: State
    text: str = ""
    mode: Mode = "paper"
    killed: str = ""
    held: int = 0
    note: str = ""


class Account(msgspec.Struct):
    """One account to choose from, and what it holds of the market."""

    name: str
    mode: Mode
    size: str = ""
    avg: str = ""


class AllocState(msgspec.Struct, tag_field="op", tag="allocst"):
    """The limits of the chosen account; `step` is a slot in units at the last price."""

    chan: int
    account: str
    mode: Mode
    accounts: list[Account]
    unit: Literal["currency", "units"]
    limit: str
    slots: int
    step: str
    step_fiat: str
    used: str
    base: str
    quote: str
    id: int = 0


class Sized(msgspec.Struct, tag_field="op", tag="sized"):
    """What an order would be; `text` says why there is no size."""

    id: int
    chan: int
    side: Side
    price: str
    steps: int
    size: str
    fiat: str
    share: str
    confirm: bool = False
    text: str = ""


class OrderState(msgspec.Struct, tag_field="op", tag="ordst"):
    """
    One order as the EMS said it: `price` and `size` are in force, `asked_…` not yet.

    `gone` is the last word. A refused amend or cancel leaves everything as it was and says in
    `refused` what, and in `reason` why.
    """

    chan: int
    oid: str
    action: Literal["buy", "sell", "alert"]
    exec_mode: str
    account: str
    mode: Mode
    state: str
    resp: str = ""
    gone: bool = False
    revision: int = 0
    price: str = ""
    size: str = ""
    asked_price: str = ""
    asked_size: str = ""
    filled: str = "0"
    avg: str = ""
    order_type: str = "limit"
    tif: str = "gtc"
    post_only: bool = False
    reduce_only: bool = False
    trigger_price: str = ""
    trail: str = ""
    take_profit: str = ""
    stop_loss: str = ""
    parent: str = ""
    fires: str = ""
    src: str = ""
    client_ref: str = ""
    gapped: bool = False
    refused: str = ""
    reason: str = ""
    t: float = 0.0
    entered: float = 0.0
    id: int = 0


class Orders(msgspec.Struct, tag_field="op", tag="orders"):
    """Every open order of the market in one mode; `more` rows follow."""

    chan: int
    mode: Mode
    rows: list[OrderState]
    more: bool = False


class Fill(msgspec.Struct, tag_field="op", tag="fill"):
    """One execution."""

    chan: int
    oid: str
    tid: str
    t: float
    price: str
    size: str
    action: str
    account: str
    mode: str
    fee: str = ""
    fee_asset: str = ""
    is_maker: bool | None = None
    late: bool = False


class Fills(msgspec.Struct, tag_field="op", tag="fills"):
    """Executions of the past, oldest first; `anew`: those of this account known so far are gone."""

    chan: int
    rows: list[Fill]
    more: bool = False
    anew: str = ""


class PositionState(msgspec.Struct, tag_field="op", tag="pos"):
    """What an account holds of the market (+ long, - short) and has made of it today (UTC)."""

    chan: int
    account: str
    mode: Mode
    size: str
    avg: str
    break_even: str = ""
    realised: str = ""
    fees: str = ""
    fees_other: dict[str, str] = {}
    slots: str = "0.0"
    quote: str = ""


class Count(msgspec.Struct, tag_field="op", tag="count"):
    """How many cancels went out."""

    id: int
    chan: int
    asked: int


OrderAnswer = (
    DeskState | AllocState | Sized | OrderState | Orders | Fill | Fills | PositionState | Count
)  # fmt: skip


def merged_order(waiting: OrderAnswer, answer: OrderAnswer) -> OrderAnswer | None:
    """
    Return the one message that says both, None when both must be sent.

    Only the newest state of an order counts, but an answer and a refusal are never left out.
    """
    match waiting, answer:
        case OrderState(), OrderState() if (
            (waiting.chan, waiting.oid) == (answer.chan, answer.oid)
            and not waiting.reason
            and not (waiting.id and answer.id)
        ):
            return msgspec.structs.replace(answer, id=answer.id or waiting.id)
        case PositionState(), PositionState() if (waiting.chan, waiting.account) == (
            answer.chan,
            answer.account,
        ):
            return answer
        case Sized(), Sized() if waiting.chan == answer.chan:
            return answer
        case DeskState(), DeskState() if (waiting.chan, waiting.mode) == (answer.chan, answer.mode):
            return answer
    return None
