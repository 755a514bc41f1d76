"""SOAP login, the one SOAP call that old clients still begin with. Not available from version 65 on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from sync_pipeline.sandbox.salesforce import oauth
from sync_pipeline.sandbox.salesforce.errors import unsupported
from sync_pipeline.sandbox.salesforce.rest.request import Answer
from sync_pipeline.sandbox.wire import Call

if TYPE_CHECKING:
    from sync_pipeline.sandbox.salesforce.org import Org

_FIRST_WITHOUT_LOGIN = 65
_ENVELOPE = (
    '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
    'xmlns:sf="urn:fault.{flavour}.soap.sforce.com" xmlns="urn:{flavour}.soap.sforce.com" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>{body}</soapenv:Body></soapenv:Envelope>'
)


def login(org: Org, call: Call, flavour: str, version: str) -> Answer:
    """POST /services/Soap/u/{version} (partner) or /c/ (enterprise), for the operation login only."""
    try:
        root = ElementTree.fromstring(call.body)
    except ElementTree.ParseError:
        return _fault(flavour, "INVALID_SOAP", "the request is not well-formed XML")
    found = {e.tag.rpartition("}")[2]: (e.text or "").strip() for e in root.iter()}
    if "login" not in found:
        raise unsupported("SOAP calls other than login")
    if float(version) >= _FIRST_WITHOUT_LOGIN:
        message = f"SOAP API login() is not available in API version {version}"
        return _fault(flavour, "UNSUPPORTED_API_VERSION", message)
    if found.get("username") != org.username or found.get("password") not in (
        org.password,
        org.password + org.security_token,
    ):
        message = "Invalid username, password, security token; or user locked out."
        return _fault(flavour, "INVALID_LOGIN", message)
    user = org.user(org.users["integration"])
    base = f"{org.base_url(call)}/services/Soap"
    kind = "u" if flavour == "partner" else "c"
    short = org.org_id[:15]
    values = {
        "metadataServerUrl": f"{base}/m/{version}/{short}",
        "passwordExpired": "false",
        "sandbox": str(org.settings.is_sandbox).lower(),
        "serverUrl": f"{base}/{kind}/{version}/{short}",
        "sessionId": oauth.issue(org),
        "userId": user["Id"],
    }
    info = {
        "organizationId": org.org_id,
        "organizationName": org.settings.company,
        "sessionSecondsValid": str(org.settings.session_seconds),
        "userEmail": user["Email"],
        "userFullName": user["Name"],
        "userId": user["Id"],
        "userName": user["Username"],
        "userTimeZone": user["TimeZoneSidKey"],
    }
    inner = _elements(values) + f"<userInfo>{_elements(info)}</userInfo>"
    return _xml(200, flavour, f"<loginResponse><result>{inner}</result></loginResponse>")


def path(segments: list[str]) -> tuple[str, str] | None:
    """Flavour and version of /services/Soap/{u|c}/{version}[/org]; None for another path."""
    if len(segments) not in (4, 5) or segments[:2] != ["services", "Soap"] or segments[2] not in ("u", "c"):
        return None
    version = re.fullmatch(r"\d+(\.\d)?", segments[3])
    return ("partner" if segments[2] == "u" else "enterprise", segments[3]) if version else None


def _elements(values: dict[str, str]) -> str:
    return "".join(f"<{name}>{escape(value)}</{name}>" for name, value in values.items())


def _fault(flavour: str, code: str, message: str) -> Answer:
    detail = f"<sf:exceptionCode>{code}</sf:exceptionCode><sf:exceptionMessage>{escape(message)}</sf:exceptionMessage>"
    body = (
        f"<soapenv:Fault><faultcode>{code}</faultcode><faultstring>{code}: {escape(message)}</faultstring>"
        f'<detail><sf:LoginFault xsi:type="sf:LoginFault">{detail}</sf:LoginFault></detail></soapenv:Fault>'
    )
    return _xml(500, flavour, body)


def _xml(status: int, flavour: str, body: str) -> Answer:
    text = _ENVELOPE.format(flavour=flavour, body=body)
    return Answer(status, text.encode(), {"Content-Type": "text/xml; charset=utf-8"})
