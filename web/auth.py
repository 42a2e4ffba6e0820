"""Who gets in, and as what: people by password and a signed cookie, programs by key; nobody set up: only this machine."""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import wraps
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    current_app,
    g,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask.sessions import SecureCookieSessionInterface
from werkzeug.local import LocalProxy
from werkzeug.middleware.proxy_fix import ProxyFix

from stocksync.config import StockSyncConfig
from stocksync.credentials import Credential, Role, owner_of, password_fits
from stocksync.store.identifiers import Clock
from stocksync.web.language import FOR_ALL, for_program
from stocksync.web.language import gettext as _

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)
blueprint = Blueprint("auth", __name__)

SESSION_LASTS = timedelta(hours=12)
_FORWARDING = ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Forwarded", "Via")
_FROM_BROWSER = ("Origin", "Referer", "Cookie", "Sec-Fetch-Site")
_BEFORE_LOGIN = frozenset({"auth.login", "auth.logout", "static"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class User:
    """Whoever asks: a person, or a program with a key."""

    name: str
    role: Role


class Attempts:
    """Failed logins in a quarter of an hour: of one address, and of one known name from wherever.

    Kept in this process, for at most 10,000 addresses (a /64 network counts as one) and the names that exist.
    """

    of_address, of_name, span, most = 10, 50, timedelta(minutes=15), 10_000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, OrderedDict[str, tuple[datetime, int]]] = {
            "address": OrderedDict(),
            "name": OrderedDict(),
        }

    def begin(self, address: str, name: str | None, now: datetime) -> bool:
        """Count one more, before it is looked at; False: there were too many."""
        with self._lock:
            fine = self._count("address", _network(address), self.of_address, now)
            return fine and (name is None or self._count("name", name, self.of_name, now))

    def forgive(self, address: str, name: str) -> None:
        """It was the right password."""
        with self._lock:
            self._seen["address"].pop(_network(address), None)
            self._seen["name"].pop(name, None)

    def _count(self, kind: str, what: str, allowed: int, now: datetime) -> bool:
        seen = self._seen[kind]
        since, times = seen.pop(what, (now, 0))
        if now - since > self.span:
            since, times = now, 0
        seen[what] = (since, min(times + 1, allowed + 1))
        if len(seen) > self.most:
            seen.popitem(last=False)
        return times < allowed


class Access:
    """The people and keys of the settings, and what is remembered of attempts."""

    def __init__(self, config: StockSyncConfig, clock: Clock) -> None:
        self.users = {user.name: user for user in config.known_users()}
        self.keys = config.known_keys()
        self.metrics_open = config.metrics_open
        self.clock = clock
        self.attempts = Attempts()
        self._hashing = threading.Lock()

    @property
    def only_here(self) -> bool:
        """Nobody is set up: only somebody at this machine gets in."""
        return not self.users and not self.keys

    def password_fits(self, password: str, who: Credential | None) -> bool:
        """One at a time, because each takes 32 MB. Raises TooManyRequests where too many wait."""
        if not self._hashing.acquire(timeout=3):
            abort(429, "Too many people log in at once; try again in a minute.")
        try:
            return password_fits(password, who)
        finally:
            self._hashing.release()

    def of_session(self) -> User | None:
        """Whose session it is, while it lasts and they still have the password they began it with."""
        who = self.users.get(str(session.get("user")))
        if who is None or session.get("mark") != _mark(who):
            return None
        lasts = timedelta(seconds=self.clock().timestamp() - float(session.get("since", 0))) < SESSION_LASTS
        return User(who.name, who.role) if lasts else None


class _Sessions(SecureCookieSessionInterface):
    """A cookie that a browser takes over HTTPS alone, unless the page is on its own machine without HTTPS."""

    def get_cookie_name(self, app: Flask) -> str:  # noqa: ARG002
        return "__Host-stocksync" if request.is_secure else "stocksync"

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002
        return request.is_secure


def set_up(app: Flask, config: StockSyncConfig, clock: Clock) -> None:
    """Put the guard in front of every view of `app`."""
    access = Access(config, clock)
    app.extensions["stocksync.access"] = access
    users = config.users.get_secret_value()
    derived = hashlib.sha256(f"stocksync session {users}".encode()).hexdigest() if users else None
    app.secret_key = (
        config.secret_key.get_secret_value() if config.secret_key else derived or secrets.token_hex()
    )
    app.session_interface = _Sessions()
    app.config.update(
        SESSION_COOKIE_HTTPONLY=True, SESSION_COOKIE_SAMESITE="Lax", SESSION_REFRESH_EACH_REQUEST=False
    )
    if proxies := config.trusted_proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies)  # type: ignore[method-assign]
    app.before_request(guard)
    app.after_request(secure)
    app.register_blueprint(blueprint)
    app.jinja_env.globals.update(user=LocalProxy(current_user), csrf_token=csrf_token, may=may)
    if access.only_here:
        log.warning(
            "no users or keys are set up: the page answers only at this machine; "
            "see `python -m stocksync users hash`"
        )


def guard() -> Any:
    """Find out who asks, and refuse them, send them to the login, or let them through."""
    access, api = _access(), for_program()
    if request.path in FOR_ALL or (request.path == "/metrics" and access.metrics_open):
        return None
    if access.only_here:
        _refuse_elsewhere()
        g.user, by_key = User("page", Role.ADMIN), False
        # A program here needs no token; a browser says that it is one, whatever site sends it.
        trusted = api and not any(header in request.headers for header in _FROM_BROWSER)
    else:
        by_key = api and "Authorization" in request.headers
        g.user = _of_key(access) if by_key else access.of_session()
        trusted = by_key
    g.by_key = by_key
    if g.user is None and request.endpoint not in _BEFORE_LOGIN:
        return _refuse_unknown(api)
    if request.method in _SAFE or (request.url_rule is None and trusted):
        return None
    if not trusted:
        sent = request.headers.get("X-CSRF-Token") or request.form.get("csrf", "")
        kept = session.get("csrf", "")
        if not kept or not secrets.compare_digest(sent.encode(), kept.encode()):
            abort(403, _("The page was open for too long; load it again."))
    if request.endpoint not in _BEFORE_LOGIN:  # whoever forgets to say so, a change is not for readers
        _demand(Role.OPERATOR)
    return None


def requires(role: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator of a view: only for `role` and those above it. Changes ask for operators anyway."""

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            _demand(Role[role.upper()])
            return view(*args, **kwargs)

        return guarded

    return decorate


def current_user() -> User | None:
    """Who asks; None: nobody that we know."""
    user: User | None = g.get("user")
    return user


def may(role: str) -> bool:
    """Whether who asks has `role` or one above it."""
    user = current_user()
    return user is not None and user.role >= Role[role.upper()]


def csrf_token() -> str:
    """The token that forms of this session must send back, as `csrf` or in the header X-CSRF-Token."""
    if "csrf" not in session:
        session["csrf"] = secrets.token_urlsafe(32)
    token: str = session["csrf"]
    return token


def secure(response: Response) -> Response:
    """Headers that keep other sites and injected scripts out."""
    headers = {
        "Content-Security-Policy": _CSP,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    if request.is_secure:
        headers["Strict-Transport-Security"] = "max-age=31536000"
    response.headers.update(headers)
    response.headers.setdefault("Cache-Control", "no-store")
    return response


@blueprint.route("/login", methods=["GET", "POST"])
def login() -> Any:
    """The form, and what it sends."""
    access, target = _access(), _own_path(request.values.get("next", ""))
    if current_user():
        return redirect(target, 303)
    fault, code = None, 200
    if not request.is_secure and not _is_here(_host()):
        fault = _("Passwords are taken over HTTPS only. Behind a proxy set STOCK_SYNC_TRUSTED_PROXIES.")
        return render_template("login.html", fault=fault, closed=True), 403
    if request.method == "POST":
        name, password = request.form.get("name", "").strip(), request.form.get("password", "")
        who = access.users.get(name)
        if not access.attempts.begin(request.remote_addr or "", who.name if who else None, access.clock()):
            fault, code = _("Too many attempts; try again in a quarter of an hour."), 429
        elif access.password_fits(password, who) and who is not None:
            access.attempts.forgive(request.remote_addr or "", who.name)
            session.clear()  # nothing of what was there before goes on, the token neither
            session.update(user=who.name, mark=_mark(who), since=access.clock().timestamp())
            log.info("%s logged in", who.name)
            return redirect(target, 303)
        else:
            log.warning("a login failed from %s", request.remote_addr)
            fault, code = _("Name or password is wrong."), 401
    return render_template("login.html", fault=fault, target=target, closed=not access.users), code


@blueprint.post("/logout")
def logout() -> Any:
    """End the session."""
    session.clear()
    return redirect(url_for("auth.login"), 303)


def _access() -> Access:
    access: Access = current_app.extensions["stocksync.access"]
    return access


def _of_key(access: Access) -> User | None:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    who = owner_of(key.strip(), access.keys) if scheme.lower() == "bearer" else None
    return User(who.name, who.role) if who else None


def _refuse_unknown(api: bool) -> Any:
    where = url_for("auth.login", next=request.full_path.rstrip("?") if request.method == "GET" else None)
    if api:
        abort(401, "A key is needed: Authorization: Bearer KEY.")
    if "HX-Request" in request.headers:
        return Response(status=401, headers={"HX-Redirect": url_for("auth.login")})
    return redirect(where, 303)


def _refuse_elsewhere() -> None:
    # A proxy on this machine connects from loopback too: its headers give it away. The Host header is
    # checked because a name that somebody else points at 127.0.0.1 would carry their page's scripts here.
    if not _is_here(request.remote_addr or "") or not _is_here(_host()):
        abort(403, "No users are set up, so this page is open only at the machine it runs on.")
    if any(header in request.headers for header in _FORWARDING):
        abort(403, "No users are set up, so this page is not served through a proxy.")


def _demand(role: Role) -> None:
    user = current_user()
    if user is None or user.role < role:
        abort(403, _("Your role may look at this, but not change it."))


def _mark(who: Credential) -> str:
    return hashlib.sha256(f"{who.name} {who.hash}".encode()).hexdigest()[:16]


def _own_path(path: str) -> str:
    """`path` where it leads to a page of ours, else the first page."""
    plain = path.isprintable() and "\\" not in path
    return path if plain and path.startswith("/") and not path.startswith("//") else "/"


def _host() -> str:
    return urlsplit(f"//{request.host}").hostname or ""


def _is_here(name: str) -> bool:
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _network(address: str) -> str:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if found.version == 4:
        return address
    return str(found.ipv4_mapped or ipaddress.ip_network(f"{found}/64", strict=False))
