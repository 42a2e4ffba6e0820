"""RQ entry points: what Redis may name, and the two processes that run it."""
