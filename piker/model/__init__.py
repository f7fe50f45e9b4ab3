"""The words of the house: markets, bars, ticks. Records only, no I/O, imported by everyone."""
