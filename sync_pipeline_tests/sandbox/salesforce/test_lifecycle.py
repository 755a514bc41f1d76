"""Deletes, undeletes, merges, replication, trees, SOAP login, the org's own rules, currencies, custom objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import requests
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import SalesforceAuthenticationFailed, SalesforceMalformedRequest

from sync_pipeline.sandbox.salesforce.errors import SalesforceError
from sync_pipeline.sandbox.salesforce.package import PackageError, load
from sync_pipeline.sandbox.salesforce.settings import Automation, DuplicateRule, ValidationRule
from sync_pipeline_tests.sandbox.salesforce.served import START, Org


def moment(epoch: int) -> datetime:
    return datetime.fromtimestamp(epoch, UTC)


def code_of(org: Org, method: str, path: str, body: Any = None, **options: Any) -> str:
    return str(org.call(method, path, body, **options).json()[0]["errorCode"])


def test_delete_takes_details_along_and_undelete_brings_them_back(org: Org) -> None:
    """9.12: a soft delete takes details along and clears lookups; undelete brings both back."""
    account = org.person("Account", Name="A")
    contact = org.person("Contact", LastName="C", AccountId=account)
    child = org.person("Account", Name="B", ParentId=account)
    org.sf.Account.delete(account)
    assert org.query("SELECT Id FROM Contact") == []
    assert org.query("SELECT ParentId FROM Account") == [{"ParentId": None}]
    org.system.edit(object="Account", id=account, fields=None, undelete=True)
    assert org.query("SELECT Id FROM Contact") == [{"Id": contact}]
    assert org.query(f"SELECT ParentId FROM Account WHERE Id = '{child}'") == [{"ParentId": account}]


def test_records_that_come_back_together_name_each_other_again(org: Org) -> None:
    """9.12, and "Restore Records from the Recycle Bin": all custom lookups that were not replaced are restored."""
    account = org.person("Account", Name="A")
    deal, amendment = (
        org.person("Opportunity", Name=name, AccountId=account, StageName="Prospecting", CloseDate="2026-10-01")
        for name in ("Deal", "Amendment")
    )
    org.person("Opportunity", amendment, Amends_Opportunity__c=deal)
    org.sf.Account.delete(account)
    org.system.edit(object="Account", id=account, fields=None, undelete=True)
    assert org.query(f"SELECT Amends_Opportunity__c FROM Opportunity WHERE Id = '{amendment}'") == [
        {"Amends_Opportunity__c": deal}
    ]


def test_a_deal_comes_back_with_its_lines(org: Org) -> None:
    """2.4: only directly deleted lines skip the recycle bin."""
    book = org.query("SELECT Id FROM Pricebook2 WHERE IsStandard = true")[0]["Id"]
    product = org.person("Product2", Name="P", IsActive=True)
    entry = org.person("PricebookEntry", Product2Id=product, Pricebook2Id=book, UnitPrice=1, IsActive=True)
    deal = org.person("Opportunity", Name="D", StageName="Prospecting", CloseDate="2026-10-01")
    org.person("OpportunityLineItem", OpportunityId=deal, PricebookEntryId=entry, Quantity=2, UnitPrice=5)
    org.sf.Opportunity.delete(deal)
    assert org.sf.query("SELECT COUNT() FROM OpportunityLineItem")["totalSize"] == 0
    org.system.edit(object="Opportunity", id=deal, fields=None, undelete=True)
    assert org.query("SELECT Amount, (SELECT Quantity FROM OpportunityLineItems) FROM Opportunity") == [
        {"Amount": 10.0, "OpportunityLineItems": {"totalSize": 1, "done": True, "records": [{"Quantity": 2.0}]}}
    ]


def test_what_was_rolled_back_is_still_found(org: Org) -> None:
    """2.6: a failed composite leaves nothing behind, in what queries look up either."""
    record_id = org.person("Account", Name="A", Stripe_Customer_Id__c="cus_1")
    base = "/services/data/v64.0"
    parts = [
        {
            "method": "PATCH",
            "url": f"{base}/sobjects/Account/{record_id}",
            "referenceId": "a",
            "body": {"Stripe_Customer_Id__c": "cus_2"},
        },
        {
            "method": "GET",
            "url": f"{base}/query?q=SELECT+Id+FROM+Account+WHERE+Stripe_Customer_Id__c='cus_2'",
            "referenceId": "b",
        },
        {"method": "POST", "url": f"{base}/sobjects/Account", "referenceId": "c", "body": {}},
    ]
    org.call("POST", "composite", {"allOrNone": True, "compositeRequest": parts})
    assert org.query("SELECT Id FROM Account WHERE Stripe_Customer_Id__c = 'cus_1'") == [{"Id": record_id}]
    assert org.query("SELECT Id FROM Account WHERE Stripe_Customer_Id__c = 'cus_2'") == []


def test_the_recycle_bin_is_emptied_after_fifteen_days(org: Org) -> None:
    """5.2: until then queryAll shows the record."""
    account = org.person("Account", Name="A")
    org.sf.Account.delete(account)
    assert org.system.next_due() == START + 15 * 86400
    for moment_of_look, found in ((START + 15 * 86400 - 1, 1), (START + 15 * 86400, 0)):
        org.clock.move_to(moment_of_look)
        org.system.run_due()
        assert org.sf.query("SELECT Id FROM Account", include_deleted=True)["totalSize"] == found
    with pytest.raises(SalesforceError, match="UNDELETE_FAILED"):
        org.system.edit(object="Account", id=account, fields=None, undelete=True)
    assert org.system.next_due() is None


def test_undelete_may_collide(org: Org) -> None:
    """10.8: the value was taken meanwhile."""
    account = org.person("Account", Name="A", Stripe_Customer_Id__c="cus_1")
    org.sf.Account.delete(account)
    org.person("Account", Name="B", Stripe_Customer_Id__c="cus_1")
    with pytest.raises(SalesforceError, match="DUPLICATE_VALUE"):
        org.system.edit(object="Account", id=account, fields=None, undelete=True)
    assert org.sf.query("SELECT Id FROM Account WHERE IsDeleted = true", include_deleted=True)["totalSize"] == 1


def test_merge(org: Org) -> None:
    """10.8: the loser goes to the bin with MasterRecordId, details move, the winner keeps its own values."""
    winner = org.person("Account", Name="W")
    loser = org.person("Account", Name="L", Stripe_Customer_Id__c="cus_1")
    deal = org.person("Opportunity", Name="D", AccountId=loser, StageName="Prospecting", CloseDate="2026-10-01")
    org.clock.move_to(START + 60)
    merged = org.system.merge(object="Account", winner=winner, loser=loser)
    assert (merged["Id"], merged.get("Stripe_Customer_Id__c")) == (winner, None)
    gone = org.sf.query(
        "SELECT Id, Stripe_Customer_Id__c, SystemModstamp FROM Account WHERE IsDeleted = true AND MasterRecordId = "
        f"'{winner}'",
        include_deleted=True,
    )["records"]
    assert [(r["Id"], r["Stripe_Customer_Id__c"]) for r in gone] == [(loser, "cus_1")]
    moved = org.query("SELECT Id, AccountId, SystemModstamp FROM Opportunity")[0]
    assert moved == {"Id": deal, "AccountId": winner, "SystemModstamp": gone[0]["SystemModstamp"]}
    assert org.sf.Account.update(winner, {"Stripe_Customer_Id__c": "cus_1"}) == 204


def test_updated_and_deleted(org: Org) -> None:
    """2.4: to the minute, with latestDateCovered; deleted lines and the like only here."""
    first = org.person("Account", Name="A")
    org.clock.move_to(START + 300)
    second = org.person("Account", Name="B")
    org.sf.Account.delete(first)
    org.clock.move_to(START + 400)
    updated = org.sf.Account.updated(moment(START + 60), moment(START + 360))
    assert updated["ids"] == [second]
    minute = (START + 360) // 60 * 60
    assert updated["latestDateCovered"] == moment(minute).strftime("%Y-%m-%dT%H:%M:%S.000+0000")
    deleted = org.sf.Account.deleted(moment(START), moment(START + 360))
    assert deleted["deletedRecords"] == [{"id": first, "deletedDate": "2026-09-21T14:18:20.000+0000"}]
    assert org.sf.Account.updated(moment(START), moment(START + 240))["ids"] == []


def test_replication_windows_have_limits(org_with: Callable[..., Org]) -> None:
    """2.4: start precedes end by a minute, 30 days of updates; latestDateCovered lags."""
    org = org_with(replication_lag=3600)
    org.person("Account", Name="A")
    org.clock.move_to(START + 60)
    covered = org.sf.Account.updated(moment(START - 7200), moment(START + 60))
    assert covered["ids"] == []
    assert covered["latestDateCovered"] < "2026-09-21T13:15"
    for start, end in ((START, START + 30), (START - 31 * 86400, START)):
        with pytest.raises(SalesforceMalformedRequest, match="INVALID_REPLICATION_DATE"):
            org.sf.Account.updated(moment(start), moment(end))


def test_tree(org: Org) -> None:
    """2.6: nested records, all or nothing, only the bad ones listed."""
    contact = {"attributes": {"type": "Contact", "referenceId": "c"}, "LastName": "C"}
    account = {"attributes": {"type": "Account", "referenceId": "a"}, "Name": "A", "Contacts": {"records": [contact]}}
    answer = org.call("POST", "composite/tree/Account", {"records": [account]})
    assert (answer.status_code, answer.json()["hasErrors"]) == (201, False)
    assert [r["referenceId"] for r in answer.json()["results"]] == ["a", "c"]
    assert org.query("SELECT Account.Name FROM Contact") == [{"Account": {"Name": "A"}}]
    bad = {"attributes": {"type": "Account", "referenceId": "bad"}}
    failed = org.call("POST", "composite/tree/Account", {"records": [account, bad]})
    assert failed.status_code == 400
    assert [r["referenceId"] for r in failed.json()["results"]] == ["bad"]
    assert org.sf.query("SELECT COUNT() FROM Account")["totalSize"] == 1


def test_soap_login(org: Org) -> None:
    """1.4: until version 64; not from 65 on."""
    sf = Salesforce(
        username=org.system.username,
        password=org.system.password,
        security_token=org.system.security_token,
        domain="acme.my",
        session=org.session,
        version="64.0",
    )
    assert sf.query("SELECT COUNT() FROM Account")["totalSize"] == 0
    for version, password, code in (
        ("65.0", org.system.password, "UNSUPPORTED_API_VERSION"),
        ("64.0", "no", "INVALID_LOGIN"),
    ):
        with pytest.raises(SalesforceAuthenticationFailed, match=code):
            Salesforce(
                username=org.system.username,
                password=password,
                security_token=org.system.security_token,
                domain="acme.my",
                session=org.session,
                version=version,
            )


def soap(org: Org, call: str, session: str) -> requests.Response:
    """A SOAP call at a version that has no login any more, with a session from elsewhere."""
    body = (
        '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" xmlns="urn:partner.soap.sforce.com"><e:Header>'
        f"<SessionHeader><sessionId>{session}</sessionId></SessionHeader></e:Header><e:Body><{call}/></e:Body>"
        "</e:Envelope>"
    )
    headers = {"Content-Type": "text/xml", "SOAPAction": '""'}
    return org.session.post(f"{org.url}/services/Soap/u/66.0", data=body, headers=headers, timeout=30)


def test_soap_calls_of_a_session(org: Org) -> None:
    """1.4, 1.6: who and when it is, and the end of the session: jsforce's logout, and its getUserInfo and clock."""
    session = org.sf.session_id
    told = soap(org, "getUserInfo", session)
    found = {e.tag.rpartition("}")[2]: e.text for e in ElementTree.fromstring(told.content).iter()}
    (profile,) = org.query("SELECT Id FROM Profile WHERE Name = 'System Administrator'")
    assert (told.status_code, found["userName"], found["organizationId"]) == (
        200,
        org.system.username,
        org.system.org_id,
    )
    assert (found["profileId"], found["organizationMultiCurrency"]) == (profile["Id"], "false")
    when = soap(org, "getServerTimestamp", session).text
    assert f"<timestamp>{datetime.fromtimestamp(START, UTC):%Y-%m-%dT%H:%M:%S}.000Z</timestamp>" in when
    assert soap(org, "logout", session).status_code == 200
    refused = soap(org, "getUserInfo", session)
    assert refused.status_code == 500
    assert "<faultcode>sf:INVALID_SESSION_ID</faultcode>" in refused.text
    again = org.call("GET", "limits", headers={"Authorization": f"Bearer {session}"})
    assert (again.status_code, again.json()[0]["errorCode"]) == (401, "INVALID_SESSION_ID")
    assert soap(org, "convertLead", session).status_code == 501


def test_record_counts(org: Org) -> None:
    """REST67 record count: of the objects that are named, or of all; what is in the recycle bin does not count."""
    made = [org.person("Account", Name=n) for n in "AB"]
    org.sf.Account.delete(made[0])
    counted = org.call("GET", "limits/recordCount?sObjects=Account,contact,Nothing").json()
    assert counted == {"sObjects": [{"count": 1, "name": "Account"}, {"count": 0, "name": "Contact"}]}
    every = {each["name"] for each in org.call("GET", "limits/recordCount").json()["sObjects"]}
    assert every == {each["name"] for each in org.sf.describe()["sobjects"]}


def test_profiles_and_permission_sets(org_with: Callable[..., Org]) -> None:
    """8.3: the integration user's profile, and the permission sets of the package that are assigned to it."""
    org = org_with(minimum_profile=True)
    who = "Assignee.Username, Assignee.Profile.Name, PermissionSet.Name, PermissionSet.IsOwnedByProfile"
    profile = {"Name": "Minimum Access - API Only Integrations"}
    assert org.query(f"SELECT {who} FROM PermissionSetAssignment WHERE PermissionSet.Name = 'Stripe_Sync'") == [
        {
            "Assignee": {"Username": org.system.username, "Profile": profile},
            "PermissionSet": {"Name": "Stripe_Sync", "IsOwnedByProfile": False},
        }
    ]


def test_bulk_api_1_is_not_there(org: Org) -> None:
    """facts/sandbox.md 3: /services/async/ answers 400 FeatureNotEnabled, in the form and with the message by which
    dlt's source and jsforce know it."""
    answer = org.call("POST", "/services/async/64.0/job", {})
    told = {"exceptionCode": "FeatureNotEnabled", "exceptionMessage": "Async API not enabled"}
    assert (answer.status_code, answer.json()) == (400, told)
    with pytest.raises(SalesforceMalformedRequest, match="Async API not enabled"):
        org.sf.bulk.Account.query_all("SELECT Id FROM Account")
    xml = org.session.post(f"{org.url}/services/async/64.0/job", data="<jobInfo/>", timeout=30)
    found = {e.tag.rpartition("}")[2]: e.text for e in ElementTree.fromstring(xml.content)}
    assert (xml.status_code, found) == (400, told)


def test_validation_rules(org_with: Callable[..., Org]) -> None:
    """facts/sandbox.md 2: a validation rule is among the faults of Salesforce."""
    rule = ValidationRule("Opportunity", "IsWon = true AND Amount = null", "A won deal needs an amount", "Amount")
    org = org_with(validation_rules=(rule,))
    deal = {"Name": "D", "StageName": "Closed Won", "CloseDate": "2026-10-01"}
    answer = org.call("POST", "sobjects/Opportunity", deal)
    assert (answer.status_code, answer.json()) == (
        400,
        [
            {
                "message": "A won deal needs an amount",
                "errorCode": "FIELD_CUSTOM_VALIDATION_EXCEPTION",
                "fields": ["Amount"],
            }
        ],
    )
    assert org.call("POST", "sobjects/Opportunity", deal | {"Amount": 1}).status_code == 201


@pytest.mark.parametrize(("block", "status"), [(True, 400), (False, 201)])
def test_duplicate_rules(org_with: Callable[..., Org], block: bool, status: int) -> None:
    """2.1, 10.12: allowSave overrides an alert, never a block; the key is spelled `duplicateResut`."""
    org = org_with(duplicate_rules=(DuplicateRule("Account", ("Name",), block=block),))
    first = org.person("Account", Name="Acme")
    error = org.call("POST", "sobjects/Account", {"Name": "ACME"}).json()[0]
    assert error["errorCode"] == "DUPLICATES_DETECTED"
    assert error["duplicateResut"]["matchResults"][0]["matchRecords"][0]["record"]["Id"] == first
    header = {"Sforce-Duplicate-Rule-Header": "allowSave=true"}
    assert org.call("POST", "sobjects/Account", {"Name": "ACME"}, headers=header).status_code == status
    assert org.call("PATCH", f"sobjects/Account/{first}", {"Phone": "1"}).status_code == 204


def test_automation_changes_what_was_saved(org_with: Callable[..., Org]) -> None:
    """4: re-read what automation may change."""
    org = org_with(automations=(Automation("Account", "Seats__c > 100", {"Rating": "Hot"}),))
    record_id = org.sf.Account.create({"Name": "A", "Seats__c": 101, "Rating": "Cold"})["id"]
    assert org.sf.Account.get(record_id)["Rating"] == "Hot"


def test_what_automation_sets_is_derived_from_as_well(org_with: Callable[..., Org]) -> None:
    """4: flows before the save come first, what the object derives comes after."""
    rule = Automation("Opportunity", "IsWon = true AND Amount = null", {"Amount": 10, "StageName": "Closed Lost"})
    org = org_with(automations=(rule,))
    deal = {"Name": "D", "StageName": "Closed Won", "CloseDate": "2026-10-01"}
    row = org.sf.Opportunity.get(org.sf.Opportunity.create(deal)["id"])
    assert (row["Amount"], row["StageName"], row["IsWon"], row["ExpectedRevenue"]) == (10.0, "Closed Lost", False, 0.0)


def test_single_currency_orgs_have_no_currency_field(org: Org) -> None:
    """6.8: INVALID_FIELD, and no CurrencyType."""
    assert code_of(org, "GET", "query?q=SELECT+CurrencyIsoCode+FROM+Opportunity") == "INVALID_FIELD"
    assert code_of(org, "GET", "query?q=SELECT+Id+FROM+CurrencyType") == "INVALID_TYPE"


def test_multi_currency(org_with: Callable[..., Org]) -> None:
    """6.8, 6.2: a default, restricted values, lines in the deal's currency, prices that must match it."""
    org = org_with(multi_currency=True)
    codes = org.query("SELECT IsoCode, DecimalPlaces FROM CurrencyType WHERE IsActive = true ORDER BY IsoCode")
    assert {"IsoCode": "JPY", "DecimalPlaces": 0} in codes
    account = org.person("Account", Name="A")
    assert org.sf.Account.get(account)["CurrencyIsoCode"] == "GBP"
    assert code_of(org, "POST", "sobjects/Account", {"Name": "B", "CurrencyIsoCode": "XXX"}) == (
        "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"
    )
    book = org.query("SELECT Id FROM Pricebook2 WHERE IsStandard = true")[0]["Id"]
    product = org.person("Product2", Name="P", IsActive=True)
    entries = {
        c: org.person(
            "PricebookEntry", Product2Id=product, Pricebook2Id=book, UnitPrice=1, IsActive=True, CurrencyIsoCode=c
        )
        for c in ("USD", "GBP")
    }
    deal = org.person("Opportunity", Name="D", StageName="Prospecting", CloseDate="2026-10-01", CurrencyIsoCode="USD")
    line = {"OpportunityId": deal, "Quantity": 1, "UnitPrice": 5}
    assert code_of(org, "POST", "sobjects/OpportunityLineItem", line | {"PricebookEntryId": entries["GBP"]}) == (
        "FIELD_INTEGRITY_EXCEPTION"
    )
    made = org.sf.OpportunityLineItem.create(line | {"PricebookEntryId": entries["USD"]})["id"]
    assert org.sf.OpportunityLineItem.get(made)["CurrencyIsoCode"] == "USD"


def test_people_are_not_bound_by_the_integration_users_permissions(org_with: Callable[..., Org]) -> None:
    """8.3: the permissions are those of the one integration user, whose own id shows who wrote."""
    org = org_with(minimum_profile=True)
    people = org.query("SELECT Id FROM User WHERE Name = 'Casey Success'")
    record = org.system.edit(
        object="Account", id=None, fields={"Name": "A", "Industry": "Banking"}, user=people[0]["Id"]
    )
    assert (record["Industry"], record["LastModifiedById"]) == ("Banking", people[0]["Id"])


def test_record_types_are_read_by_everybody_and_given_by_those_who_have_them(org_with: Callable[..., Org]) -> None:
    """Object reference, RecordType: a user without a record type cannot make such records, but reads them."""
    types = {"Opportunity.New_Business": False, "Opportunity.Renewal": True, "Opportunity.Closed_Down": True}
    org = org_with(minimum_profile=True, record_types=types)
    rows = org.query("SELECT Id, DeveloperName, SobjectType, IsActive FROM RecordType ORDER BY DeveloperName")
    ids = {row["DeveloperName"]: row["Id"] for row in rows}
    assert [(row["SobjectType"], row["IsActive"], row["Id"][:3]) for row in rows] == [("Opportunity", True, "012")] * 3
    org.system.org.store.table("RecordType")[ids["Closed_Down"]]["IsActive"] = False
    described = org.sf.Opportunity.describe()["recordTypeInfos"]
    keys = ("developerName", "recordTypeId", "active", "available", "defaultRecordTypeMapping", "master")
    assert [tuple(info[key] for key in keys) for info in described] == [
        ("New_Business", ids["New_Business"], True, False, False, False),
        ("Renewal", ids["Renewal"], True, True, False, False),
        ("Closed_Down", ids["Closed_Down"], False, True, False, False),
        ("Master", "012000000000000AAA", True, True, True, True),
    ]

    fields = {"Name": "D", "StageName": "Prospecting", "CloseDate": "2026-10-01"}
    for name in ("New_Business", "Closed_Down"):
        refused = org.call("POST", "sobjects/Opportunity", fields | {"RecordTypeId": ids[name]}).json()[0]
        assert refused == {
            "message": f"Record Type ID: this ID value isn't valid for the user: {ids[name]}",
            "errorCode": "INVALID_CROSS_REFERENCE_KEY",
            "fields": ["RecordTypeId"],
        }
    of_people = org.person("Opportunity", **fields)
    renewal = org.sf.Opportunity.create(fields | {"RecordTypeId": ids["Renewal"]})["id"]
    without = org.sf.Opportunity.create(fields)["id"]
    org.sf.Opportunity.update(of_people, {"Amount": 5})
    rows = org.query("SELECT Id, RecordType.DeveloperName FROM Opportunity WHERE Name = 'D'")
    assert {row["Id"]: (row["RecordType"] or {}).get("DeveloperName") for row in rows} == {
        of_people: "New_Business",
        renewal: "Renewal",
        without: None,
    }


def test_an_object_without_record_types_has_no_field_for_them(org: Org) -> None:
    """2.7, 8.3: describe knows Master alone, and a field that does not exist is INVALID_FIELD."""
    assert [info["developerName"] for info in org.sf.Opportunity.describe()["recordTypeInfos"]] == ["Master"]
    refused = org.call("GET", "query?q=SELECT+RecordTypeId+FROM+Opportunity").json()[0]
    assert (refused["errorCode"], "No such column 'RecordTypeId'" in refused["message"]) == ("INVALID_FIELD", True)


def test_people_are_known_by_id_or_by_what_they_do(org: Org) -> None:
    """Sandbox facts 2, 6.6: the edits of people are made by a user, who must exist."""
    made = org.system.edit(object="Account", id=None, fields={"Name": "A"}, user="success")
    assert org.system.select(f"SELECT Name FROM User WHERE Id = '{made['OwnerId']}'")[0]["Name"] == "Casey Success"
    with pytest.raises(SalesforceError, match="there is no user nobody"):
        org.system.edit(object="Account", id=None, fields={"Name": "A"}, user="nobody")


def test_snapshot_and_restore(org: Org) -> None:
    """facts/sandbox.md 2: snapshot and restore, for tests of crashes."""
    org.person("Account", Name="A", Stripe_Customer_Id__c="cus_1")
    kept = json.loads(json.dumps(org.system.snapshot()))
    truth = org.system.truth()
    org.person("Account", Name="B", Stripe_Customer_Id__c="cus_2")
    org.system.expire_tokens()
    org.system.restore(kept)
    assert org.system.truth() == truth
    assert org.query("SELECT Name FROM Account WHERE Stripe_Customer_Id__c IN ('cus_1', 'cus_2')") == [{"Name": "A"}]
    assert org.person("Account", Name="B") == "001" + truth["Account"][0]["Id"][3:14] + "2" + "IAA"


def test_custom_objects_of_a_package(org_with: Callable[..., Org], tmp_path: Path) -> None:
    """8.1: a package of its own, with an auto number, a lookup, a unique key and a permission set."""
    write_package(tmp_path)
    org = org_with(package=tmp_path, minimum_profile=True)
    account = org.person("Account", Name="A")
    first = org.sf.Churn__c.create({"Account__c": account, "Key__c": "k1", "Reason__c": "Price"})["id"]
    assert first.startswith("a00")
    assert org.call("PATCH", "sobjects/Churn__c/Key__c/K1", {"Reason__c": None}).json()["created"] is False
    assert org.query("SELECT Name, Account__r.Name, Reason__c, Final__c FROM Churn__c") == [
        {"Name": "CH-000001", "Account__r": {"Name": "A"}, "Reason__c": None, "Final__c": False}
    ]
    assert org.query("SELECT Name, (SELECT Name FROM Churns__r) FROM Account")[0]["Churns__r"]["records"] == [
        {"Name": "CH-000001"}
    ]
    hidden = org.call("GET", "query?q=SELECT+Secret__c+FROM+Churn__c").json()[0]
    assert hidden["errorCode"] == "INVALID_FIELD"
    task = org.sf.Task.create({"Subject": "S", "WhatId": first})["id"]
    assert org.query(f"SELECT What.Type FROM Task WHERE Id = '{task}'") == [{"What": {"Type": "Churn__c"}}]


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    """8.1: a package is a folder with sfdx-project.json."""
    with pytest.raises(PackageError, match=r"no Salesforce package at .*expected sfdx-project\.json"):
        load(tmp_path)


def write_package(root: Path) -> None:
    objects = root / "force-app/main/default/objects/Churn__c"
    (objects / "fields").mkdir(parents=True)
    (root / "sfdx-project.json").write_text("{}")
    space = 'xmlns="http://soap.sforce.com/2006/04/metadata"'
    (objects / "Churn__c.object-meta.xml").write_text(
        f"<CustomObject {space}><label>Churn</label><pluralLabel>Churns</pluralLabel><nameField><type>AutoNumber</type>"
        "<displayFormat>CH-{000000}</displayFormat><label>Number</label></nameField></CustomObject>"
    )
    fields = {
        "Account__c": "<type>Lookup</type><referenceTo>Account</referenceTo>"
        "<relationshipName>Churns</relationshipName>",
        "Key__c": "<type>Text</type><length>50</length><externalId>true</externalId><unique>true</unique>",
        "Reason__c": "<type>Picklist</type><valueSet><restricted>true</restricted><valueSetDefinition><value>"
        "<fullName>Price</fullName></value></valueSetDefinition></valueSet>",
        "Final__c": "<type>Checkbox</type><defaultValue>false</defaultValue>",
        "Secret__c": "<type>LongTextArea</type><length>1000</length>",
    }
    for name, body in fields.items():
        (objects / "fields" / f"{name}.field-meta.xml").write_text(
            f"<CustomField {space}><fullName>{name}</fullName><label>{name[:-3]}</label>{body}</CustomField>"
        )
    permissions = root / "force-app/main/default/permissionsets"
    permissions.mkdir()
    grants = "".join(
        f"<fieldPermissions><editable>true</editable><field>Churn__c.{name}</field><readable>true</readable>"
        "</fieldPermissions>"
        for name in fields
        if name != "Secret__c"
    )
    access = "".join(
        f"<objectPermissions><allowCreate>true</allowCreate><allowEdit>true</allowEdit><allowRead>true</allowRead>"
        f"<object>{name}</object></objectPermissions>"
        for name in ("Account", "Churn__c")
    )
    (permissions / "P.permissionset-meta.xml").write_text(
        f"<PermissionSet {space}>{grants}{access}<userPermissions><enabled>true</enabled><name>EditTask</name>"
        "</userPermissions></PermissionSet>"
    )
