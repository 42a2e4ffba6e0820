"""A shop under steady load for half an hour: `python -m benchmarks.soak`."""
