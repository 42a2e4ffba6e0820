"""The operator's page: a small Flask application on the same runtime as everything else."""

from __future__ import annotations

from stocksync import runtime as composition
from stocksync.queue import eventlog
from stocksync.runtime import Runtime
from stocksync.web import api, auth, errors, health, language, pages


def create_app(runtime: Runtime | None = None) -> api.Application:
    """The WSGI application.

    Args:
        runtime: None: the process's own, composed from the environment at the first request after a fork.

    Raises:
        ConfigurationError, SchemaBehind: said at start, not at the first request.
    """
    app = api.make_application(__name__)
    # Nobody asks from another site, so nobody is told what OPTIONS there are.
    app.config.update(MAX_CONTENT_LENGTH=64 * 1024, PROVIDE_AUTOMATIC_OPTIONS=False)
    app.extensions["stocksync"] = composition.current if runtime is None else lambda: runtime
    at: Runtime = app.extensions["stocksync"]()
    at.require_schema()
    auth.set_up(app, at.config, lambda: app.extensions["stocksync"]().clock())
    errors.set_up(app)
    language.speak(app)
    if runtime is None:
        eventlog.set_up(at.config)
        # gunicorn forks after this: what was opened here must not be used there.
        at.close()
        composition.use(None)
    app.register_blueprint(pages.blueprint)
    app.register_blueprint(health.blueprint)
    api.set_up(app)
    return app
