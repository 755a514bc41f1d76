"""What the headers of a call say: who asks, for which account, in which version, and how the body is written."""

from __future__ import annotations

import base64
import binascii
import re

from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.wire import Call

_VERSION = re.compile(r"(20\d\d-\d\d-\d\d)(?:\.([a-z]+))?")
# The first version of each release that has a name (facts/stripe.md section 1, and Stripe's changelog).
_RELEASES = {
    "acacia": "2024-09-30", "basil": "2025-03-31", "clover": "2025-09-30", "dahlia": "2026-03-25",
    "endive": "2026-09-30",
}  # fmt: skip
_FORM = "application/x-www-form-urlencoded"


def check(call: Call, secret_key: str, account: str, pinned: str) -> None:
    """Raises the StripeError for the first header that Stripe would not take."""
    _authenticate(call.headers, secret_key)
    version = call.headers.get("stripe-version")
    if version and not _exists(version, pinned):
        raise StripeError(f"Invalid Stripe API version: {version}", keep=False)
    for name in ("stripe-account", "stripe-context"):
        if call.headers.get(name, account) != account:
            raise StripeError(
                "Only Stripe Connect platforms can work with other accounts. If you specified a client_id parameter, "
                "make sure it's correct. If you need to setup a Stripe Connect platform, you can do so at "
                "https://dashboard.stripe.com/account/applications/settings.", status=403, keep=False,
            )  # fmt: skip
    if call.body:
        _check_body(call.headers, "application/json" if call.path.startswith("/v2/") else _FORM)


def _authenticate(headers: dict[str, str], secret_key: str) -> None:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    key = _basic_user(credentials) if scheme == "Basic" else credentials.strip()
    if not key:
        raise StripeError(
            "You did not provide an API key. You need to provide your API key in the Authorization header, using "
            "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').", status=401, keep=False,
        )  # fmt: skip
    if key != secret_key:
        shown = key[:8] + "*" * max(0, len(key) - 12) + key[-4:] if len(key) > 12 else "*" * len(key)
        raise StripeError(f"Invalid API Key provided: {shown}", status=401, keep=False)


def _basic_user(credentials: str) -> str:
    try:
        return base64.b64decode(credentials).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _exists(version: str, pinned: str) -> bool:
    """Whether Stripe has had this version; of the later ones only the pinned one is known here."""
    found = _VERSION.fullmatch(version)
    if found is None or found[1] > pinned[:10]:
        return False
    dated = max(
        (name for name, first in _RELEASES.items() if first <= found[1]), key=_RELEASES.__getitem__, default=None
    )
    return found[2] in (dated, "preview") if dated else found[2] is None


def _check_body(headers: dict[str, str], wanted: str) -> None:
    if headers.get("content-encoding", "identity") != "identity":
        raise errors.unsupported(f"bodies in {headers['content-encoding']}")
    kind = headers.get("content-type", "")
    plain = kind.partition(";")[0].strip().lower()
    if plain == wanted:
        return
    if plain == "multipart/form-data":
        raise errors.unsupported("bodies in multipart/form-data")
    if plain == "application/json":
        raise StripeError(
            f"Invalid request (check that your POST content type is {_FORM}). If you have any questions, we can help "
            "at https://support.stripe.com/.", keep=False,
        )  # fmt: skip
    raise StripeError(
        f"Invalid request: unsupported Content-Type {kind}. If error persists and you need assistance, please "
        "contact support@stripe.com.", keep=False,
    )  # fmt: skip
