"""Answers of the running systems with a record in them that no version of the sync has ever seen like that, and such
as cannot be written down."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from sqlalchemy import Connection

from sync_pipeline.ledger import inbox


def shown_as(monkeypatch: pytest.MonkeyPatch, record: str, **fields: Any) -> None:
    """Until the patch is undone, a record has these fields in every answer over HTTP, whatever it is embedded in."""
    send = requests.Session.send

    def altered(session: requests.Session, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        answer = send(session, request, **kwargs)
        if record.encode() in answer.content:
            answer._content = json.dumps(_with(answer.json(), record, fields)).encode()
        return answer

    monkeypatch.setattr(requests.Session, "send", altered)


def _with(shown: Any, record: str, fields: dict[str, Any]) -> Any:
    if isinstance(shown, list):
        return [_with(each, record, fields) for each in shown]
    if not isinstance(shown, dict):
        return shown
    found = {name: _with(value, record, fields) for name, value in shown.items()}
    return found | fields if record in (shown.get("Id"), shown.get("id")) else found


def cannot_be_answered(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """A defect of ours where it is written down what came of an attempt for one Account."""
    events_of = inbox.latest

    def latest(conn: Connection, account: str, limit: int) -> list[str]:
        return events_of(conn, account, limit if account != broken else limit // 0)

    monkeypatch.setattr(inbox, "latest", latest)
