"""Duties beside delivery: the sweep, the audit."""
