"""Files: bars as Parquet with a certificate per range, and the order journal."""
