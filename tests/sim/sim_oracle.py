"""
What has to be true after a run, worked out naively: from plain maps, with fractions, step by step.

Nothing here uses the code that it checks. It reads what went over the wire to and from the paper
engine, the journal's records as maps, the ledger as TOML and what each client heard, and compares
them to the last digit.
"""

from __future__ import annotations

import tomllib
from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
from sim.sim_traders import Trader
from sim.sim_world import BASE_NS, RATE, SimWorld

from piker.clearing._messages import TERMINAL_RESPS, BrokerdPosition, Status
from piker.model.ticks import QUOTE, TRADE
from piker.storage.disk import Disk
from piker.storage.journal import Record, open_journal
from piker.storage.memory_disk import MemoryDisk

Row = dict[str, Any]
START = Fraction(100_000)


async def records_of(disk: Disk) -> list[Record]:
    """Return every record of a journal that nobody writes."""
    records: list[Record] = []
    async with open_journal(
        disk, "binance.paper", fold=records.append, now_ns=lambda: BASE_NS
    ) as journal:
        assert not journal.report.damages
    return records


async def rows_of(disk: MemoryDisk) -> list[Row]:
    """Return every record of a journal as the map that was written."""
    return as_rows(await records_of(disk.after_kill()))


def as_rows(records: list[Record]) -> list[Row]:
    """Return records as the maps that were written."""
    return [msgspec.msgpack.decode(record.payload) for record in records]


def bytes_of(disk: MemoryDisk) -> list[tuple[str, bytes]]:
    """Return all that stands on a disk."""
    return [(name, disk.read(name)) for name in disk.names()]


class Naive:
    """An account as its fills make it, in fractions."""

    def __init__(self) -> None:
        self.cash = START
        self.sizes: dict[str, Fraction] = defaultdict(Fraction)
        self.averages: dict[str, Fraction] = defaultdict(Fraction)
        self.base: dict[str, Fraction] = defaultdict(Fraction)
        self.tids: set[str] = set()

    def fill(self, fill: Row) -> None:
        """Take one fill; a second one of the same name must not be."""
        assert fill["tid"] not in self.tids, f"fill {fill['tid']} was told twice"
        self.tids.add(fill["tid"])
        fqme = f"{fill['symbol']}.binance"
        size, price = Fraction(fill["size"]), Fraction(fill["price"])
        signed = size if fill["action"] == "buy" else -size
        before = self.sizes[fqme]
        after = before + signed
        if before == 0 or (before > 0) == (signed > 0):
            held = self.averages[fqme] * abs(before) + price * size
            self.averages[fqme] = held / abs(after)
        elif after == 0:
            self.averages[fqme] = Fraction(0)
        elif (after > 0) != (before > 0):
            self.averages[fqme] = price
        self.sizes[fqme] = after
        self.base[fqme.split("usdt", 1)[0]] += signed
        self.cash -= signed * price + Fraction(fill["fee"])


def fills_in(journal: list[Row]) -> list[Row]:
    """Return the fills that a journal was told of, in order."""
    return [
        row["message"]
        for row in journal
        if row["kind"] == "told" and row["message"]["msg"] == "fill"
    ]


def check_account(files: Disk, journal: list[Row], traders: list[Trader], book: Any) -> Naive:
    """Compare fills, positions and balances of journal, ledger, clients and memory."""
    naive = Naive()
    for fill in fills_in(journal):
        naive.fill(fill)
    check_ledger(files, fills_in(journal))
    for fqme, size in naive.sizes.items():
        position = book.positions[fqme]
        assert Fraction(position.size) == size
        assert abs(Fraction(position.average_entry_price) - naive.averages[fqme]) < Fraction(
            1, 10**12
        )
        for trader in traders:
            assert trader.client is not None
            told = [m for m in trader.heard if isinstance(m, BrokerdPosition) and m.symbol == fqme]
            assert Fraction(told[-1].size) == size
            assert abs(Fraction(told[-1].avg_price) - naive.averages[fqme]) < Fraction(1, 10**11)
            held = trader.client.positions.get(("binance", "paper"), {}).get(fqme)
            assert Fraction(held["size"]) == size if held else size == 0
    balances = book.balances(Decimal(100_000))
    if naive.tids:
        assert Fraction(balances["usdt"]) == naive.cash
        for asset, amount in naive.base.items():
            assert Fraction(balances.get(asset, Decimal(0))) == amount
    return naive


def check_ledger(files: Disk, fills: list[Row]) -> None:
    """Compare the ledger's tables with the fills, digit by digit."""
    name = "trades_binance_paper.toml"
    text = files.read(name).decode() if name in files.names() else ""
    tables = tomllib.loads(text, parse_float=str)
    assert len(tables) == len(fills)
    found = {str(table["tid"]): table for table in tables.values()}
    for fill in fills:
        table, sign = found[fill["tid"]], 1 if fill["action"] == "buy" else -1
        assert Decimal(table["size"]) == sign * Decimal(fill["size"])
        assert Decimal(table["price"]) == Decimal(fill["price"])
        assert Decimal(table["cost"]) == Decimal(fill["fee"])
        assert table["fqme"] == f"{fill['symbol']}.binance"


# ---- orders


def check_clients(traders: list[Trader], journal: list[Row]) -> None:
    """Hold what each client heard: every fill of what it sees, one end of each order."""
    fills: dict[str, list[str]] = defaultdict(list)
    for fill in fills_in(journal):
        fills[fill["oid"]].append(fill["tid"])
    for trader in traders:
        assert trader.client is not None
        assert trader.client.trades.missed == 0
        for oid, status in trader.client.statuses.items():
            assert (oid in trader.client.dialogs) is not status.is_terminal
        words: dict[str, list[Status]] = defaultdict(list)
        for word in trader.heard:
            if isinstance(word, Status):
                words[word.oid].append(word)
        for oid, said in words.items():
            ends = [word for word in said if word.is_terminal]
            # One that attached after the end hears only that a request about it was refused.
            is_ours = any(
                word.req is not None
                and word.state != "error"
                and not (word.refused and word.resp in TERMINAL_RESPS)
                for word in said
            )
            assert len(ends) <= 1, f"{oid} has ended {[word.resp for word in ends]}"
            told = [word.brokerd_msg["tid"] for word in said if word.resp == "fill"]
            assert told == fills[oid][-len(told) :] if told else not (is_ours and fills[oid])
            check_story(said)
        check_answers(trader)


def check_story(said: list[Status]) -> None:
    """Hold one order's words, as one client heard them."""
    ended, revision = False, 0
    for word in said:
        if ended:
            assert word.refused or word.resp == "fill", "only late fills and refusals after the end"
        if word.state != "error" and not word.refused:
            assert word.revision >= revision or word.resp == "fill"
            revision = max(revision, 0 if word.refused else min(word.revision, revision or 1))
        ended = ended or word.is_terminal


def check_answers(trader: Trader) -> None:
    """Each request was answered: the order moved or ended, or the request was refused by name."""
    heard: dict[str, list[tuple[int, Status]]] = defaultdict(list)
    for time_ns, word in zip(trader.heard_ns, trader.heard, strict=True):
        if isinstance(word, Status):
            heard[word.oid].append((time_ns, word))
    for at_ns, what, oid in trader.asked:
        words = heard.get(oid, [])
        if any(word.is_terminal for time_ns, word in words if time_ns < at_ns):
            continue  # the client knew that it was over
        after = [word for time_ns, word in words if time_ns >= at_ns]
        assert after, f"{what} of {oid} was never answered"
        if what == "cancel":
            assert any(w.cancel_called or w.is_terminal or w.refused == "cancel" for w in after)


def check_venue(world: SimWorld, book: Any) -> None:
    """Compare each order with what the paper engine said and was asked (a run without kills)."""
    asked: dict[tuple[str, int], Row] = {}
    for _, row in world.asked:
        if row["msg"] == "brokerd_order":
            key = row["oid"], row["number"]
            assert key not in asked, f"request {key} was sent twice"
            asked[key] = row
    state: dict[str, str] = {}
    in_force: dict[str, int] = {}
    filled: dict[str, Fraction] = defaultdict(Fraction)
    for _, row in world.told:
        oid = row["oid"]
        if row["msg"] == "brokerd_status":
            assert state.get(oid) not in ("closed", "canceled", "error")
            state[oid] = row["status"]
            if row["status"] == "open":
                in_force[oid] = row["number"]
            else:
                assert Fraction(row["filled"]) == filled[oid]
        elif row["msg"] == "fill":
            filled[oid] += Fraction(row["size"])
        elif row["msg"] == "error" and row["request"] == "entry":
            state[oid] = "error"
    for oid, last in state.items():
        dialog = book.dialogs[oid]
        assert Fraction(dialog.filled) == filled[oid]
        want = {"open": ("open", "partially_filled")}.get(last, (last,))
        assert dialog.state in want
        if last == "open":
            row = asked[oid, in_force[oid]]
            assert dialog.order.size == Decimal(row["size"])
            assert dialog.is_fired or dialog.order.price == Decimal(row["price"])
    check_none_leaves_after_its_end(world)


# ---- brackets and limits, from what went over the wire


def check_brackets(journal: list[Row], book: Any) -> None:
    """Legs never take back more than their entry has filled, and cover what is left of it."""
    parents = _parents(book)
    filled: dict[str, Fraction] = defaultdict(Fraction)
    back: dict[str, Fraction] = defaultdict(Fraction)
    for fill in fills_in(journal):
        oid, size = fill["oid"], Fraction(fill["size"])
        filled[oid] += size
        if parent := parents.get(oid):
            back[parent] += size
            assert back[parent] <= filled[parent]
    for dialog in book.dialogs:
        if dialog.state == "dark_open" and (parent := parents.get(dialog.oid)):
            assert Fraction(dialog.order.size) == filled[parent] - back[parent]


def check_legs_apart(world: SimWorld, book: Any) -> None:
    """
    One leg of an entry is at the venue at a time (a run without kills).

    An amend may cross the end of its leg; the venue refuses it, so the leg stays ended.
    """
    parents = _parents(book)
    out: dict[str, set[str]] = defaultdict(set)
    ended: set[str] = set()
    both = [(at, 0, row) for at, row in world.told] + [(at, 1, row) for at, row in world.asked]
    for _, is_asked, row in sorted(both, key=lambda one: one[:2]):
        oid = row.get("oid", "")
        if not (parent := parents.get(oid)):
            continue
        if is_asked and row["msg"] == "brokerd_order":
            assert row["reduce_only"]
            if oid not in ended:
                out[parent].add(oid)
            assert len(out[parent]) <= 1, "two legs of one entry at the venue"
        if not is_asked:
            assert row["msg"] != "fill" or oid not in ended, "a leg was filled after its end"
            if _is_end(row):
                out[parent].discard(oid)
                ended.add(oid)


def check_none_leaves_after_its_end(world: SimWorld) -> None:
    """No request for an order leaves once its end was heard; a cancel may, as it never waits."""
    ended: dict[str, int] = {}
    for at, row in world.told:
        if _is_end(row):
            ended.setdefault(row["oid"], at)
    for at, row in world.left:
        if row["msg"] == "brokerd_order":
            assert at <= ended.get(row["oid"], at), f"{row['oid']} left after its end"


def _is_end(row: Row) -> bool:
    if row["msg"] == "error":
        return bool(row["request"] == "entry")
    return row["msg"] == "brokerd_status" and row["status"] in ("closed", "canceled")


def _parents(book: Any) -> dict[str, str]:
    return {dialog.oid: dialog.order.parent for dialog in book.dialogs if dialog.order.parent}


def check_engine(world: SimWorld, book: Any) -> None:
    """What rests at the paper engine is what `emsd` believes to rest there."""
    rests = {
        work.order.oid: work
        for desk in world.engine._desks.values()
        if desk.market is not None
        for work in desk.market._works.values()
    }
    believed = {
        dialog.oid: dialog
        for dialog in book.active()
        if dialog.state != "dark_open" and not dialog.is_held_back
    }
    assert rests.keys() == believed.keys()
    for oid, work in rests.items():
        dialog = believed[oid]
        assert dialog.state in ("open", "partially_filled")
        assert (work.order.size, work.filled) == (dialog.order.size, dialog.filled)
        assert work.order.number == dialog.revision


def check_limits(world: SimWorld, journal: list[Row]) -> None:
    """Nothing that left breaks a limit; as many orders a second as allowed, no more."""
    times = [row["time_ns"] for row in journal if row["kind"] == "asked" and _is_trade(row)]
    for early, late in zip(times, times[RATE:], strict=False):
        assert late - early >= 1_000_000_000
    held = {row["request"]["oid"] for row in journal if row["kind"] == "asked"
            and row["request"].get("exec_mode") == "dark"}  # fmt: skip
    for _, row in world.asked:
        if row["msg"] == "brokerd_order" and not row["reduce_only"] and row["oid"] not in held:
            price = Decimal(row["price"]) or Decimal(row["trigger_price"] or 0)
            assert price % Decimal("0.1") == 0
            assert Decimal(row["size"]) % Decimal("0.001") == 0


def _is_trade(row: Row) -> bool:
    request = row["request"]
    return request["msg"] == "order" and request["action"] != "alert"


# ---- triggers, tick by tick


def check_triggers(world: SimWorld, journal: list[Row], end_ns: int) -> int:
    """Hold each held order of a client against every tick while it was held; return how many."""
    held: dict[str, Row] = {}
    count = 0
    for row in [*journal, {"kind": "end", "time_ns": end_ns}]:
        oid = row.get("oid") or row.get("request", {}).get("oid")
        if row["kind"] == "end":
            for one in held.values():
                assert not _crossings(world, one, end_ns), "it was crossed and did not fire"
            break
        if row["kind"] == "asked":
            request = row["request"]
            if oid in held:
                count += _until(world, held, oid, row["time_ns"])
                if request["msg"] == "cancel":
                    del held[oid]
                elif request["revision"] == held[oid]["revision"]:  # a stale one changes nothing
                    held[oid] = _held(row, held[oid])
            elif request["msg"] == "order" and _is_held(request) and request["revision"] is None:
                held[oid] = _held(row, None)
        elif row["kind"] == "happened" and oid in held:
            # It fired, or was refused by the gate when it did.
            assert row["event"]["event"] in ("triggered", "refused")
            one = held.pop(oid)
            crossed = _crossings(world, one, row["time_ns"] + 1)
            assert crossed, f"{oid} fired without a crossing"
            assert crossed[0] == row["time_ns"] or row["event"].get("gapped")
            count += 1
    return count


def _is_held(request: Row) -> bool:
    is_dark = request["action"] == "alert" or request["exec_mode"] == "dark"
    return is_dark and not request.get("parent")


def _until(world: SimWorld, held: dict[str, Row], oid: str, time_ns: int) -> int:
    """Hold that nothing crossed up to `time_ns`; from there on is a new look."""
    assert not _crossings(world, held[oid], time_ns), f"{oid} was crossed and did not fire"
    held[oid]["time_ns"] = time_ns
    return 1


def _held(row: Row, before: Row | None) -> Row:
    """Return what a held order waits for; its side changes with its trigger alone."""
    request, last = row["request"], Decimal(row["last"])
    trigger = request.get("trigger_price") or request.get("price")
    is_up = request["action"] == "buy"
    if before is not None and before["trigger"] == trigger:
        is_up = before["is_up"]
    elif request["order_type"] not in ("stop", "take_profit") and not request.get("trail"):
        is_up = Decimal(trigger) >= last
    elif request["order_type"] == "take_profit":
        is_up = not is_up
    return {
        "time_ns": row["time_ns"],
        "fqme": request["symbol"],
        "action": request["action"],
        "trigger": trigger,
        "trail": request.get("trail", ""),
        "is_up": is_up,
        "best": before["best"] if before else last,
        "revision": before["revision"] + 1 if before else 1,
    }


def _crossings(world: SimWorld, one: Row, end_ns: int) -> list[int]:
    """Return the times before `end_ns` at which a tick crosses, following a trail's best price."""
    times = []
    for batch in world.markets[one["fqme"]].tape:
        at = int(batch["time_recv_ns"][0])
        if not one["time_ns"] < at < end_ns:
            continue
        for row in batch:
            price = _seen(row, one["action"])
            if price is not None and _is_crossed(one, price):
                times.append(at)
    return times


def _seen(row: Any, action: str) -> Decimal | None:
    if row["type"] == TRADE:
        return Decimal(str(float(row["price"])))
    if row["type"] == QUOTE and action != "alert":
        return Decimal(str(float(row["price2" if action == "buy" else "price"])))
    return None


def _is_crossed(one: Row, price: Decimal) -> bool:
    if not one["trail"]:
        level = Decimal(one["trigger"])
    else:
        one["best"] = (min if one["is_up"] else max)(one["best"], price)
        way = Decimal(one["trail"].rstrip("%"))
        way = one["best"] * way / 100 if one["trail"].endswith("%") else way
        level = one["best"] + way if one["is_up"] else one["best"] - way
    return price >= level if one["is_up"] else price <= level
