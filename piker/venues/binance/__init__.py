"""A local venue that speaks Binance's spot protocol."""
