"""Columnar files: bars as Parquet, written atomically, with a certificate per range."""
