"""The operator's page: a small Flask application on the same runtime as everything else."""

from flask_openapi3 import OpenAPI

from stocksync import runtime as composition
from stocksync.queue import process
from stocksync.web import api, auth, errors, health, request_context
from stocksync.web.pages import frame, lists, operations, overview  # noqa: F401 (their views)


def create_app(runtime: composition.Runtime | None = None) -> OpenAPI:
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
    at = app.extensions["stocksync"]()
    at.require_schema()
    auth.set_up(app, at.config)
    errors.set_up(app)
    request_context.set_up(app)
    if runtime is None:
        process.set_up_log(at.config)
        # gunicorn forks after this: what was opened here must not be used there.
        at.close()
        composition.use(None)
    app.register_blueprint(frame.blueprint)
    app.register_blueprint(health.blueprint)
    return app
