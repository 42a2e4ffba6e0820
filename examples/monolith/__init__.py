"""A small shop with its own orders and stock, before and after stocksync was added to it."""
