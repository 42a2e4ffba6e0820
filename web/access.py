"""Who gets in: until there is a login, only somebody at this machine, and only from our own page."""

from __future__ import annotations

import ipaddress
import secrets
from urllib.parse import urlsplit

from flask import Response, abort, request

_COOKIE = "stocksync_csrf"
_FORWARDING = ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Forwarded", "Via")
_OPEN = frozenset({"/healthz"})


def guard() -> None:
    """Refuse whoever is not on loopback, and changes that another site's page sends."""
    if request.path in _OPEN:
        return
    host = urlsplit(f"//{request.host}").hostname or ""
    # A proxy on this machine connects from loopback too: its headers give it away. The Host header is
    # checked because a name that somebody else points at 127.0.0.1 would carry their page's scripts here.
    if not _is_loopback(request.remote_addr or "") or not (host == "localhost" or _is_loopback(host)):
        abort(403, "This page has no login yet and is open only at the machine it runs on.")
    if any(header in request.headers for header in _FORWARDING):
        abort(403, "This page has no login yet and is not served through a proxy.")
    if request.method not in ("GET", "HEAD", "OPTIONS"):
        sent, kept = request.form.get("csrf", ""), request.cookies.get(_COOKIE, "")
        if not kept or not secrets.compare_digest(sent.encode(), kept.encode()):
            abort(403, "The page was open for too long; load it again.")


def csrf_token() -> str:
    """The token that this visitor's forms must send back."""
    token = request.cookies.get(_COOKIE, "")
    if len(token) != 43:
        token = request.environ.setdefault("stocksync.csrf", secrets.token_urlsafe(32))
    return token


def secure(response: Response) -> Response:
    """Headers that keep other sites and injected scripts out."""
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    fresh = request.environ.get("stocksync.csrf")
    if fresh:
        response.set_cookie(_COOKIE, fresh, httponly=True, samesite="Strict", secure=request.is_secure)
    return response


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
