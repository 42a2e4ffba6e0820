"""The operator's page: a small Flask application on the same runtime as everything else."""

from flask_babel import Babel
from flask_openapi3 import Info, OpenAPI

from stocksync import runtime as composition
from stocksync.queue import process
from stocksync.web import api, api_calls, auth, frame, health  # noqa: F401 (what they add to the blueprints)
from stocksync.web.pages import operations, overview  # noqa: F401


def create_app(runtime: composition.Runtime | None = None) -> OpenAPI:
    """The WSGI application.

    Args:
        runtime: None: the process's own, composed from the environment at the first request after a fork.

    Raises:
        ConfigurationError, SchemaBehind: said at start, not at the first request.
    """
    app = OpenAPI(
        __name__,
        info=Info(
            title="stocksync",
            version="1",
            description="Reliable delivery of stock operations to the orders microservice. Every call needs a key\n"
            "(`Authorization: Bearer …`); those that change something need the role operator. "
            'Errors are `{"detail": "…"}`.',
        ),
        security_schemes={"key": {"type": "http", "scheme": "bearer"}},
        validation_error_status=400,
        validation_error_callback=api.say_faults,
        doc_ui=False,
    )
    app.json = api.Json(app)
    # Nobody asks from another site, so nobody is told what OPTIONS there are.
    app.config.update(
        MAX_CONTENT_LENGTH=64 * 1024, PROVIDE_AUTOMATIC_OPTIONS=False, SESSION_COOKIE_SAMESITE="Lax"
    )
    app.register_api(api.stock_sync)
    app.register_api(api.orders)
    app.extensions["stocksync"] = composition.current if runtime is None else lambda: runtime
    at = app.extensions["stocksync"]()
    at.require_schema()
    auth.set_up(app, at.config)
    Babel(app, locale_selector=frame.select_language)
    for blueprint in (api.docs, auth.blueprint, frame.blueprint, health.blueprint):
        app.register_blueprint(blueprint)
    if runtime is None:
        process.set_up_log(at.config)
        # gunicorn forks after this: what was opened here must not be used there.
        at.close()
        composition.use(None)
    return app
