"""The deterministic simulation behind `python -m benchmarks.simulate`; docs/proof.md says what it is for."""
