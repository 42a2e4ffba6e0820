"""Bearer tokens of the sandbox: makes and checks HS256 JSON Web Tokens (RFC 7519), by hand and offline."""

import base64
import binascii
import hashlib
import hmac
import json
from datetime import datetime, timedelta
from typing import Any


def make_token(
    secret: str, now: datetime, lifetime: timedelta | None = None, subject: str = "stocksync"
) -> str:
    """Return a signed token of `subject`, issued at `now` (aware).

    `lifetime` is how long it is good for; None makes a token that never expires.
    """
    claims: dict[str, Any] = {"sub": subject, "iat": int(now.timestamp())}
    if lifetime is not None:
        claims["exp"] = int((now + lifetime).timestamp())
    signed = f"{_encode_json({'alg': 'HS256', 'typ': 'JWT'})}.{_encode_json(claims)}"
    return f"{signed}.{_encode(_signature(secret, signed))}"


def why_refused(token: str, secret: str, now: datetime) -> str | None:
    """Return why `token` is not good at `now`, or None when it is."""
    signed, _, signature = token.rpartition(".")
    head, _, body = signed.partition(".")
    try:
        header, claims, given = json.loads(_decode(head)), json.loads(_decode(body)), _decode(signature)
    except (ValueError, RecursionError):
        return "the token is not a JWT"
    # The algorithm is ours to choose: a token that names another one ('none' among them) chooses for itself.
    if not isinstance(header, dict) or not isinstance(claims, dict) or header.get("alg") != "HS256":
        return "the token is not an HS256 JWT"
    if not hmac.compare_digest(given, _signature(secret, signed)):
        return "the token's signature is wrong"
    expires = claims.get("exp")
    if expires is None:
        return None
    if isinstance(expires, bool) or not isinstance(expires, (int, float)):
        return "the token's exp is not a number"
    # Negated, so that NaN, which compares false with everything, counts as expired.
    return None if now.timestamp() < expires else "the token has expired"


def _signature(secret: str, signed: str) -> bytes:
    return hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()


def _encode_json(value: dict[str, Any]) -> str:
    return _encode(json.dumps(value, separators=(",", ":")).encode())


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error
