"""
What travels between client, `emsd` and a broker: every order message, frozen and checked.

Decimals are strings on the wire and `Decimal` in memory; floats are accepted on input by their
shortest form. Sizes are positive, the side is in `action`: a negative size is made positive at
entry. The field `msg` on the wire names the type; maps without it, as older clients send them,
are recognised by their `action`, `name` and `resp`. A message that breaks a rule is refused with
the name of the field; nothing here guesses.

Reading order: the parts shared by all, client → emsd, emsd → client, emsd → broker, emsd → paper
engine, broker → emsd, the four `parse_` functions.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Literal, get_args

import msgspec
from msgspec.structs import force_setattr

from piker.clearing._ids import client_order_id as client_order_id
from piker.errors import BadPayload, OrderRejected
from piker.model.market import unpack_fqme

DIGITS_MAX = 28  # what `Decimal` arithmetic keeps exact by default
MAGNITUDE_MAX = 24  # powers of ten either way: beyond any price or size, below any memory trap
TEXT_MAX = 128  # characters of an id, account or tag
ROUTE_MAX = 8  # brokers named by one order
ZERO = Decimal(0)

Reqid = int | str | None
Action = Literal["buy", "sell", "alert"]
Mode = Literal["paper", "live"]
Resp = Literal[
    "pending", "open", "dark_open", "triggered", "closed", "fill", "canceled", "error"
]  # fmt: skip
OrderType = Literal["limit", "market", "stop", "take_profit"]
TimeInForce = Literal["gtc", "ioc", "fok", "gtd"]
Requested = Literal["", "entry", "amend", "cancel"]
Side = Literal[">=", "<="]  # of a trigger: it is true at or above, at or below its price
ExecMode = Literal["dark", "live", "paper"]
ACTIONS, EXEC_MODES = get_args(Action), get_args(ExecMode)
ORDER_TYPES, TIMES_IN_FORCE = get_args(OrderType), get_args(TimeInForce)
TERMINAL_RESPS = frozenset({"closed", "canceled", "error"})


def exact(field: str, value: object) -> Decimal:
    """
    Return `value` as a finite decimal written without an exponent.

    Raises:
      ValueError: not a number, not finite, or longer than an exact sum can hold; names `field`.
    """
    number = value if type(value) is Decimal else _read_number(field, value)
    text = str(number)
    # Nearly all are written out and short, and need no closer look.
    if len(text) <= MAGNITUDE_MAX and text.replace(".", "", 1).isdecimal():
        return number or ZERO
    if not number.is_finite():
        raise ValueError(f"{field}: was {str(value)[:40]}, expected a finite number")
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    if len(digits) > DIGITS_MAX or max(abs(number.adjusted()), abs(exponent)) > MAGNITUDE_MAX:
        raise ValueError(f"{field}: was {str(value)[:40]}, expected at most {DIGITS_MAX} digits")
    return Decimal(format(number, "f")) if number else ZERO


def _read_number(field: str, value: object) -> Decimal:
    """
    Return the decimal that `value` spells.

    Raises:
      ValueError: it spells none; names `field`.
    """
    if isinstance(value, bool) or not isinstance(value, Decimal | int | float | str):
        raise ValueError(f"{field}: was {value!r}, expected a decimal number")
    text = str(value)
    try:
        return Decimal(text if text.isascii() and "_" not in text else "")
    except InvalidOperation:
        raise ValueError(f"{field}: was {text[:40]!r}, expected a decimal number") from None


def _settle(message: msgspec.Struct, field: str, value: object) -> None:
    """Put the exact form of a decimal in place of `value`, which a new message has."""
    settled = exact(field, value)
    if settled is not value:
        force_setattr(message, field, settled)


def _text(field: str, value: str, *, required: bool = False) -> None:
    """
    Refuse text that is empty where it may not be, too long or not printable.

    Raises:
      ValueError: names `field`.
    """
    if required and not value:
        raise ValueError(f"{field}: was empty, expected a name")
    if len(value) > TEXT_MAX or not value.isprintable():
        raise ValueError(
            f"{field}: was {value[:20]!r}…, expected ≤ {TEXT_MAX} printable characters"
        )


def _one_of(field: str, value: object, known: tuple[str, ...]) -> None:
    """
    Refuse a word that is not `known`: msgspec looks at what it reads, not at what is made here.

    Raises:
      ValueError: names the field.
    """
    if value not in known:
        raise ValueError(f"{field}: was {value!r}, expected one of {', '.join(known)}")


# Without `gc`: no message can be part of a cycle, and a daemon keeps thousands of them.
class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="msg"):
    """Base of everything that travels here."""

    def to_dict(self) -> dict[str, Any]:
        """Return the wire form: plain maps, lists, numbers and strings."""
        wire: dict[str, Any] = msgspec.to_builtins(self)
        return wire


class OrderTerms(Message, frozen=True, kw_only=True):
    """How an order is to be executed, beside its price and size."""

    order_type: OrderType = "limit"
    time_in_force: TimeInForce = "gtc"
    post_only: bool = False
    reduce_only: bool = False
    trigger_price: Decimal | None = None
    trail: str = ""  # "12.5" in price, "0.5%" of the best price since entry
    expire_time_ns: int = 0  # of a gtd order
    client_ref: str = ""  # who owns the order; repeated on every status and fill
    cause_ns: int = 0  # market time of the event that the order answers; 0 none


# ---- client → emsd


class Order(OrderTerms, frozen=True, kw_only=True, tag="order"):
    """
    Enter or amend the order `oid`.

    `size` is the whole size, what is filled included. An amend repeats the order with new values
    and carries the `revision` it is based on; an entry has none. `exec_mode` "paper" means live
    execution in a paper session, as older clients write it. `take_profit` and `stop_loss` are the
    prices of an entry's two legs, which `emsd` holds; `parent` is the entry of an order that is
    such a leg, whose size `emsd` sets: what the entry has filled less what the other leg has.
    """

    action: Action
    exec_mode: ExecMode
    oid: str
    symbol: str
    account: str
    price: Decimal = Decimal(0)
    size: Decimal = Decimal(0)
    brokers: tuple[str, ...] = ()
    revision: int | None = None
    take_profit: Decimal | None = None
    stop_loss: Decimal | None = None
    parent: str = ""

    def __post_init__(self) -> None:
        _settle(self, "price", self.price)
        _settle(self, "size", self.size)
        if self.size < ZERO:
            force_setattr(self, "size", -self.size)
        if self.trigger_price is not None:
            _settle(self, "trigger_price", self.trigger_price)
        if self.take_profit is not None:
            _settle(self, "take_profit", self.take_profit)
        if self.stop_loss is not None:
            _settle(self, "stop_loss", self.stop_loss)
        if type(self.brokers) is not tuple:
            force_setattr(self, "brokers", tuple(self.brokers))
        _check_names(self)
        _check_amounts(self)
        _check_terms(self)
        if self.parent or self.has_legs:
            _check_bracket(self)

    @property
    def is_alert(self) -> bool:
        """Whether the order only tells, and never trades."""
        return self.action == "alert"

    @property
    def has_legs(self) -> bool:
        """Whether the order is an entry that is to have a take-profit or a stop."""
        return self.take_profit is not None or self.stop_loss is not None

    @property
    def is_dark(self) -> bool:
        """Whether `emsd` holds the order until its trigger is true."""
        return self.is_alert or self.exec_mode == "dark"


def _check_names(order: Order) -> None:
    """
    Refuse an order whose words are wrong.

    Raises:
      ValueError: names the field.
    """
    _text("oid", order.oid, required=True)
    _text("account", order.account, required=not order.is_alert)
    _text("symbol", order.symbol, required=True)
    if order.client_ref != "":
        _text("client_ref", order.client_ref)
    if order.parent != "":
        _text("parent", order.parent)
    _check_symbol(order.symbol)
    if len(order.brokers) > ROUTE_MAX:
        raise ValueError(f"brokers: were {len(order.brokers)}, expected at most {ROUTE_MAX}")
    _one_of("action", order.action, ACTIONS)
    _one_of("exec_mode", order.exec_mode, EXEC_MODES)
    _one_of("order_type", order.order_type, ORDER_TYPES)
    _one_of("time_in_force", order.time_in_force, TIMES_IN_FORCE)


@lru_cache(maxsize=256)  # the same few markets, order after order
def _check_symbol(fqme: str) -> None:
    """
    Refuse a market's name that is not an fqme.

    Raises:
      ValueError: names the field.
    """
    try:
        unpack_fqme(fqme)
    except ValueError as err:
        raise ValueError(f"symbol: {err}") from None


def _check_amounts(order: Order) -> None:
    """
    Refuse an order whose price, size or trigger cannot be.

    Raises:
      ValueError: names the field.
    """
    if order.price < ZERO:
        raise ValueError(f"price: was {order.price:f}, expected above 0")
    has_trigger = order.trigger_price is not None or order.trail
    needs_price = not order.price and order.order_type == "limit"
    if needs_price and not (order.is_dark and has_trigger):
        raise ValueError("price: was 0, expected above 0")
    if order.order_type == "market" and order.price and not order.is_dark:
        raise ValueError(f"price: was {order.price:f}, expected none for a market order")
    if not order.size and not (order.is_alert or order.parent):
        raise ValueError("size: was 0, expected above 0")
    if order.trigger_price is not None and order.trigger_price <= 0:
        raise ValueError(f"trigger_price: was {order.trigger_price:f}, expected above 0")
    if order.order_type in {"stop", "take_profit"} and not has_trigger:
        raise ValueError(f"trigger_price: was missing, expected for order_type {order.order_type}")
    if order.trail:
        parse_trail(order.trail)
        if order.is_alert:
            raise ValueError(f"trail: was {order.trail}, expected none for an alert")


def _check_terms(order: Order) -> None:
    """
    Refuse an order whose terms contradict each other.

    Raises:
      ValueError: names the field.
    """
    if order.post_only and (order.order_type != "limit" or order.time_in_force in {"ioc", "fok"}):
        raise ValueError("post_only: was true, expected only for a limit order that may rest")
    if (order.time_in_force == "gtd") != (order.expire_time_ns > 0):
        raise ValueError(
            f"expire_time_ns: was {order.expire_time_ns}, expected above 0 for gtd and only then"
        )
    if order.cause_ns < 0:
        raise ValueError(f"cause_ns: was {order.cause_ns}, expected 0 or a time")
    if order.revision is not None and order.revision < 1:
        raise ValueError(f"revision: was {order.revision}, expected 1 or above")


def _check_bracket(order: Order) -> None:
    """
    Refuse an order whose legs cannot be.

    Raises:
      ValueError: names the field.
    """
    legs = [name for name in ("take_profit", "stop_loss") if getattr(order, name) is not None]
    for field in legs:
        if (price := getattr(order, field)) <= 0:
            raise ValueError(f"{field}: was {price:f}, expected above 0")
        if order.is_alert or order.reduce_only or order.parent:
            raise ValueError(f"{field}: was {price:f}, expected only on an entry")
    if order.parent and (order.exec_mode != "dark" or order.is_alert):
        raise ValueError("parent: was set, expected only on a dark order: emsd holds the legs")
    if order.parent and order.order_type not in {"stop", "take_profit"}:
        raise ValueError(f"order_type: was {order.order_type}, expected stop or take_profit: a leg")
    is_buy, anchor = order.action == "buy", order.price if not order.is_dark else Decimal(0)
    for field, is_above in (("take_profit", is_buy), ("stop_loss", not is_buy)):
        price = getattr(order, field)
        if price is not None and anchor and (price <= anchor if is_above else price >= anchor):
            side = "above" if is_above else "below"
            raise ValueError(f"{field}: was {price:f}, expected {side} the price {anchor:f}")
    gain, loss = order.take_profit, order.stop_loss
    if gain is not None and loss is not None and (gain <= loss if is_buy else gain >= loss):
        side = "above" if is_buy else "below"
        raise ValueError(f"take_profit: was {gain:f}, expected {side} the stop_loss {loss:f}")


def parse_trail(text: str) -> tuple[Decimal, bool]:
    """
    Return a trail's distance and whether it is in percent of the best price.

    Raises:
      ValueError: not a positive number, or a percentage of 100 and above.
    """
    is_percent = text.endswith("%")
    distance = exact("trail", text.removesuffix("%"))
    if distance <= 0 or (is_percent and distance >= 100):
        raise ValueError(f"trail: was {text}, expected above 0, and below 100 %")
    return distance, is_percent


class Cancel(Message, frozen=True, kw_only=True, tag="cancel"):
    """Cancel the order `oid`."""

    oid: str
    symbol: str
    action: Literal["cancel"] = "cancel"

    def __post_init__(self) -> None:
        _text("oid", self.oid, required=True)
        _text("symbol", self.symbol, required=True)


# ---- emsd → client


class Status(Message, frozen=True, kw_only=True, tag="status"):
    """
    What an order is now.

    `revision` is the number to base the next amend on. `state` is the state of the life cycle,
    finer than `resp`. A refused amend or cancel repeats the unchanged `resp` and `revision`, says
    in `refused` what was refused and in `reason` why.
    """

    time_ns: int
    oid: str
    resp: Resp
    name: Literal["status"] = "status"
    reqid: Reqid = None
    req: Order | None = None
    src: str | None = None
    cancel_called: bool = False
    brokerd_msg: dict[str, Any] = {}
    account: str = ""
    mode: Mode = "paper"
    revision: int = 0
    gapped: bool = False
    reason: str = ""
    refused: Requested = ""
    client_ref: str = ""
    state: str = ""

    @property
    def is_terminal(self) -> bool:
        """Whether this is the one status that ends its dialog."""
        return self.resp in TERMINAL_RESPS and not self.refused


class Error(Status, frozen=True, kw_only=True, tag="status"):
    """A status that says the entry was refused; read back, it is a `Status`."""

    resp: Literal["error"] = "error"


class BrokerdPosition(Message, frozen=True, kw_only=True, tag="position"):
    """What an account holds of a market: + long, - short."""

    broker: str
    account: str
    symbol: str
    size: Decimal
    avg_price: Decimal
    currency: str = ""
    name: Literal["position"] = "position"

    def __post_init__(self) -> None:
        _settle(self, "size", self.size)
        _settle(self, "avg_price", self.avg_price)


# ---- emsd → broker


class BrokerdOrder(OrderTerms, frozen=True, kw_only=True, tag="brokerd_order"):
    """
    Place an order, or with a `reqid` modify that one; `symbol` has no broker in it.

    `number` is the request's number and `client_id` its `client_order_id`. The broker sends it
    only before `deadline_ns` of the venue's time, and so that the venue refuses it after.
    """

    oid: str
    account: str
    time_ns: int
    symbol: str
    price: Decimal
    size: Decimal
    action: str = ""
    reqid: Reqid = None
    number: int = 1
    client_id: str = ""
    deadline_ns: int = 0

    def __post_init__(self) -> None:
        _settle(self, "price", self.price)
        _settle(self, "size", self.size)


class BrokerdCancel(Message, frozen=True, kw_only=True, tag="brokerd_cancel"):
    """Cancel an order by its `reqid`, or by `client_id` while it has none."""

    oid: str
    time_ns: int
    account: str
    reqid: Reqid = None
    action: Literal["cancel"] = "cancel"
    symbol: str = ""
    client_id: str = ""


# ---- emsd → paper engine: what it forgot with its last life


class PaperOrder(Message, frozen=True, kw_only=True, tag="paper_order"):
    """
    An order that rests in the paper market, as the journal knows it.

    `order` is the request in force, its `reqid` the client id of the entry; `filled` is the size
    and `fills` the number of executions so far, `entered_ns` the time of the entry.
    """

    order: BrokerdOrder
    entered_ns: int
    filled: Decimal = Decimal(0)
    fills: int = 0
    is_fired: bool = False  # a stop or take-profit whose trigger was true

    def __post_init__(self) -> None:
        _settle(self, "filled", self.filled)


class PaperAccount(Message, frozen=True, kw_only=True, tag="paper_account"):
    """
    What a paper account has, in place of all that was said before.

    `positions` is by fqme, + long and - short; an asset without a balance has the start balance.
    """

    account: str = "paper"
    balances: dict[str, Decimal] = {}
    positions: dict[str, Decimal] = {}

    def __post_init__(self) -> None:
        for field in ("balances", "positions"):
            amounts = {name: exact(field, value) for name, value in getattr(self, field).items()}
            force_setattr(self, field, amounts)


class PaperReady(Message, frozen=True, kw_only=True, tag="paper_ready"):
    """All was told: the paper engine may match from now on."""

    time_ns: int


# ---- broker → emsd


class BrokerdOrderAck(Message, frozen=True, kw_only=True, tag="ack"):
    """The broker has taken a request and calls the order `reqid`."""

    reqid: Reqid
    oid: str
    account: str = ""
    name: Literal["ack"] = "ack"
    number: int = 0  # the request that it answers; 0: the broker cannot say


class BrokerdStatus(Message, frozen=True, kw_only=True, tag="brokerd_status"):
    """An order's state at the venue; a `status` that is not one of ours is logged, no more."""

    time_ns: int
    reqid: Reqid
    status: str  # open, canceled, pending or closed
    name: Literal["status"] = "status"
    oid: str = ""
    account: str = ""
    filled: Decimal = Decimal(0)
    reason: str = ""
    remaining: Decimal = Decimal(0)
    broker_details: dict[str, Any] = {}
    number: int = 0  # the request that it is about; 0: the broker cannot say

    def __post_init__(self) -> None:
        _settle(self, "filled", self.filled)
        _settle(self, "remaining", self.remaining)


class BrokerdFill(Message, frozen=True, kw_only=True, tag="fill"):
    """
    One execution of our order; `size` is this one's alone.

    It is one only by `(broker, account, market, tid)`. `late`: it came after the terminal status.
    """

    time_ns: int
    broker_time: float  # epoch seconds
    reqid: Reqid
    size: Decimal
    price: Decimal
    name: Literal["fill"] = "fill"
    action: str | None = None
    broker_details: dict[str, Any] = {}
    tid: str = ""
    fee: Decimal = Decimal(0)
    fee_asset: str = ""
    is_maker: bool | None = None
    late: bool = False
    client_ref: str = ""
    oid: str = ""
    account: str = ""
    symbol: str = ""

    def __post_init__(self) -> None:
        _settle(self, "size", self.size)
        _settle(self, "price", self.price)
        _settle(self, "fee", self.fee)
        if self.size < ZERO:
            force_setattr(self, "size", -self.size)
        if not self.size:
            raise ValueError("size: was 0, expected above 0")
        if not self.tid:
            raise ValueError("tid: was empty, expected the venue's trade id")


class BrokerdError(Message, frozen=True, kw_only=True, tag="error"):
    """The broker refused a request; `request` and `number` say which, when it can."""

    reason: str
    symbol: str | None = None
    oid: str | None = None
    reqid: Reqid = None
    name: Literal["error"] = "error"
    broker_details: dict[str, Any] = {}
    request: Requested = ""
    number: int = 0


ClientMsg = Order | Cancel
EmsMsg = Status | BrokerdPosition
IntentMsg = BrokerdOrder | BrokerdCancel | PaperOrder | PaperAccount | PaperReady
BrokerMsg = BrokerdOrderAck | BrokerdStatus | BrokerdFill | BrokerdError | BrokerdPosition | Status


class _Kinds:
    """
    The types that one side sends.

    msgspec works out a union anew at each conversion, but a single type only once: so what `msg`
    names is converted to that type alone.
    """

    def __init__(self, union: Any) -> None:
        self._union = union
        self._by_tag = {kind.__struct_config__.tag: kind for kind in get_args(union)}

    def of(self, raw: object) -> Any:
        """Return what `raw` is to be converted to: the type that it names, or any of them."""
        tag = raw.get("msg") if isinstance(raw, dict) else None
        return self._by_tag.get(tag, self._union) if isinstance(tag, str) else self._union


_CLIENT, _EMS = _Kinds(ClientMsg), _Kinds(EmsMsg)
_INTENT, _BROKER = _Kinds(IntentMsg), _Kinds(BrokerMsg)


def parse_request(raw: object) -> ClientMsg:
    """
    Return the order or cancel of a client.

    Raises:
      OrderRejected: with the oid, when it has one, and a reason that names the field.
    """
    tagged = _tagged(raw, lambda fields: "cancel" if fields.get("action") == "cancel" else "order")
    try:
        request: ClientMsg = _convert(tagged, _CLIENT)
        return request
    except ValueError as err:
        oid = raw.get("oid") if isinstance(raw, dict) else None
        raise OrderRejected(f"order: {err}", oid=oid if isinstance(oid, str) else "") from None


def parse_reply(raw: object) -> EmsMsg:
    """
    Return what `emsd` told a client.

    Raises:
      BadPayload: it is neither a status nor a position; names the field.
    """
    tagged = _tagged(raw, lambda fields: fields.get("name", ""))
    message: EmsMsg = _parse(tagged, _EMS, "emsd")
    return message


def parse_intent(raw: object) -> IntentMsg:
    """
    Return what `emsd` asks a broker to do, or tells the paper engine.

    Raises:
      BadPayload: it has no shape that we know; names the field.
    """
    tagged = _tagged(
        raw,
        lambda fields: "brokerd_cancel" if fields.get("action") == "cancel" else "brokerd_order",
    )
    message: IntentMsg = _parse(tagged, _INTENT, "emsd")
    return message


def parse_broker(raw: object) -> BrokerMsg:
    """
    Return what a broker told `emsd`.

    Raises:
      BadPayload: it has no shape that we know; names the field.
    """
    tagged = _tagged(raw, _broker_tag)
    message: BrokerMsg = _parse(tagged, _BROKER, "broker")
    return message


def _broker_tag(fields: dict[Any, Any]) -> str:
    """Return the type of a broker's map; a status of ours has a `resp`, a broker's has not."""
    name = fields.get("name", "")
    return "brokerd_status" if name == "status" and "resp" not in fields else name


def _tagged(raw: object, tag_of: Callable[[dict[Any, Any]], Any]) -> object:
    """Return `raw` with its type named by what else it holds."""
    if isinstance(raw, dict) and "msg" not in raw:
        return {**raw, "msg": tag_of(raw)}
    return raw


def _parse(raw: object, kinds: _Kinds, sender: str) -> Any:
    """Return `raw` as one of `kinds`, or raise `BadPayload` in the name of its sender."""
    try:
        return _convert(raw, kinds)
    except ValueError as err:
        raise BadPayload(f"{sender}: {err}", reprlib.repr(raw).encode()) from None


def _convert(raw: object, kinds: _Kinds) -> Any:
    """
    Return `raw` as one of `kinds`.

    Raises:
      ValueError: it is not; msgspec's own `ValidationError` is one.
    """
    try:
        return msgspec.convert(raw, kinds.of(raw))
    except (TypeError, OverflowError, RecursionError) as err:
        raise ValueError(f"was not readable ({err})") from None
