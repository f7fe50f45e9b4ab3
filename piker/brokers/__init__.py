"""Backends: one package or module per broker, reached by name only."""
