"""What the forms on the pages do. Every form goes back to the page it was on, with one line saying what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from sync_pipeline.sandbox.courier import Courier
from sync_pipeline.sandbox.desk import Desk, RefusedError
from sync_pipeline.sandbox.inputs import BadInputError
from sync_pipeline.sandbox.world import Sandbox

Form = dict[str, str]
Action = Callable[[Form], Awaitable[str]]

# Fields that people may edit on a page, and how their text becomes a value.
_NUMBERS = frozenset({"Quantity", "UnitPrice", "Term_Months__c", "ContractTerm"})


class Actions:
    def __init__(self, sandbox: Sandbox, courier: Courier) -> None:
        self._sandbox, self._courier, self._desk = sandbox, courier, Desk(sandbox)

    def named(self) -> dict[str, Action]:
        """The actions by the last part of their address."""
        return {
            "clock": self._move_clock,
            "edit": self._edit,
            "win": self._win,
            "payment": self._plan_payment,
            "stripe": self._stripe,
        }

    async def act(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode("utf-8", "replace"), keep_blank_values=True))
        back = form.pop("back", "/")
        if not back.startswith("/") or back.startswith("//"):
            back = "/"
        action = self.named().get(request.path_params["action"])
        try:
            said = await action(form) if action else "There is no such action."
        except (BadInputError, ValueError) as error:
            said = f"Not done: {error}"
        except RefusedError as error:
            said = f"Refused: {error.message}"
        self._courier.wake()
        return RedirectResponse(f"{urlsplit(back).path}?said={quote(said)}", status_code=303)

    async def _move_clock(self, form: Form) -> str:
        seconds = form.get("seconds", "")
        if not seconds.isdecimal():
            raise BadInputError("seconds", f"must be a whole number of seconds, not {seconds!r}")
        await self._courier.move_to(self._sandbox.clock.now() + int(seconds))
        return "The clock has moved."

    async def _edit(self, form: Form) -> str:
        kind, record = form.pop("object", ""), form.pop("id", "")
        fields = {name: _value(name, text) for name, text in form.items()}
        self._desk.edit(kind, record, fields)
        return f"{kind} saved."

    async def _win(self, form: Form) -> str:
        self._desk.edit("Opportunity", form.get("id", ""), {"StageName": "Closed Won"})
        return "Closed as won."

    async def _plan_payment(self, form: Form) -> str:
        outcome = form.get("outcome", "")
        planned = self._desk.plan_payment(form.get("customer", ""), outcome)
        if "invoice" in planned:
            return f"The open invoice is {planned['status']} now."
        return f"The customer's next payment will {outcome}."

    async def _stripe(self, form: Form) -> str:
        method, path = form.pop("method", "POST"), form.pop("path", "")
        said = form.pop("done", "Done in Stripe.")
        if not path.startswith("/v1/"):
            raise BadInputError("path", f"must begin with /v1/, not {path!r}")
        self._desk.stripe(method, path, dict(form))
        return said


def _value(name: str, text: str) -> Any:
    if text == "":
        return None
    if name not in _NUMBERS:
        return text
    try:
        return int(text) if "." not in text else float(text)
    except ValueError:
        raise BadInputError(name, f"must be a number, not {text!r}") from None
