"""From a Stripe error to the engine's words: one total function (docs.stripe.com/error-low-level).

5xx and lost connections are ambiguous: the request may have taken effect; so are answers that are not Stripe's,
such as a proxy's page. 429 and 409 come before anything happens. A 4xx with a message is a refusal of these values,
unless it says that an object is there, or is not, against what we thought: then a new look decides.
"""

from __future__ import annotations

from typing import Any, Literal

import stripe

from sync_pipeline.systems.outcomes import Outcome, ReadFailed, State

KEY_REUSED = "idempotency_error"
"""The key was used before with another body. That is a defect of ours, and says that something may exist already."""
TO_THE_DEAL = "correct the deal in Salesforce"
OUR_DEFECT = "this program sent it wrongly: please report it"
ADVICE = {
    KEY_REUSED: "the key of this write was used before for another request, which is a defect of this program; nothing "
    "more is sent for this account until somebody has looked and run resync",
    "amount_too_large": f"the amount is more than Stripe takes: {TO_THE_DEAL}",
    "amount_too_small": f"the amount is less than Stripe takes: {TO_THE_DEAL}",
    "card_declined": "the customer's card was declined: ask for another way to pay",
    "charge_already_refunded": "it was refunded before",
    "charge_disputed": "the payment is disputed: answer the dispute in Stripe",
    "coupon_expired": f"the coupon has expired: {TO_THE_DEAL}",
    "customer_max_subscriptions": "the customer has as many subscriptions as Stripe allows: end one in Stripe",
    "invalid_canceled_subscription_fields": "the subscription has ended and cannot be changed",
    "invoice_no_customer_line_items": "there is nothing to invoice",
    "invoice_not_editable": "the invoice is final and cannot be changed",
    "parameter_missing": OUR_DEFECT,
    "parameter_unknown": OUR_DEFECT,
    "parameters_exclusive": OUR_DEFECT,
    "payment_method_currency_mismatch": "the way to pay does not take this currency: ask for another one",
    "product_inactive": "the product is archived in Stripe: activate it, or sell another one",
    "status_transition_invalid": "its status at Stripe does not allow this any more",
    "tax_id_invalid": "the tax registration is not valid: correct it on the Account",
}
OF_ONE_OBJECT = "resource-specific"
NOT_AS_WE_THOUGHT = frozenset({"resource_already_exists", "resource_missing"})


def outcome_of(error: stripe.StripeError) -> Outcome:
    """What a failed write means."""
    status, code = error.http_status, _code(error)
    if isinstance(error, stripe.APIConnectionError) or status is None or _details(error) is None:
        return Outcome("ambiguous", http_status=status, message=plain(error))
    state: State = "rejected"
    if status in (409, 429):
        state = "throttled"
    elif status in (401, 403):
        state = "denied"
    elif status >= 500:
        state = "ambiguous"
    elif status == 404 or code in NOT_AS_WE_THOUGHT or _refused_param(error) == "lookup_key":
        state = "stale"
    return Outcome(
        state,
        http_status=status,
        code=code,
        message=plain(error),
        request_id=error.request_id,
        replayed_failure=_replayed(error),
        advice=ADVICE.get(code or "", "Stripe refuses these values") if state == "rejected" else "",
    )


def burden_of(error: stripe.StripeError) -> Literal["worked", "failed", "throttled"]:
    """What a failed call says of Stripe itself. A 429 without a reason is contention for one object, and one whose
    reason is a resource is a limit of that object alone: neither holds anybody else back."""
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if error.http_status == 429 and headers.get("stripe-rate-limited-reason", OF_ONE_OBJECT) != OF_ONE_OBJECT:
        return "throttled"
    answered = error.http_status is not None and error.http_status < 500 and _details(error) is not None
    return "worked" if answered else "failed"


def _refused_param(error: stripe.StripeError) -> str | None:
    """The parameter that was refused; a refused lookup key means that the price exists already."""
    return getattr(error, "param", None)


def _replayed(error: stripe.StripeError) -> bool:
    """Stripe saves a 500 under its key and would answer it again for ever."""
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    return headers.get("idempotent-replayed") == "true"


def read_failure(error: stripe.StripeError) -> ReadFailed:
    """What a failed read means; the message carries no request data."""
    access = isinstance(error, (stripe.AuthenticationError, stripe.PermissionError))
    return ReadFailed("Stripe", plain(error), access=access)


def _code(error: stripe.StripeError) -> str | None:
    """Stripe's code; a reused key has none and is known by its type."""
    details = _details(error)
    if details is None:
        return error.code
    return details.get("code") or (KEY_REUSED if details.get("type") == KEY_REUSED else None)


def _details(error: stripe.StripeError) -> dict[str, Any] | None:
    """The `error` object of Stripe's answer; None when something else answered."""
    body = error.json_body
    details = body.get("error") if isinstance(body, dict) else None
    return details if isinstance(details, dict) else None


def plain(error: stripe.StripeError) -> str:
    """The kind of failure in words; connection errors name hosts and ports only, vendor messages are kept short."""
    if isinstance(error, stripe.APIConnectionError):
        return "no answer (connection failed or timed out)"
    return f"{error.http_status} {_code(error) or ''} {error.user_message or ''}".strip()[:300]
