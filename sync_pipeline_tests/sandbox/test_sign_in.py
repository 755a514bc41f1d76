"""Every way of signing in to Salesforce, by a client that has nothing but the ready line (facts: salesforce.md 1)."""

from __future__ import annotations

import time
from typing import Any
from xml.etree import ElementTree

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa

from sync_pipeline_tests.sandbox_process import SandboxHandle

JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
KEY = rsa.generate_private_key(65537, 2048)
LONG_PAST = 1_000_000_000


def client(ready: dict[str, str]) -> dict[str, str]:
    return {"client_id": ready["client_id"], "client_secret": ready["client_secret"]}


def post(ready: dict[str, str], path: str, **options: Any) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.post(ready["salesforce_url"] + path, timeout=30, **options)


def grant(ready: dict[str, str], **form: str) -> requests.Response:
    return post(ready, "/services/oauth2/token", data=form)


def assertion(ready: dict[str, str], exp: int) -> str:
    claims = {"iss": ready["client_id"], "sub": ready["username"], "aud": ready["salesforce_url"], "exp": exp}
    return jwt.encode(claims, KEY, algorithm="RS256")


def works(ready: dict[str, str], token: str) -> bool:
    with requests.Session() as session:
        session.trust_env = False
        url = ready["salesforce_url"] + "/services/data/v64.0/limits"
        return session.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=30).status_code == 200


def test_client_credentials(sandbox: SandboxHandle) -> None:
    answer = grant(sandbox.ready, grant_type="client_credentials", **client(sandbox.ready)).json()
    assert works(sandbox.ready, answer["access_token"])
    assert (answer["scope"], "refresh_token" in answer) == ("api", False)


@pytest.mark.parametrize("with_security_token", [True, False])
def test_the_password_and_then_the_refresh_token_that_came_with_it(
    sandbox: SandboxHandle, with_security_token: bool
) -> None:
    ready = sandbox.ready
    password = ready["password"] + (ready["security_token"] if with_security_token else "")
    first = grant(ready, grant_type="password", username=ready["username"], password=password, **client(ready)).json()
    assert works(ready, first["access_token"])
    refreshing = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = grant(ready, **refreshing, **client(ready)).json()
    assert works(ready, second["access_token"])
    assert second["access_token"] != first["access_token"]
    assert "refresh_token" in first["scope"].split()


def test_the_refresh_token_of_the_ready_line_alone(sandbox: SandboxHandle) -> None:
    """1.2: connectors that a person once authorised have kept nothing else."""
    ready = sandbox.ready
    refreshing = {"grant_type": "refresh_token", "refresh_token": ready["refresh_token"]}
    assert works(ready, grant(ready, **refreshing, **client(ready)).json()["access_token"])


def test_jwt_bearer(sandbox: SandboxHandle) -> None:
    exp = int(time.time()) + 180
    answer = grant(sandbox.ready, grant_type=JWT_GRANT, assertion=assertion(sandbox.ready, exp)).json()
    assert works(sandbox.ready, answer["access_token"])


def test_the_expiry_of_a_jwt_is_compared_with_the_clock_that_clients_have(sandbox: SandboxHandle) -> None:
    """1.3: a client builds exp from its own clock, however far the sandbox's has moved."""
    late = grant(sandbox.ready, grant_type=JWT_GRANT, assertion=assertion(sandbox.ready, LONG_PAST))
    assert late.status_code == 400
    assert late.json() == {"error": "invalid_grant", "error_description": "expired authorization code"}
    sandbox.control("POST", "/clock", {"advance_seconds": 10 * 365 * 86_400})
    valid = assertion(sandbox.ready, int(time.time()) + 180)
    assert grant(sandbox.ready, grant_type=JWT_GRANT, assertion=valid).status_code == 200


def test_soap_login(sandbox: SandboxHandle) -> None:
    ready = sandbox.ready
    envelope = (
        '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" xmlns="urn:partner.soap.sforce.com"><e:Body>'
        f"<login><username>{ready['username']}</username><password>{ready['password']}{ready['security_token']}"
        "</password></login></e:Body></e:Envelope>"
    )
    answer = post(ready, "/services/Soap/u/64.0", data=envelope, headers={"Content-Type": "text/xml"})
    session = ElementTree.fromstring(answer.content).find(".//{urn:partner.soap.sforce.com}sessionId")
    assert session is not None
    assert works(ready, session.text or "")


def test_healthz_says_who_signs_in_too(sandbox: SandboxHandle) -> None:
    names = ("username", "password", "security_token", "refresh_token")
    health = sandbox.control("GET", "/healthz")
    assert {name: health[name] for name in names} == {name: sandbox.ready[name] for name in names}
