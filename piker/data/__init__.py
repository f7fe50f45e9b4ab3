"""Market data: feeds, shared memory, sampling."""
