"""The rules file: every mistake is one line with its place and the nearest name, and never a crash."""

from __future__ import annotations

import dataclasses
import re
from importlib import resources
from pathlib import Path

import pytest

from sync_pipeline.config.rules import RulesError, load_rules, read_rules
from sync_pipeline.core.rules import Bulk, Commercial, Guards, Priority, Retention, Snapshots
from sync_pipeline.core.salesforce_records import SALESFORCE_RECORDS

SHIPPED = resources.files("sync_pipeline.config").joinpath("rules.yaml").read_text("utf-8")


def changed(tmp_path: Path, before: str, after: str) -> Path:
    assert SHIPPED.count(before) >= 1, f"the shipped rules have no {before!r} any more"
    path = tmp_path / "rules.yaml"
    path.write_text(SHIPPED.replace(before, after, 1), "utf-8")
    return path


def mistakes(path: Path) -> list[str]:
    with pytest.raises(RulesError) as caught:
        load_rules(path)
    return str(caught.value).splitlines()


def line_of(path: Path, text: str) -> int:
    return path.read_text("utf-8")[: path.read_text("utf-8").index(text)].count("\n") + 1


def test_the_shipped_rules_are_a_file_that_a_user_can_copy(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SHIPPED, "utf-8")
    assert load_rules(path) == load_rules()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "kind: mirror, source: account_name",
            "kind: miror, source: account_name",
            "kind 'miror' is not known; did you mean mirror?",
        ),
        ("source: account_mrr,", "source: acount_mrr,", "source 'acount_mrr' is not known; did you mean account_mrr?"),
        ("canon: address", "canon: adress", "canon 'adress' is not known; did you mean address?"),
        ("owner: salesforce", "owner: sales", "owner 'sales' is not known; did you mean salesforce?"),
        (
            "on_foreign_edit: revert",
            "on_foreign_edit: rever",
            "on_foreign_edit 'rever' is not known; did you mean revert?",
        ),
        ("priority: bulk", "priority: bulky", "priority 'bulky' is not known; did you mean bulk?"),
        (
            "target: account.mrr,",
            "target: account.mmr,",
            "target 'account.mmr' is not known; did you mean account.mrr?",
        ),
        (
            "target: customer.name,",
            "target: customer.nam,",
            "target 'customer.nam' is not known; did you mean customer.name?",
        ),
        ("personal: true, why", "personnal: true, why", "key 'personnal' is not known; did you mean personal?"),
    ],
)
def test_a_wrong_word_is_shown_with_its_line_and_the_nearest_right_one(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    path = changed(tmp_path, before, after)
    assert mistakes(path)[0] == f"{path}:{line_of(path, after)}: {message}"


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(SHIPPED.replace("kind: latch", "kind: lach").replace("kind: fold", "kind: flod"), "utf-8")
    found = mistakes(path)
    assert [re.search(r"'(\w+)'", line).group(1) for line in found] == ["flod", "lach"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("time_zone: Europe/London", "time_zone: Europe/Lundon", "time_zone 'Europe/Lundon' is not known"),
        (
            "mrr: {}",
            "mrr: {GPB: 5000}",
            "mrr {'GPB': 5000}: currency 'GPB' is not known; expected one that Stripe bills",
        ),
        ("default_currency: GBP", "default_currency: pounds", "default_currency 'pounds': expected an ISO code"),
        (
            "default_currency: GBP",
            "default_currency: GPB",
            "default_currency 'GPB': currency 'GPB' is not known; expected one that Stripe bills",
        ),
        ("task_queue: null", "task_queue: 00G", "task_queue '00G': expected the id of a user (005...) or a queue (00G"),
        (
            "task_queue: null",
            "task_queue: 001Aa0000000001IAA",
            "expected the id of a user (005...) or a queue (00G...)",
        ),
        (
            "task_queue: null",
            "task_queue: 00GAa0000000001IAB",
            "expected the id of a user (005...) or a queue (00G...)",
        ),
        ("task_queue: null", "task_queue: 5", "task_queue 5: expected the id of a user (005...) or a queue (00G...)"),
        ("collection_method: send_invoice", "collection_method: send_invoices", "did you mean send_invoice?"),
        ("days_until_due: 30", "days_until_due: thirty", "days_until_due"),
        ("commands_days: 90", "commands_days: 1", "expected a whole number from 31"),
        ("go_live: null", "go_live: soon", "go_live"),
        ("go_live: null", "go_live: 2026-02-30", "go_live '2026-02-30': expected a day as 2026-01-31"),
        (
            "go_live: null",
            "go_live: 2026-01-31T25:00:00",
            "go_live '2026-01-31T25:00:00': expected a day as 2026-01-31",
        ),
        ("go_live: null", "go_live: 0001-01-01T00:00:00+23:00", "expected a day as 2026-01-31"),
        ("go_live: null", "go_live: !!timestamp soon", "go_live 'soon': expected a day as 2026-01-31"),
        ("days_until_due: 30", "days_until_due: 0b_", "days_until_due '0b_': expected a whole number from 0"),
        ("days_until_due: 30", "days_until_due: !!bool maybe", "days_until_due 'maybe': expected a whole number"),
        ("Monthly: [month, 1]", "Monthly: month", "Monthly"),
        ("Monthly: [month, 1]", "Monthly: [fortnight, 1]", "Monthly"),
        ("Monthly: [month, 1]", "Monthly: [month, 0]", "Monthly"),
        ("seat_families: [Seats]", "seat_families: Seats", "seat_families"),
        ("days_until_due: 30", "days_until_du: 30", "did you mean days_until_due?"),
    ],
)
def test_a_wrong_commercial_value_is_named(tmp_path: Path, before: str, after: str, message: str) -> None:
    (found,) = mistakes(changed(tmp_path, before, after))
    assert message in found
    assert re.match(r".*rules\.yaml:\d+: ", found)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("  account:\n    object", "  acount:\n    object", "'acount' is not known; did you mean account?"),
        ("lifetime_value: Lifetime_Value__c", "lifetime_valu: Lifetime_Value__c", "did you mean lifetime_value?"),
        ("      id: Id\n", "      id: [Id]\n", "id: expected an API name as My_Field__c, found ['Id']"),
        ("object: Contract", "objekt: Contract", "object"),
    ],
)
def test_a_wrong_salesforce_name_is_named(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert any(message in line for line in mistakes(changed(tmp_path, before, after)))


def test_two_rules_for_one_field_are_a_mistake(tmp_path: Path) -> None:
    path = changed(tmp_path, "target: account.seats,", "target: account.mrr,")
    (found,) = mistakes(path)
    assert "account.mrr" in found
    assert "twice" in found


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("source: account_name, canon: text", "source: account_name, canon: money"),
        ("source: account_mrr, canon: money", "source: account_mrr, canon: number"),
        ("kind: mirror, source: account_plan", "kind: latch, source: account_plan"),
        ("kind: mirror, source: account_mrr,", "kind: min, source: account_mrr,"),
    ],
)
def test_a_form_or_kind_that_does_not_fit_the_source_is_a_mistake(tmp_path: Path, before: str, after: str) -> None:
    """It would otherwise raise in the planner, for every account, at run time."""
    path = changed(tmp_path, before, after)
    (found,) = mistakes(path)
    assert found.startswith(f"{path}:{line_of(path, after)}: ")


@pytest.mark.parametrize("word", ["'yes'", "'false'", "1", "null"])
def test_personal_is_true_or_false_and_nothing_like_it(tmp_path: Path, word: str) -> None:
    (found,) = mistakes(changed(tmp_path, "personal: true", f"personal: {word}"))
    assert "personal" in found


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("5", 1),
        ("[]", 1),
        ("fields: 5", 1),
        ("commercial: {}\nfields: [5]", 2),
        ("salesforce: [1]", 1),
        ("salesforce: {account: 5}", 1),
        ("commercial: 5", 1),
        ("fields: [{kind: [mirror]}]", 1),
        ("fields:\n  - {kind: mirror}", 2),
        ("fields: {a: [\n", 2),
        ("a: 1\n\tb: 2", 2),
        ("commercial: &a {go_live: *a}", 1),
        ("? [a]\n: 1", 1),
        ("commercial:\n  days_until_due: 5\n  intervals: {[a]: 1}", 3),
    ],
)
def test_a_file_of_another_shape_is_a_mistake_with_its_line_not_a_crash(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text, "utf-8")
    assert [found.rpartition(": ")[0].startswith(f"{path}:{line}") for found in mistakes(path)] == [True]


@pytest.mark.parametrize("text", ["", "# nothing of our own yet\n", "commercial:\nsalesforce:\nfields:\n"])
def test_a_file_that_says_nothing_is_not_taken_for_the_shipped_one(tmp_path: Path, text: str) -> None:
    """A file is empty for a moment while it is saved: without its go_live, every deal that was ever won was billed."""
    path = tmp_path / "rules.yaml"
    path.write_text(text, "utf-8")
    assert mistakes(path) == [f"{path}:1: the file says nothing; write what differs, or take SYNC_RULES away"]


def test_a_part_without_settings_is_the_shipped_one(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("commercial:\n  go_live: 2026-02-01\nsalesforce:\nfields:\n", "utf-8")
    shipped = load_rules()
    assert load_rules(path) == dataclasses.replace(
        shipped, commercial=dataclasses.replace(shipped.commercial, go_live="2026-02-01")
    )


def test_a_file_holds_only_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(
        """
commercial: {days_until_due: 14}
salesforce:
  account: {fields: {mrr: Monthly__c}}
  churn_record: {object: Loss__c}
fields:
  - {target: account.billing_plan, on_foreign_edit: accept}
  - {target: account.seats, kind: none}
""",
        "utf-8",
    )
    found, shipped = load_rules(path), load_rules()
    assert found.commercial == dataclasses.replace(shipped.commercial, days_until_due=14)
    assert found.salesforce["account"].fields == {**shipped.salesforce["account"].fields, "mrr": "Monthly__c"}
    assert found.salesforce["churn_record"].object == "Loss__c"
    assert found.salesforce["churn_record"].fields == shipped.salesforce["churn_record"].fields
    rows, before = ({rule.target: rule for rule in rules.fields} for rules in (found, shipped))
    assert rows.keys() == before.keys() - {"account.seats"}
    changed = dataclasses.replace(before["account.billing_plan"], on_foreign_edit="accept")
    assert rows == {**{t: r for t, r in before.items() if t != "account.seats"}, "account.billing_plan": changed}


def test_every_part_has_its_place(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("commercial:\n  go_live: 2026-01-01\nfields:\n  - target: account.seats\n    kind: none\n", "utf-8")
    file = read_rules(path)
    assert file.place(("commercial", "go_live")) == f"{path}:2"
    assert file.place(("fields", "account.seats")) == f"{path}:4"
    default = ("salesforce", "account", "fields", "mrr")
    assert file.place(default) == f"{path} (default of salesforce.account.fields.mrr)"
    assert read_rules().place(default).startswith("rules.yaml:")


def test_two_names_for_one_field_are_a_mistake(tmp_path: Path) -> None:
    """Two rules would write to it in turns for ever."""
    path = tmp_path / "rules.yaml"
    path.write_text("salesforce:\n  account:\n    fields:\n      seats: MRR__c\n", "utf-8")
    assert mistakes(path) == [f"{path}:4: seats: MRR__c is the field of mrr too"]


def test_every_field_of_every_record_has_a_name() -> None:
    for kind, record in SALESFORCE_RECORDS.items():
        # The member of the Account's team is read by a subquery of a standard object, whose names cannot change.
        assert {field.name for field in dataclasses.fields(record)} - {"team_owner_id"} == load_rules().salesforce[
            kind
        ].fields.keys()


def test_every_setting_has_a_comment_a_default_that_is_shipped_and_a_use() -> None:
    """A setting that nothing reads would be a promise that nobody keeps."""
    rooms = [resources.files(f"sync_pipeline.{room}") for room in ("core", "engine", "orchestration")]
    code = "".join(file.read_text("utf-8") for room in rooms for file in room.iterdir() if file.name.endswith(".py"))
    lines = SHIPPED[: SHIPPED.index("\nsalesforce:")].splitlines()
    parts = (Commercial, Guards, Retention, Bulk, Snapshots)
    settings = {field.name for part in parts for field in dataclasses.fields(part)}
    assert settings == _settings_of(lines).keys()
    for name, number in _settings_of(lines).items():
        above = number - 1
        while re.match(r"  \w+:", lines[above]):
            above -= 1
        assert lines[above].strip().startswith("#"), f"{name} has no comment"
        assert re.search(rf"\.{name}\b", code), f"nothing uses {name}"


def _settings_of(lines: list[str]) -> dict[str, int]:
    """The names of the settings with their lines, from the text itself."""
    return {line.strip().partition(":")[0]: number for number, line in enumerate(lines) if re.match(r"  \w+:", line)}


def test_a_key_that_stands_twice_is_a_mistake(tmp_path: Path) -> None:
    """YAML would silently keep the last one."""
    found = mistakes(changed(tmp_path, "      mrr: MRR__c\n", "      mrr: MRR__c\n      mrr: Other_MRR__c\n"))
    assert any("mrr" in line and "twice" in line for line in found)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match=r"absent\.yaml"):
        load_rules(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("named", "kept"),
    [
        # The capitals of the first five are G and A, at 2 and 3: 4 + 8 = 12, which is M.
        ("00GAa0000000001", "00GAa0000000001MAA"),
        ("00GAa0000000001MAA", "00GAa0000000001MAA"),
        ("005Aa0000000001IAA", "005Aa0000000001IAA"),
    ],
)
def test_a_queue_is_kept_by_the_id_that_salesforce_shows(tmp_path: Path, named: str, kept: str) -> None:
    """A Task that was given to the 15 characters shows the 18, which would look like another owner."""
    path = changed(tmp_path, "task_queue: null", f"task_queue: {named}")
    assert load_rules(path).commercial.task_queue == kept


def test_what_a_user_writes_takes_effect(tmp_path: Path) -> None:
    path = changed(tmp_path, "go_live: null", "go_live: 2026-01-01")
    assert load_rules(path).commercial.go_live == "2026-01-01"
    path = changed(tmp_path, "priority: bulk", "priority: sweep")
    assert Priority.SWEEP in {rule.priority for rule in load_rules(path).fields}
