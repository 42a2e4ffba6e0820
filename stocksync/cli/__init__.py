"""The command line: `stocksync`, or `python -m stocksync`.

Exit codes: 0 done, 1 the thing checked is wrong or some of the input was refused, 2 bad usage or configuration.
Results go to stdout, everything said on the way to stderr.
"""

from __future__ import annotations

import logging
import sys

import click
from peewee import PeeweeException

from stocksync import __version__
from stocksync.cli import cleanup, lanes, monitor, operations, orders, processes, reconcile, stock, users
from stocksync.errors import ConfigurationError, MissingExtra, StockSyncError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, "-V", "--version")
@click.option("-v", "--verbose", is_flag=True, help="Say on stderr what happens inside.")
def cli(verbose: bool) -> None:
    """Reliable delivery of stock operations to the orders microservice."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s %(message)s",
        stream=sys.stderr,
    )


for part in (processes, stock, orders, operations, lanes, reconcile, monitor, cleanup, users):
    for command in part.COMMANDS:
        cli.add_command(command)


def main() -> None:
    """Run the command of `sys.argv`; errors are said in words, with the exit code they stand for."""
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:
        print("stopped", file=sys.stderr)
        code = 1
    except (ConfigurationError, MissingExtra) as error:
        print(error, file=sys.stderr)
        code = 2
    except StockSyncError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except PeeweeException as error:
        print(f"error: the database says: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        code = 1
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone
        code = 1
    except OSError as error:
        print(
            f"error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}",
            file=sys.stderr,
        )
        code = 1
    sys.exit(code if isinstance(code, int) else 0)
