"""Time-series processing: bar building, gap logic and history backfill."""
