"""The operator's pages: how things stand, what hangs and why, and what a person may do about it."""
