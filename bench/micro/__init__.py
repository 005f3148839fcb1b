"""Functions on the hot path, one at a time: `pytest bench --benchmark-only`."""
