"""Order journals of paper accounts, as `emsd` writes them: an order, its ack, its fills."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path

from piker.clearing import _records as rec
from piker.clearing._messages import BrokerdFill, BrokerdOrderAck, BrokerdStatus, Order
from piker.model.market import Asset, MktPair
from piker.storage.disk import FolderDisk
from piker.storage.journal import open_journal

START_NS = 1_767_225_600_000_000_000  # 2026-01-01
SECOND = 1_000_000_000
FQME = "btcusdt.spot.binance"
MKT = MktPair(
    dst=Asset("btc", "crypto", Decimal("0.00001")),
    src=Asset("usdt", "crypto", Decimal("0.01")),
    venue="spot",
    price_tick=Decimal("0.01"),
    size_tick=Decimal("0.00001"),
    bs_mktid="BTCUSDT",
    broker="binance",
)


def order_records(
    number: int, action: str, size: str, price: str, fills: int = 1, fee_asset: str = "usdt"
) -> Iterator[rec.Record]:
    """Yield the life of the `number`th order, which fills in equal parts, a second each."""
    oid, time_ns = f"{number:032x}", START_NS + number * SECOND
    order = Order(
        action=action,  # type: ignore[arg-type]
        exec_mode="live",
        oid=oid,
        symbol=FQME,
        account="paper",
        price=Decimal(price),
        size=Decimal(size),
        brokers=("binance",),
    )
    yield rec.Asked(time_ns=time_ns, request=order, mkt=MKT.to_dict() if number == 1 else None)
    ack = BrokerdOrderAck(reqid=oid, oid=oid, account="paper", number=1)
    yield rec.Told(time_ns=time_ns + 1, message=ack, left=((oid, 1),))
    opened = BrokerdStatus(
        time_ns=time_ns + 2, reqid=oid, status="open", oid=oid, account="paper", number=1
    )
    yield rec.Told(time_ns=time_ns + 2, message=opened)
    for part in range(fills):
        yield rec.Told(
            time_ns=time_ns + 3 + part,
            message=BrokerdFill(
                time_ns=time_ns + 3 + part,
                broker_time=(time_ns + part * 1_000_000) / 1e9,
                reqid=oid,
                size=Decimal(size) / fills,
                price=Decimal(price),
                action=action,
                tid=f"{number:08x}{part:08x}",
                fee=Decimal("0.1"),
                fee_asset=fee_asset,
                oid=oid,
                account="paper",
                symbol="btcusdt.spot",
            ),
        )
    closed = BrokerdStatus(
        time_ns=time_ns + 900, reqid=oid, status="closed", oid=oid, account="paper", number=1
    )
    yield rec.Told(time_ns=time_ns + 900, message=closed)


async def write_journal(home: Path, records: Iterable[rec.Record], label: str = "paper") -> None:
    """Put records into the journal of an account below `home`."""
    name = f"binance.{label}"
    folder = FolderDisk(home / "journal" / name)
    async with open_journal(folder, name, now_ns=lambda: START_NS) as journal:
        pending = []
        for record in records:
            pending.append(journal.append_nowait(rec.encode(record)))
            if len(pending) == 200:
                await pending[-1].wait_durable()
                pending.clear()
