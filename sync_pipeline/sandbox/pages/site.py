"""The routes of the pages, and the environment that their templates are rendered in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from sync_pipeline.sandbox.courier import Courier
from sync_pipeline.sandbox.desk import Desk
from sync_pipeline.sandbox.pages import reading, wording
from sync_pipeline.sandbox.pages.acting import Actions
from sync_pipeline.sandbox.world import Sandbox

_SHOWN_REQUESTS = 200


class Site:
    def __init__(self, sandbox: Sandbox, courier: Courier) -> None:
        self._sandbox, self._desk = sandbox, Desk(sandbox)
        self._actions = Actions(sandbox, courier)
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("sync_pipeline.sandbox.pages"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        for name in ("minor", "major", "unit", "standing", "every", "plain", "moment", "day", "tone"):
            self._templates.filters[name] = getattr(wording, name)

    def routes(self) -> list[Route]:
        desk = self._desk
        return [
            Route("/", self._page("overview", lambda r: reading.overview(desk))),
            Route("/accounts", self._page("accounts", lambda r: reading.accounts(desk, r.query_params.get("name")))),
            Route("/accounts/{id}", self._page("account", lambda r: reading.account(desk, r.path_params["id"]))),
            Route("/deals", self._page("deals", lambda r: reading.deals(desk))),
            Route("/tasks", self._page("tasks", lambda r: reading.tasks(desk))),
            Route("/customers", self._page("customers", lambda r: reading.customers(desk))),
            Route("/customers/{id}", self._page("customer", lambda r: reading.customer(desk, r.path_params["id"]))),
            Route("/invoices", self._page("invoices", lambda r: reading.invoices(desk))),
            Route("/invoices/{id}", self._page("invoice", lambda r: reading.invoice(desk, r.path_params["id"]))),
            Route("/events", self._page("events", lambda r: reading.events(desk))),
            Route("/traffic", self._page("traffic", lambda r: self._traffic())),
            Route("/act/{action}", self._actions.act, methods=["POST"]),
        ]

    def _page(
        self, name: str, read: Callable[[Request], dict[str, Any] | None]
    ) -> Callable[[Request], Awaitable[Response]]:
        template = self._templates.get_template(f"{name}.html")

        async def page(request: Request) -> Response:
            shown = read(request)
            if shown is None:
                return self._render(self._templates.get_template("missing.html"), request, {}, status=404)
            return self._render(template, request, shown)

        return page

    def _render(
        self, template: jinja2.Template, request: Request, shown: dict[str, Any], status: int = 200
    ) -> Response:
        clock = self._sandbox.clock
        around = {
            "now": clock.now(),
            "frozen": clock.frozen,
            "here": request.url.path,
            "said": request.query_params.get("said", ""),
        }
        return HTMLResponse(template.render(shown | around), status_code=status)

    def _traffic(self) -> dict[str, Any]:
        entries = list(self._sandbox.log.entries())[-_SHOWN_REQUESTS:]
        return {"entries": entries[::-1], "counts": {"salesforce": {}, "stripe": {}} | self._sandbox.log.counts()}
