"""The command line: `stocksync`, or `python -m stocksync`.

Exit codes: 0 done, 1 the thing checked is wrong or some of the input was refused, 2 bad usage or configuration.
Results go to stdout, everything said on the way to stderr.
"""

from stocksync.cli import operations, processes, shop, upkeep  # noqa: F401 (their commands are part of `cli`)
from stocksync.cli.frame import main

__all__ = ["main"]
