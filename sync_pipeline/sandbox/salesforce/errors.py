"""Salesforce's way of saying no: a status, an error code, a message, the fields concerned."""

from __future__ import annotations

from typing import Any


class SalesforceError(Exception):
    """One refused operation. `details` are further keys of the error object, such as duplicate matches."""

    def __init__(
        self, code: str, message: str, fields: list[str] | None = None, *, status: int = 400, **details: Any
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.fields = fields
        self.status = status
        self.details = details

    def as_response(self) -> list[dict[str, Any]]:
        """The body of a failed request."""
        error: dict[str, Any] = {"message": self.message, "errorCode": self.code}
        if self.fields is not None:
            error["fields"] = self.fields
        return [error | self.details]

    def as_row_error(self) -> dict[str, Any]:
        """The error of one row of a collection: the same content under `statusCode`."""
        return {"statusCode": self.code, "message": self.message, "fields": self.fields or []} | self.details


def not_found() -> SalesforceError:
    return SalesforceError("NOT_FOUND", "The requested resource does not exist", status=404)


def unsupported(what: str) -> SalesforceError:
    """The sandbox does not do this. Never answer such a request with a guess."""
    return SalesforceError("sandbox_unsupported", f"the sandbox does not implement {what}", status=501)


def bad_json(message: str) -> SalesforceError:
    return SalesforceError("JSON_PARSER_ERROR", message)
