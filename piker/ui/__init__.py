"""The chart: an actor that serves one local page."""
