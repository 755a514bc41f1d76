"""Tokens: how clients get them, how long they last, who they stand for."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from sync_pipeline.sandbox.salesforce.errors import SalesforceError
from sync_pipeline.sandbox.salesforce.rest.request import Answer
from sync_pipeline.sandbox.wire import Call

if TYPE_CHECKING:
    from sync_pipeline.sandbox.salesforce.org import Org

_TOKENS = "_tokens"
_JWT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_TOUCH_EVERY = 60


class OAuthError(Exception):
    """A refused token request: its own error shape."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = description


def expired() -> SalesforceError:
    return SalesforceError("INVALID_SESSION_ID", "Session expired or invalid", status=401)


def issue(org: Org, *, forever: bool = False) -> str:
    """A new access token of the integration user. It begins with the org's 15-character id."""
    counter = (org.store.get("_ids", "token") or {"n": 0})["n"] + 1
    org.store.put("_ids", "token", {"n": counter})
    secret = base64.urlsafe_b64encode(hashlib.sha256(f"{org.client_secret}/{counter}".encode()).digest()).decode()
    # Clients know a token by its letters, digits, dots and underscores.
    token = f"{org.org_id[:15]}!AQ{secret.rstrip('=').replace('-', '.')}"
    used = None if forever else org.clock.now()
    org.store.put(_TOKENS, token, {"token": token, "user": org.users["integration"], "used": used})
    return token


def authenticate(org: Org, headers: dict[str, str]) -> str:
    """The id of the user whose token the request carries. Raises SalesforceError 401."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    row = org.store.get(_TOKENS, token.strip()) if kind.lower() in ("bearer", "oauth") else None
    if row is None:
        raise expired()
    now = org.clock.now()
    if row["used"] is not None:
        if now - row["used"] > org.settings.session_seconds:
            raise expired()
        if now - row["used"] >= _TOUCH_EVERY:
            org.store.put(_TOKENS, row["token"], row | {"used": now})
    return str(row["user"])


def expire_all(org: Org) -> None:
    for token in list(org.store.table(_TOKENS)):
        org.store.delete(_TOKENS, token)


def token_endpoint(org: Org, call: Call) -> Answer:
    """POST /services/oauth2/token"""
    if call.method != "POST":
        return Answer(400, {"error": "invalid_request", "error_description": "must use HTTP POST"})
    try:
        form = {k: v[0] for k, v in parse_qs(call.body.decode()).items()} | {
            k: v[0] for k, v in parse_qs(call.query).items()
        }
        return Answer(200, _grant(org, call, form), {"Cache-Control": "no-store"})
    except OAuthError as error:
        return Answer(400, {"error": error.error, "error_description": error.description})


def revoke_endpoint(org: Org, call: Call) -> Answer:
    form = parse_qs(call.body.decode()) or parse_qs(call.query)
    token = (form.get("token") or [""])[0]
    if org.store.get(_TOKENS, token) is None:
        return Answer(400, {"error": "invalid_token", "error_description": "invalid token"})
    revoke(org, token)
    return Answer(200)


def revoke(org: Org, token: str) -> None:
    org.store.delete(_TOKENS, token)


def identity(org: Org, user_id: str, base: str) -> dict[str, Any]:
    """GET /id/{org}/{user}, also what userinfo is made of."""
    user = org.user(user_id)
    rest = f"{base}/services/data/v{{version}}/"
    return {
        "id": f"{base}/id/{org.org_id}/{user_id}",
        "asserted_user": True,
        "user_id": user_id,
        "organization_id": org.org_id,
        "username": user["Username"],
        "nick_name": user["Alias"],
        "display_name": user["Name"],
        "email": user["Email"],
        "email_verified": True,
        "first_name": user.get("FirstName"),
        "last_name": user["LastName"],
        "timezone": user["TimeZoneSidKey"],
        "active": user["IsActive"],
        "user_type": "STANDARD",
        "language": user["LanguageLocaleKey"],
        "locale": user["LocaleSidKey"],
        "utcOffset": 0,
        "last_modified_date": user["LastModifiedDate"],
        "urls": {
            "rest": rest,
            "sobjects": f"{rest}sobjects/",
            "query": f"{rest}query/",
            "partner": f"{base}/services/Soap/u/{{version}}/{org.org_id[:15]}",
        },
    }


def userinfo(org: Org, user_id: str, base: str) -> dict[str, Any]:
    who = identity(org, user_id, base)
    return {
        "sub": who["id"],
        "user_id": user_id,
        "organization_id": org.org_id,
        "preferred_username": who["username"],
        "nickname": who["nick_name"],
        "name": who["display_name"],
        "email": who["email"],
        "email_verified": True,
        "given_name": who["first_name"],
        "family_name": who["last_name"],
        "zoneinfo": who["timezone"],
        "locale": who["locale"],
        "language": who["language"],
        "active": who["active"],
        "user_type": "STANDARD",
        "utcOffset": 0,
        "urls": who["urls"],
    }


def _grant(org: Org, call: Call, form: dict[str, str]) -> dict[str, Any]:
    kind = form.get("grant_type", "")
    if kind == _JWT:
        _check_assertion(org, form.get("assertion", ""))
    elif kind in ("client_credentials", "password", "refresh_token"):
        _check_client(org, call, form)
        if kind == "password" and (
            form.get("username") != org.username
            or form.get("password") not in (org.password, org.password + org.security_token)
        ):
            raise OAuthError("invalid_grant", "authentication failure")
        if kind == "refresh_token" and form.get("refresh_token") != org.refresh_token:
            raise OAuthError("invalid_grant", "expired access/refresh token")
    elif kind:
        raise OAuthError("unsupported_grant_type", "grant type not supported")
    else:
        raise OAuthError("invalid_request", "missing grant_type")
    token, issued = issue(org), str(org.clock.now() * 1000)
    base = org.base_url(call)
    who = f"{base}/id/{org.org_id}/{org.users['integration']}"
    signature = base64.b64encode(hashlib.sha256(f"{who}{issued}{org.client_secret}".encode()).digest()).decode()
    refreshable = {"refresh_token": org.refresh_token} if kind == "password" else {}
    return {
        "access_token": token,
        "signature": signature,
        "scope": "api refresh_token" if kind in ("password", "refresh_token") else "api",
        "instance_url": base,
        "id": who,
        "token_type": "Bearer",
        "issued_at": issued,
    } | refreshable


def _check_client(org: Org, call: Call, form: dict[str, str]) -> None:
    """The client's id and secret, from HTTP Basic or from the form."""
    client_id, secret = form.get("client_id"), form.get("client_secret")
    kind, _, encoded = call.headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise OAuthError("invalid_client", "invalid client credentials") from None
        client_id, secret = unquote(user), unquote(password)
    if client_id != org.client_id:
        raise OAuthError("invalid_client_id", "client identifier invalid")
    # A refresh may come from a public client, which has no secret.
    if secret != org.client_secret and not (form.get("grant_type") == "refresh_token" and secret is None):
        raise OAuthError("invalid_client", "invalid client credentials")


def _check_assertion(org: Org, assertion: str, wall: Callable[[], float] = time.time) -> None:
    """The claims of a JWT. Its signature cannot be checked here, because no certificate was ever uploaded.

    Its expiry is compared with the wall clock, from which clients build it, and not with the org's.
    """
    try:
        _, body, signature = assertion.split(".")
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        expires = int(claims["exp"])
    except (ValueError, KeyError, TypeError, OverflowError):
        raise OAuthError("invalid_grant", "invalid assertion") from None
    if not signature:
        raise OAuthError("invalid_grant", "invalid assertion")
    if expires <= wall():
        raise OAuthError("invalid_grant", "expired authorization code")
    if claims.get("iss") != org.client_id:
        raise OAuthError("invalid_client_id", "client identifier invalid")
    if claims.get("sub", claims.get("prn")) != org.username:
        raise OAuthError("invalid_grant", "user hasn't approved this consumer")
    audience = str(claims.get("aud", ""))
    if not audience.startswith(("https://login.salesforce.com", "https://test.salesforce.com")) and not (
        audience.endswith(".salesforce.com") or audience == org.own_url()
    ):
        raise OAuthError("invalid_grant", "audience is invalid")
