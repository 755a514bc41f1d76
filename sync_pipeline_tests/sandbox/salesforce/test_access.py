"""Tokens, versions, limits, and what the integration user may see (facts: salesforce.md 1, 2.1, 2.7, 4, 8.3)."""

from __future__ import annotations

import base64
import gzip
import json
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection
from urllib.parse import urlsplit

import jwt
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import SalesforceExpiredSession, SalesforceMalformedRequest

from sync_pipeline_tests.sandbox.salesforce.served import START, Org, Redirect, bare
from sync_pipeline_tests.sandbox_process import SandboxHandle


def token(org: Org, **form: str) -> requests.Response:
    return org.session.post(f"{org.url}/services/oauth2/token", data=form, timeout=30)


def test_client_credentials_answer_has_the_documented_shape(org: Org) -> None:
    """1.2: no refresh token, no expires_in; instance_url without a slash; the token begins with the org's short id."""
    answer = token(
        org, grant_type="client_credentials", client_id=org.system.client_id, client_secret=org.system.client_secret
    )
    body = answer.json()
    assert answer.status_code == 200
    assert set(body) == {"access_token", "signature", "scope", "instance_url", "id", "token_type", "issued_at"}
    assert body["instance_url"] == org.url
    assert body["access_token"].startswith(f"{org.system.org_id[:15]}!AQ")
    assert body["issued_at"] == str(START * 1000)
    assert f"/id/{org.system.org_id}/005" in body["id"]


def test_wrong_secret_is_the_oauth_error_object(org: Org) -> None:
    """1.2: OAuth errors are an object, not the list of the REST API."""
    answer = token(org, grant_type="client_credentials", client_id=org.system.client_id, client_secret="no")
    assert answer.status_code == 400
    assert answer.json() == {"error": "invalid_client", "error_description": "invalid client credentials"}
    assert token(org, grant_type="magic").json()["error"] == "unsupported_grant_type"


def test_sdk_logs_in_with_a_jwt_whose_expiry_is_text(org: Org) -> None:
    """1.3: the SDK serialises exp as a string."""
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    sf = Salesforce(
        username=org.system.username,
        consumer_key=org.system.client_id,
        privatekey=key.decode(),
        domain="acme.my",
        session=org.session,
        version="64.0",
    )
    assert sf.query("SELECT COUNT() FROM Account")["totalSize"] == 0
    stranger = jwt.encode(
        {
            "iss": org.system.client_id,
            "sub": "nobody@x.example",
            "aud": "https://login.salesforce.com",
            "exp": int(time.time()) + 60,
        },
        key,
        algorithm="RS256",
    )
    refused = token(org, grant_type="urn:ietf:params:oauth:grant-type:jwt-bearer", assertion=stranger)
    assert refused.json()["error"] == "invalid_grant"


def test_password_and_refresh_grants(org: Org) -> None:
    """1.2, 1.4: the password grant for clients that still use it, and the refresh token that came with it."""
    client = {"client_id": org.system.client_id, "client_secret": org.system.client_secret}
    password = org.system.password + org.system.security_token
    good = token(org, grant_type="password", username=org.system.username, password=password, **client)
    assert good.status_code == 200
    bad = token(org, grant_type="password", username=org.system.username, password="no", **client)
    assert bad.json()["error"] == "invalid_grant"
    assert token(org, grant_type="refresh_token", refresh_token=org.system.refresh_token, **client).status_code == 200


def test_expired_session_is_a_401_list_and_the_sdk_recovers(org: Org) -> None:
    """1.6: the SDK refreshes only on exactly this body."""
    org.system.expire_tokens()
    answer = org.call("GET", "limits")
    assert answer.status_code == 401
    assert answer.json() == [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]
    assert org.sf.query("SELECT COUNT() FROM Account")["totalSize"] == 0


def test_a_direct_session_cannot_recover(org: Org) -> None:
    """1.5: session_id with instance means no refresh ever."""
    session = requests.Session()
    session.trust_env = False
    session.mount("https://", Redirect(org.url))
    sf = Salesforce(session_id=org.system.access_token, instance="acme.my.salesforce.com", session=session)
    assert sf.limits()["DailyApiRequests"]["Max"] == 100_000
    org.system.expire_tokens()
    with pytest.raises(SalesforceExpiredSession):
        sf.limits()


def test_sessions_time_out_when_idle(org: Org) -> None:
    """1.2: the session policy's two hours, counted from the last use."""
    issued = token(
        org, grant_type="client_credentials", client_id=org.system.client_id, client_secret=org.system.client_secret
    ).json()["access_token"]
    bearer = {"Authorization": f"Bearer {issued}"}
    for _ in range(3):
        org.clock.move_to(org.clock.now() + 7000)
        assert org.call("GET", "limits", headers=bearer).status_code == 200
    org.clock.move_to(org.clock.now() + 7201)
    assert org.call("GET", "limits", headers=bearer).status_code == 401


def test_userinfo_and_identity(org: Org) -> None:
    """Sandbox facts 3: `userinfo`, and the identity that `/services/data/v64.0` names."""
    info = org.call("GET", "/services/oauth2/userinfo").json()
    assert info["organization_id"] == org.system.org_id
    assert info["preferred_username"] == org.system.username
    identity = org.call("GET", "/services/data/v64.0/").json()["identity"]
    who = org.session.get(identity, headers={"Authorization": f"Bearer {org.system.access_token}"}, timeout=30).json()
    assert who["user_id"] == info["user_id"]


def test_versions_need_no_token_and_show_no_limit(org: Org) -> None:
    """1.1, 2.1: /services/data is free and open."""
    answer = org.session.get(f"{org.url}/services/data/", timeout=30)
    assert answer.json()[-2:] == [
        {"label": "Spring '26", "url": "/services/data/v66.0", "version": "66.0"},
        {"label": "Summer '26", "url": "/services/data/v67.0", "version": "67.0"},
    ]
    assert "Sforce-Limit-Info" not in answer.headers
    retired = org.call("GET", "/services/data/v30.0/limits")
    assert (retired.status_code, retired.json()[0]["errorCode"]) == (410, "UNSUPPORTED_API_VERSION")
    assert org.call("GET", "/services/data/v99.0/limits").status_code == 404


def test_limit_header_counts_and_then_refuses(org_with: Callable[..., Org]) -> None:
    """2.1, 2.8, 4: the header on every response; 403 REQUEST_LIMIT_EXCEEDED when used up; a rolling 24 hours."""
    org = org_with(daily_requests=2)
    assert org.call("GET", "limits").headers["Sforce-Limit-Info"] == "api-usage=1/2"
    assert org.call("GET", "sobjects/Nope").headers["Sforce-Limit-Info"] == "api-usage=2/2"
    refused = org.call("GET", "limits")
    assert refused.status_code == 403
    assert refused.json() == [{"message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}]
    assert refused.headers["Sforce-Limit-Info"] == "api-usage=2/2"
    org.clock.move_to(START + 25 * 3600)
    assert org.call("GET", "limits").json()["DailyApiRequests"] == {"Max": 2, "Remaining": 1}


def test_the_date_header_is_the_orgs_clock(org: Org) -> None:
    """5.2: the server's clock is the Date header."""
    assert parsedate_to_datetime(org.call("GET", "limits").headers["Date"]).timestamp() == START


def test_what_is_not_implemented_says_so(org: Org) -> None:
    """Sandbox facts 1: 501 and `sandbox_unsupported`, never a plausible guess;

    2.8: NOT_FOUND for what is no resource.
    """
    for path in (
        "tooling/query?q=x",
        "/services/Soap/m/64.0",
        "composite/graph",
        "sobjects/Account/describe/layouts",
        "sobjects/Account/001000000000001AAA/Contacts",
        "search?q=x",
    ):
        answer = org.call("GET", path)
        assert (answer.status_code, answer.json()[0]["errorCode"]) == (501, "sandbox_unsupported"), path
    assert org.call("GET", "nonsense").status_code == 404


def test_describe_shows_the_package(org: Org) -> None:
    """2.7: the attributes that the sync and other clients read."""
    fields = {f["name"]: f for f in org.sf.Account.describe()["fields"]}
    key = fields["Stripe_Customer_Id__c"]
    assert (key["type"], key["length"], key["externalId"], key["unique"], key["caseSensitive"], key["idLookup"]) == (
        "string",
        255,
        True,
        True,
        True,
        True,
    )
    assert fields["MRR__c"]["precision"] == 18
    assert fields["MRR__c"]["scale"] == 2
    statuses = [v["value"] for v in fields["Billing_Status__c"]["picklistValues"]]
    assert statuses == [
        "Incomplete",
        "Trialing",
        "Active",
        "Past Due",
        "Unpaid",
        "Paused",
        "Cancel Scheduled",
        "Canceled",
    ]
    assert fields["Billing_Status__c"]["restrictedPicklist"]
    assert fields["Customer_Success_Owner__c"]["referenceTo"] == ["User"]
    assert fields["SystemModstamp"]["filterable"]
    assert not fields["SystemModstamp"]["updateable"]
    shared = {f["name"]: f for f in org.sf.Opportunity.describe()["fields"]}["Stripe_Subscription_Id__c"]
    assert (shared["externalId"], shared["unique"]) == (True, False)


def test_describe_global_lists_key_prefixes(org: Org) -> None:
    """2.7, 5.1: `keyPrefix` of every object; what cannot be made says so."""
    found = {o["name"]: o for o in org.sf.describe()["sobjects"]}
    prefixes = {n: found[n]["keyPrefix"] for n in ("Account", "Opportunity", "OpportunityLineItem", "Contract")}
    assert prefixes == {"Account": "001", "Opportunity": "006", "OpportunityLineItem": "00k", "Contract": "800"}
    assert not found["OpportunityStage"]["createable"]


def test_minimum_profile_leaves_only_what_the_permission_set_grants(org_with: Callable[..., Org]) -> None:
    """8.3: an invisible field or object behaves as one that does not exist, standard ones too."""
    org = org_with(minimum_profile=True)
    names = {f["name"] for f in org.sf.Account.describe()["fields"]}
    assert {"Id", "Name", "Stripe_Customer_Id__c", "BillingCity", "SystemModstamp"} <= names
    assert not {"Industry", "AnnualRevenue"} & names
    with pytest.raises(SalesforceMalformedRequest, match="No such column 'Industry' on entity 'Account'"):
        org.sf.query("SELECT Industry FROM Account")
    with pytest.raises(SalesforceMalformedRequest, match="sObject type 'Lead' is not supported"):
        org.sf.query("SELECT Id FROM Lead")
    account = org.person("Account", Name="A")
    with pytest.raises(SalesforceMalformedRequest, match="Unable to create/update fields: Tax_Registration__c"):
        org.sf.Account.update(account, {"Tax_Registration__c": "GB1"})
    assert org.sf.Account.update(account, {"Stripe_Customer_Id__c": "cus_1"}) == 204
    assert org.call("DELETE", f"sobjects/Account/{account}").json()[0]["errorCode"] == "INSUFFICIENT_ACCESS_OR_READONLY"


def test_a_permission_that_is_taken_away_breaks_the_whole_query(org: Org) -> None:
    """10.16: the field is gone from describe, and a query that names it fails as a whole."""
    soql = "SELECT Id, MRR__c FROM Account"
    assert org.query(soql) == []
    org.system.configure(hidden_fields=("Account.MRR__c",))
    assert "MRR__c" not in [f["name"] for f in org.sf.Account.describe()["fields"]]
    with pytest.raises(SalesforceMalformedRequest, match="No such column 'MRR__c' on entity 'Account'"):
        org.sf.query(soql)
    org.system.configure(hidden_fields=())
    assert org.query(soql) == []


def test_settings_of_a_running_org(org: Org) -> None:
    """4, Sandbox facts 2: limits may change while an org runs, its currencies may not."""
    org.system.configure(daily_requests=1, page_size=1)
    org.call("GET", "limits")
    assert org.call("GET", "limits").json()[0]["errorCode"] == "REQUEST_LIMIT_EXCEEDED"
    with pytest.raises(ValueError, match="multi_currency cannot be changed in a running org"):
        org.system.configure(multi_currency=True)


def test_client_credentials_over_http_basic(org: Org) -> None:
    """1.5: the SDK sends HTTP Basic for client credentials."""
    basic = base64.b64encode(f"{org.system.client_id}:{org.system.client_secret}".encode()).decode()
    answer = org.session.post(
        f"{org.url}/services/oauth2/token",
        data={"grant_type": "client_credentials"},
        headers={"Authorization": f"Basic {basic}"},
        timeout=30,
    )
    assert json.loads(answer.text)["token_type"] == "Bearer"


def test_same_seed_same_org(org: Org, org_with: Callable[..., Org]) -> None:
    """Sandbox facts 1: ids and clock are seeded: the same seed gives the same bytes."""
    again = org_with()
    assert (again.system.client_secret, again.system.access_token) == (
        org.system.client_secret,
        org.system.access_token,
    )
    assert again.system.truth() == org.system.truth()


def test_a_fresh_org_has_users_stages_and_the_standard_price_book(org: Org) -> None:
    """6.2, 6.4: stages with their probability, one standard price book; 10.9: an org says whether it is a sandbox."""
    users = org.query("SELECT Name FROM User WHERE IsActive = true ORDER BY Name")
    assert [u["Name"] for u in users] == ["Casey Success", "Sam Sales", "Stripe Integration"]
    won = org.query("SELECT ApiName, DefaultProbability FROM OpportunityStage WHERE IsWon = true")
    assert won == [{"ApiName": "Closed Won", "DefaultProbability": 100.0}]
    assert len(org.query("SELECT Id FROM Pricebook2 WHERE IsStandard = true")) == 1
    assert bare(org.sf.query("SELECT IsSandbox FROM Organization")["records"]) == [{"IsSandbox": True}]


def test_slashes_too_many(org: Org) -> None:
    """2.1, and clients that join an address ending in a slash."""
    for path in ("//services/data/v64.0/limits", "/services/data/v64.0/limits/"):
        answer = org.session.get(
            org.url + path, headers={"Authorization": f"Bearer {org.system.access_token}"}, timeout=30
        )
        assert (answer.status_code, "Sforce-Limit-Info" in answer.headers) == (200, True), path


FIELD_KEYS = """name label type length byteLength precision scale digits nillable createable updateable
defaultedOnCreate
calculated autoNumber externalId idLookup unique caseSensitive filterable sortable groupable aggregatable custom
permissionable restrictedPicklist picklistValues referenceTo relationshipName compoundFieldName controllerName
dependentPicklist soapType cascadeDelete restrictedDelete writeRequiresMasterRead""".split()


def test_everything_described_can_be_read(org_with: Callable[..., Org]) -> None:
    """2.7: what connectors do: describe all, select every field of every object, by REST and by a bulk query."""
    org = org_with(multi_currency=True)
    org.person("Account", Name="A")
    for described in org.sf.describe()["sobjects"]:
        name = described["name"]
        fields = getattr(org.sf, name).describe()["fields"]
        assert all(set(FIELD_KEYS) <= set(f) for f in fields), name
        columns = [f["name"] for f in fields if f["type"] != "address"]
        sort = " ORDER BY SystemModstamp, Id" if "SystemModstamp" in columns else ""
        soql = f"SELECT {', '.join(columns)} FROM {name}{sort}"
        rows = org.sf.query_all(soql)["records"]
        assert all(list(bare(row)) == columns for row in rows), name
        job = org.call("POST", "jobs/query", {"operation": "query", "query": soql}).json()
        org.clock.move_to(org.clock.now() + 5)
        org.system.run_due()
        answer = org.call("GET", f"jobs/query/{job['id']}/results")
        assert answer.headers["Sforce-NumberOfRecords"] == str(len(rows)), name


def test_header_names_keep_their_capitals(sandbox: SandboxHandle) -> None:
    """A connector that looks for `Content-Type` in a plain dict finds it, as it does at Salesforce.

    Sandbox facts 4.5.
    """
    url = urlsplit(sandbox.ready["salesforce_url"])
    connection = HTTPConnection(url.hostname or "", url.port, timeout=30)
    connection.request("GET", "/services/data/v64.0/limits")
    names = [name for name, _ in connection.getresponse().getheaders()]
    connection.close()
    assert {"Content-Type", "Date", "Sforce-Limit-Info"} <= set(names)


def test_compression_both_ways(sandbox: SandboxHandle) -> None:
    """REST62 and 3.2: bodies may come compressed, and answers go out compressed to who asks for it."""
    url = urlsplit(sandbox.ready["salesforce_url"])
    token = {"Authorization": f"Bearer {sandbox.ready['access_token']}", "Content-Type": "application/json"}
    connection = HTTPConnection(url.hostname or "", url.port, timeout=30)
    packed = gzip.compress(b'{"Name": "Packed"}')
    connection.request("POST", "/services/data/v64.0/sobjects/Account", packed, token | {"Content-Encoding": "gzip"})
    created = connection.getresponse()
    assert (created.status, json.loads(created.read())["success"]) == (201, True)
    connection.request("GET", "/services/data/v64.0/sobjects", headers=token | {"Accept-Encoding": "gzip"})
    answer = connection.getresponse()
    assert answer.headers["Content-Encoding"] == "gzip"
    assert "Account" in [o["name"] for o in json.loads(gzip.decompress(answer.read()))["sobjects"]]
    connection.request("GET", "/services/data/v64.0/sobjects", headers=token)
    answer = connection.getresponse()
    assert answer.headers["Content-Encoding"] is None
    assert json.loads(answer.read())["maxBatchSize"] == 200
    connection.request(
        "POST", "/services/data/v64.0/sobjects/Account", b"no gzip", token | {"Content-Encoding": "gzip"}
    )
    assert connection.getresponse().status == 400
    connection.close()


def test_xml_is_refused_by_name(org: Org) -> None:
    """Salesforce also speaks XML; the sandbox says that it does not, and answers JSON to whoever takes anything.

    Sandbox facts 1.
    """
    token = {"Authorization": f"Bearer {org.system.access_token}"}
    for accept, status in (("application/xml", 501), ("application/xml, */*", 200), ("text/csv", 200)):
        answer = org.session.get(
            f"{org.url}/services/data/v64.0/limits", headers=token | {"Accept": accept}, timeout=30
        )
        assert answer.status_code == status, accept
    answer = org.session.post(
        f"{org.url}/services/data/v64.0/sobjects/Account",
        data="<Account><Name>X</Name></Account>",
        headers=token | {"Content-Type": "application/xml"},
        timeout=30,
    )
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (501, "sandbox_unsupported")
