"""Programs that use stocksync, to read and to run."""
