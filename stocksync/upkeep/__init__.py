"""Duties beside delivery: the sweep, reconciliation, the monitor and its alerts."""
