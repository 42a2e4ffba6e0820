"""How fast stocksync delivers, beside what teams use today: `python -m benchmarks.delivery`."""
