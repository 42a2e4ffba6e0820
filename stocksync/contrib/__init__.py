"""Bridges to other libraries, each an optional extra: nothing else of stocksync imports them."""
