"""Whether an error says that the database is away, or that we asked it for nonsense."""

from __future__ import annotations

from sqlite3 import SQLITE_ERROR

from peewee import DatabaseError, InterfaceError, OperationalError

from stocksync.errors import DatabaseUnavailable


def is_unavailable(error: BaseException) -> bool:
    """The database can't be reached, is broken, or keeps us waiting: nothing that a change of our code would mend."""
    cause = error.__cause__ if isinstance(error, DatabaseUnavailable) else error
    # SQLite has one class for that and for a statement that is wrong.
    wrong = getattr(getattr(cause, "orig", None), "sqlite_errorcode", None) == SQLITE_ERROR
    away = (
        isinstance(error, (DatabaseUnavailable, OperationalError, InterfaceError))
        or type(error) is DatabaseError
    )
    return away and not wrong
