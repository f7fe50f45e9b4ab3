"""Read an account's ledger, and fold it into positions and lots. Needs no running tree."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from piker.accounting import Transaction, fold, fold_lots, open_trade_ledger, read_ledger

with TemporaryDirectory() as folder:
    # A ledger of this script's own. Those of the run need no `_fp` and no `folder`.
    with open_trade_ledger("binance", "demo", True, _fp=Path(folder)) as ledger:
        for number, (size, price) in enumerate((("2", "100"), ("1", "112"), ("-1", "130"))):
            ledger.update_from_t(
                Transaction(
                    broker="binance",
                    account="demo",
                    fqme="btcusdt.spot.binance",
                    tid=f"fill-{number}",
                    size=Decimal(size),
                    price=Decimal(price),
                    dt=datetime(2026, 1, 1, 12, number, tzinfo=UTC),
                )
            )
    fills = read_ledger("binance", "demo", folder=Path(folder))

for position in fold(fills).values():
    print(position.fqme, position.size, position.average_entry_price, position.realised_pnl)
for lot in fold_lots(fills, "fifo").open:
    print(lot.tid, lot.size, lot.price)
