"""Who gets in, and as what: people by password and a signed cookie, programs by key; nobody set up: only this machine."""

import hashlib
import ipaddress
import logging
import secrets
import threading
from collections import Counter
from datetime import datetime, timedelta
from typing import Any, cast
from urllib.parse import urlsplit

from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    current_app,
    flash,
    g,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask.sessions import SecureCookieSessionInterface
from flask_babel import gettext as _
from werkzeug.local import LocalProxy
from werkzeug.middleware.proxy_fix import ProxyFix

from stocksync.config import StockSyncConfig
from stocksync.credentials import (
    KEY_HASH,
    PASSWORD_HASH,
    Credential,
    Role,
    owner_of,
    password_fits,
    read_credentials,
)
from stocksync.web.frame import FOR_ALL, for_program, own_path, runtime
from stocksync.web.words import NOBODY

log = logging.getLogger(__name__)
blueprint = Blueprint("auth", __name__)

SESSION_LASTS = timedelta(hours=12)
PER_ADDRESS, PER_NAME, WINDOW, MOST_REMEMBERED = 10, 50, 900, 10_000
"""Logins that may fail from one address (a /64 network counts as one), and with one name from wherever; in how
many seconds. Of more addresses and names than the last all is forgotten."""
_BEFORE_LOGIN = frozenset({"auth.login", "auth.logout", "static"})


class Access:
    """The people and keys of the settings, and what is remembered of attempts."""

    def __init__(self, config: StockSyncConfig) -> None:
        self.users = {
            user.name: user for user in read_credentials(config.users.get_secret_value(), PASSWORD_HASH)[0]
        }
        self.keys = read_credentials(config.api_keys.get_secret_value(), KEY_HASH)[0]
        self.only_here = not self.users and not self.keys  # then only somebody at this machine gets in
        self.logging_in = threading.Lock()  # one password at a time, because each takes 32 MB
        self.failed, self._window = Counter[str](), 0.0

    def may_try(self, address: str, name: str, now: datetime) -> bool:
        """Count one more login, before it is looked at; False: there were too many in this quarter of an hour."""
        window = now.timestamp() // WINDOW
        if window != self._window or len(self.failed) >= MOST_REMEMBERED:
            self.failed, self._window = Counter(), window
        # An address that is refused anyway counts no names: it could push out what is remembered of others.
        self.failed.update((address, f"name {name}") if self.failed[address] < PER_ADDRESS else (address,))
        return self.failed[address] <= PER_ADDRESS and self.failed[f"name {name}"] <= PER_NAME

    def user_of_session(self) -> Credential | None:
        """Whose session it is, while it lasts and they still have the password they began it with."""
        who = self.users.get(str(session.get("user")))
        still = runtime.clock().timestamp() - float(session.get("since", 0)) < SESSION_LASTS.total_seconds()
        return who if who and still and session.get("mark") == _mark(who) else None

    def user_of_key(self) -> Credential | None:
        """Whose key the request shows."""
        scheme, _space, key = request.headers.get("Authorization", "").partition(" ")
        return owner_of(key.strip(), self.keys) if scheme.lower() == "bearer" else None


access = cast(Access, LocalProxy(lambda: current_app.extensions["stocksync.access"]))


class _Sessions(SecureCookieSessionInterface):
    """A cookie that a browser takes over HTTPS alone, unless the page is on its own machine without HTTPS."""

    def get_cookie_name(self, app: Flask) -> str:  # noqa: ARG002
        return "__Host-stocksync" if request.is_secure else "stocksync"

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002
        return request.is_secure


def set_up(app: Flask, config: StockSyncConfig) -> None:
    """Have `app` keep sessions and know the people of the settings."""
    app.extensions["stocksync.access"] = found = Access(config)
    # Without one: the same after a restart, as long as the users are.
    app.secret_key = (
        config.secret_key.get_secret_value()
        if config.secret_key
        else hashlib.sha256(
            f"stocksync session {config.users.get_secret_value() or secrets.token_hex()}".encode()
        ).hexdigest()
    )
    app.session_interface = _Sessions()
    if proxies := config.trusted_proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies)  # type: ignore[method-assign]
    if found.only_here:
        log.warning(
            "no users or keys are set up: the page answers only at this machine; "
            "see `python -m stocksync users hash`"
        )


@blueprint.before_app_request
def guard() -> Any:
    """Find out who asks, and refuse them, send them to the login, or let them through."""
    program = for_program()
    if request.path in FOR_ALL or (request.path == "/metrics" and runtime.config.metrics_open):
        return None
    if access.only_here:
        _refuse_elsewhere()
        g.user = Credential(NOBODY, Role.ADMIN, hash="")
        # A program here needs no token; a browser says that it is one, whatever site sends it.
        trusted = program and not any(
            header in request.headers for header in ("Origin", "Referer", "Cookie", "Sec-Fetch-Site")
        )
    else:
        trusted = program and "Authorization" in request.headers
        g.user = access.user_of_key() if trusted else access.user_of_session()
    if g.user is None and request.endpoint not in _BEFORE_LOGIN:
        return _refuse_unknown(program)
    if request.method in ("GET", "HEAD", "OPTIONS") or (request.url_rule is None and trusted):
        return None
    if not trusted:
        sent = request.headers.get("X-CSRF-Token") or request.form.get("csrf", "")
        kept = session.get("csrf", "")
        if not kept or not secrets.compare_digest(sent.encode(), kept.encode()):
            abort(403, _("The page was open for too long; load it again."))
    if request.endpoint not in _BEFORE_LOGIN:
        demand("operator")  # no change is for readers
    return None


@blueprint.app_template_global()
def may(role: str) -> bool:
    """Whether who asks has `role` or one above it."""
    return g.get("user") is not None and g.user.role >= Role[role.upper()]


def demand(role: str) -> None:
    """Refuse whoever has neither `role` nor one above it. Every change asks for operators already."""
    if not may(role):
        abort(403, _("Your role may look at this, but not change it."))


def actor() -> str:
    """Who acts, for the log."""
    return str(g.user.name)


@blueprint.app_template_global()
def csrf_token() -> str:
    """The token that forms of this session must send back, as `csrf` or in the header X-CSRF-Token."""
    return str(session.setdefault("csrf", secrets.token_urlsafe(32)))


@blueprint.route("/login", methods=["GET", "POST"])
def login() -> Any:
    """The form, and what it sends."""
    target = own_path(request.values.get("next", ""))
    if g.user:
        return redirect(target, 303)
    if not request.is_secure and not _is_here(_host()):
        return render_template(
            "login.html",
            fault=_("Passwords are taken over HTTPS only. Behind a proxy set STOCK_SYNC_TRUSTED_PROXIES."),
            closed=True,
        ), 403
    fault, code = _begin_session() if request.method == "POST" else (None, 200)
    return (
        redirect(target, 303)
        if code == 303
        else (render_template("login.html", fault=fault, target=target, closed=not access.users), code)
    )


def _begin_session() -> tuple[str | None, int]:
    """What is wrong with the name and the password that were sent, and the code of the answer; 303: nothing."""
    name, address = request.form.get("name", "").strip()[:50], network(request.remote_addr or "")
    who = access.users.get(name)
    with access.logging_in:
        if not access.may_try(address, name, runtime.clock()):
            return _("Too many attempts; try again in a quarter of an hour."), 429
        if not password_fits(request.form.get("password", ""), who) or who is None:
            log.warning("a login failed from %s", request.remote_addr)
            return _("Name or password is wrong."), 401
        access.failed.subtract((address, f"name {name}"))
    session.clear()  # nothing of what was there before goes on, the token neither
    session.update(user=who.name, mark=_mark(who), since=runtime.clock().timestamp())
    log.info("%s logged in", who.name)
    return None, 303


@blueprint.post("/logout")
def logout() -> Any:
    """End the session."""
    session.clear()
    return redirect(url_for("auth.login"), 303)


def _refuse_unknown(program: bool) -> Any:
    if program:
        abort(401, "A key is needed: Authorization: Bearer KEY.")
    if "HX-Request" in request.headers:
        return Response(status=401, headers={"HX-Redirect": url_for("auth.login")})
    if is_post := request.method == "POST":
        flash(_("Your login had ended, so nothing was changed. Log in and try again."), "bad")
    page = request.form.get("back") if is_post else request.full_path.rstrip("?")
    return redirect(url_for("auth.login", next=page), 303)


def _refuse_elsewhere() -> None:
    # A proxy on this machine connects from loopback too: its headers give it away. The Host header is
    # checked because a name that somebody else points at 127.0.0.1 would carry their page's scripts here.
    if not _is_here(request.remote_addr or "") or not _is_here(_host()):
        abort(403, "No users are set up, so this page is open only at the machine it runs on.")
    # HTTP/1.0 is what nginx speaks to whom it passes requests on, unless it is told otherwise.
    if request.environ.get("SERVER_PROTOCOL") == "HTTP/1.0" or any(
        header in request.headers
        for header in (
            *("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"),
            *("X-Real-Ip", "Forwarded", "Via"),
        )
    ):
        abort(403, "No users are set up, so this page is not served through a proxy.")


def _mark(who: Credential) -> str:
    return hashlib.sha256(f"{who.name} {who.hash}".encode()).hexdigest()[:16]


def _host() -> str:
    return urlsplit(f"//{request.host}").hostname or ""


def _is_here(name: str) -> bool:
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def network(address: str) -> str:
    """An address, or of IPv6 its /64 network: what one guesser has for nothing."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    return str(
        found.ipv4_mapped or ipaddress.ip_network(f"{found}/64", strict=False)
        if found.version == 6
        else found
    )
