"""The few SOAP calls that clients of the REST API still make: login, logout, and who and when it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from sync_pipeline.sandbox.salesforce import oauth
from sync_pipeline.sandbox.salesforce.errors import SalesforceError, unsupported
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


def answer(org: Org, call: Call, flavour: str, version: str) -> Answer:
    """POST /services/Soap/u/{version} (partner) or /c/ (enterprise)."""
    try:
        root = ElementTree.fromstring(call.body)
    except ElementTree.ParseError:
        return _fault(flavour, "INVALID_SOAP", "the request is not well-formed XML")
    found = {e.tag.rpartition("}")[2]: (e.text or "").strip() for e in root.iter()}
    if "login" in found:
        return _login(org, call, flavour, version, found)
    name = next((n for n in _IN_SESSION if n in found), None)
    if name is None:
        raise unsupported(f"SOAP calls other than login, {', '.join(_IN_SESSION)}")
    token = found.get("sessionId", "")
    try:
        user_id = oauth.authenticate(org, {"authorization": f"Bearer {token}"})
        org.limits.use_one()
    except SalesforceError as error:
        return _fault(flavour, error.code, error.message, kind="UnexpectedErrorFault")
    result = _IN_SESSION[name](org, user_id, token)
    return _xml(200, flavour, f"<{name}Response>{result}</{name}Response>")


def _login(org: Org, call: Call, flavour: str, version: str, found: dict[str, str]) -> Answer:
    """Not available from version 65 on."""
    if float(version) >= _FIRST_WITHOUT_LOGIN:
        message = f"SOAP API login() is not available in API version {version}"
        return _fault(flavour, "UNSUPPORTED_API_VERSION", message)
    if found.get("username") != org.username or found.get("password") not in (
        org.password,
        org.password + org.security_token,
    ):
        message = "Invalid username, password, security token; or user locked out."
        return _fault(flavour, "INVALID_LOGIN", message)
    user_id = org.users["integration"]
    base = f"{org.base_url(call)}/services/Soap"
    kind = "u" if flavour == "partner" else "c"
    short = org.org_id[:15]
    values = {
        "metadataServerUrl": f"{base}/m/{version}/{short}",
        "passwordExpired": "false",
        "sandbox": str(org.settings.is_sandbox).lower(),
        "serverUrl": f"{base}/{kind}/{version}/{short}",
        "sessionId": oauth.issue(org),
        "userId": user_id,
    }
    inner = _elements(values) + f"<userInfo>{_user_info(org, user_id)}</userInfo>"
    return _xml(200, flavour, f"<loginResponse><result>{inner}</result></loginResponse>")


def _user_info(org: Org, user_id: str) -> str:
    user = org.user(user_id)
    return _elements(
        {
            "accessibilityMode": "false",
            "chatterExternal": "false",
            "currencySymbol": "",
            "orgAttachmentFileSizeLimit": "26214400",
            "orgDefaultCurrencyIsoCode": org.settings.currency,
            "orgDisallowHtmlAttachments": "false",
            "orgHasPersonAccounts": "false",
            "organizationId": org.org_id,
            "organizationMultiCurrency": str(org.settings.multi_currency).lower(),
            "organizationName": org.settings.company,
            "profileId": user.get("ProfileId") or "",
            "roleId": user.get("UserRoleId") or "",
            "sessionSecondsValid": str(org.settings.session_seconds),
            "userDefaultCurrencyIsoCode": user.get("CurrencyIsoCode") or "",
            "userEmail": user["Email"],
            "userFullName": user["Name"],
            "userId": user["Id"],
            "userLanguage": user["LanguageLocaleKey"],
            "userLocale": user["LocaleSidKey"],
            "userName": user["Username"],
            "userTimeZone": user["TimeZoneSidKey"],
            "userType": user["UserType"],
            "userUiSkin": "Theme3",
        }
    )


def _get_user_info(org: Org, user_id: str, token: str) -> str:
    return f"<result>{_user_info(org, user_id)}</result>"


def _get_server_timestamp(org: Org, user_id: str, token: str) -> str:
    return f"<result><timestamp>{org.db.now().replace('+0000', 'Z')}</timestamp></result>"


def _logout(org: Org, user_id: str, token: str) -> str:
    oauth.revoke(org, token)
    return ""


_IN_SESSION: dict[str, Callable[[Org, str, str], str]] = {
    "getServerTimestamp": _get_server_timestamp,
    "getUserInfo": _get_user_info,
    "logout": _logout,
}


def path(segments: list[str]) -> tuple[str, str] | None:
    """Flavour and version of /services/Soap/{u|c}/{version}[/org]; None for another path."""
    if len(segments) not in (4, 5) or segments[:2] != ["services", "Soap"] or segments[2] not in ("u", "c"):
        return None
    version = re.fullmatch(r"\d+(\.\d)?", segments[3])
    return ("partner" if segments[2] == "u" else "enterprise", segments[3]) if version else None


def _elements(values: dict[str, str]) -> str:
    return "".join(
        f"<{name}>{escape(value)}</{name}>" if value else f'<{name} xsi:nil="true"/>' for name, value in values.items()
    )


def _fault(flavour: str, code: str, message: str, kind: str = "LoginFault") -> Answer:
    detail = f"<sf:exceptionCode>{code}</sf:exceptionCode><sf:exceptionMessage>{escape(message)}</sf:exceptionMessage>"
    name = code if kind == "LoginFault" else f"sf:{code}"
    body = (
        f"<soapenv:Fault><faultcode>{name}</faultcode><faultstring>{code}: {escape(message)}</faultstring>"
        f'<detail><sf:{kind} xsi:type="sf:{kind}">{detail}</sf:{kind}></detail></soapenv:Fault>'
    )
    return _xml(500, flavour, body)


def _xml(status: int, flavour: str, body: str) -> Answer:
    text = _ENVELOPE.format(flavour=flavour, body=body)
    return Answer(status, text.encode(), {"Content-Type": "text/xml; charset=utf-8"})
