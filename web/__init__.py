"""The operator's page: a small Flask application on the same runtime as everything else."""

from __future__ import annotations

from typing import Any

from flask import Flask, jsonify
from peewee import PeeweeException
from werkzeug.exceptions import HTTPException

from stocksync import runtime as composition
from stocksync.domain.errors import DatabaseUnavailable, StockSyncError
from stocksync.runtime import Runtime
from web import access, pages


def create_app(runtime: Runtime | None = None) -> Flask:
    """The WSGI application.

    Args:
        runtime: None: the process's own, composed from the environment at the first request after a fork.

    Raises:
        ConfigurationError, SchemaBehind: said at start, not at the first request.
    """
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = 64 * 1024
    app.extensions["stocksync"] = composition.current if runtime is None else lambda: runtime
    app.extensions["stocksync"]().require_schema()
    if runtime is None:
        # gunicorn forks after this: what was opened here must not be used there.
        composition.current().close()
        composition.use(None)

    @app.get("/healthz")
    def healthz() -> Any:
        """The process lives; says nothing of its parts."""
        return jsonify(status="ok")

    app.before_request(access.guard)
    app.after_request(access.secure)
    app.register_blueprint(pages.blueprint)
    app.register_error_handler(HTTPException, pages.show_http_error)
    app.register_error_handler(StockSyncError, pages.show_error)
    app.register_error_handler(
        PeeweeException, lambda _: pages.show_error(DatabaseUnavailable("the database does not answer"))
    )
    return app
