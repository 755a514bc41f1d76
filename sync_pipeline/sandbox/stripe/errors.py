"""The one way in which the simulated Stripe refuses: Stripe's status, type, code, message and param."""

from __future__ import annotations

from typing import Any


class StripeError(Exception):
    """An error answer. `keep`: an idempotency key remembers it (validation and limits are not kept). `commits`: what
    was done before it stays done (a declined payment happened), where any other error undoes everything."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        status: int = 400,
        type: str = "invalid_request_error",
        keep: bool = True,
        commits: bool = False,
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.keep, self.commits = status, code, param, keep, commits
        self.headers = headers or {}
        error: dict[str, Any] = {"message": message, "type": type}
        if code:
            error |= {"code": code, "doc_url": f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"}
        if param:
            error["param"] = param
        self.error = error | {k: v for k, v in extra.items() if v is not None}


def missing(noun: str, value: str, param: str = "id", *, status: int = 400) -> StripeError:
    """`noun` with this id does not exist: 404 where it stands in the path, 400 where a parameter names it."""
    return StripeError(f"No such {noun}: '{value}'", code="resource_missing", param=param, status=status)


def required(param: str) -> StripeError:
    return StripeError(f"Missing required param: {param}.", code="parameter_missing", param=param, keep=False)


def exclusive(one: str, other: str, param: str | None = None) -> StripeError:
    """Two parameters of which a call may have one; `param` is the name of `one` where it is nested."""
    message = f"You may only specify one of these parameters: {one}, {other}."
    return StripeError(message, code="parameters_exclusive", param=param or one)


def unsupported(what: str, param: str | None = None) -> StripeError:
    """Part of Stripe's contract that this sandbox does not imitate."""
    message = f"The sandbox does not implement {what}."
    return StripeError(
        message, code="sandbox_unsupported", param=param, status=501, type="api_error", keep=False,
        headers={"Stripe-Should-Retry": "false"},
    )  # fmt: skip
