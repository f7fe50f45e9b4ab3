"""Binance: spot market data."""
