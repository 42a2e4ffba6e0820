"""The command line: `stocksync`, or `python -m stocksync`.

Exit codes: 0 done, 1 the thing checked is wrong or some of the input was refused, 2 bad usage or configuration.
Results go to stdout, everything said on the way to stderr.
"""

import sys

import click
from peewee import PeeweeException

from stocksync.cli import operations, processes, shop, upkeep  # noqa: F401 (their commands are part of `cli`)
from stocksync.cli.frame import cli, database_says
from stocksync.errors import ConfigurationError, MissingExtra, StockSyncError


def main() -> None:
    """Run the command of `sys.argv`; errors are said in words, with the exit code they stand for."""
    code = 1
    try:
        code = cli.main(standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone
    except click.Abort:
        print("stopped", file=sys.stderr)
    except (ConfigurationError, MissingExtra) as error:
        print(error, file=sys.stderr)
        code = 2
    except StockSyncError as error:
        print(f"error: {error}", file=sys.stderr)
    except PeeweeException as error:
        print(f"error: {database_says(error)}", file=sys.stderr)
    except OSError as error:
        print(
            "error:",
            ": ".join(map(str, filter(None, (error.strerror or error, error.filename)))),
            file=sys.stderr,
        )
    sys.exit(code)
