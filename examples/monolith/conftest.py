"""What the tests of the monolith ask for by name."""

from stocksync.testing import stock_sync  # noqa: F401 (a fixture)
