"""The settings: every mistake names its variable, no secret shows itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sync_pipeline.config.settings import Secret, Settings, SettingsError, load_settings, sandbox_file

REAL = {
    "SALESFORCE_DOMAIN": "https://acme.my.salesforce.com",
    "SALESFORCE_CLIENT_ID": "client-id-canary",
    "SALESFORCE_CLIENT_SECRET": "client-secret-canary",
    "STRIPE_API_KEY": "sk_test_canary",
    "STRIPE_WEBHOOK_SECRETS": "whsec_canary_one, whsec_canary_two",
    "SYNC_DATABASE_URL": "postgresql+psycopg2://sync:canary@db/ledger",
}
READY = {
    "salesforce_url": "http://127.0.0.1:1",
    "stripe_url": "http://127.0.0.1:2",
    "control_url": "http://127.0.0.1:3",
    "client_id": "id",
    "client_secret": "secret",
    "stripe_key": "sk_test_sandbox",
    "webhook_secret": "whsec_sandbox",
}


def with_sandbox(home: Path) -> dict[str, str]:
    sandbox_file({"SYNC_HOME": str(home)}).write_text(json.dumps(READY), "utf-8")
    return {"SYNC_HOME": str(home)}


def test_real_credentials_lead_to_the_real_systems() -> None:
    found = load_settings(REAL)
    assert (found.salesforce_domain, found.salesforce_base_url, found.stripe_base_url) == ("acme.my", None, None)
    assert found.clock_url is None
    assert found.stripe_webhook_secrets == ("whsec_canary_one", "whsec_canary_two")
    assert (found.salesforce_api_version, found.poll_seconds, found.linger_seconds) == ("66.0", 30, 60)


def test_without_credentials_everything_is_the_running_sandbox(tmp_path: Path) -> None:
    found = load_settings(with_sandbox(tmp_path))
    assert found.salesforce_base_url == "http://127.0.0.1:1"
    assert found.stripe_base_url == "http://127.0.0.1:2"
    assert found.clock_url == "http://127.0.0.1:3/clock"
    assert found.stripe_api_key == "sk_test_sandbox"
    assert found.database_url == f"sqlite:///{tmp_path}/ledger.db"


@pytest.mark.parametrize("content", [None, "", "{", "{}", "[]"])
def test_no_credentials_and_no_sandbox_say_what_to_do(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        sandbox_file({"SYNC_HOME": str(tmp_path)}).write_text(content, "utf-8")
    with pytest.raises(SettingsError, match="start `sync-pipeline sandbox"):
        load_settings({"SYNC_HOME": str(tmp_path)})


@pytest.mark.parametrize("name", ["SALESFORCE_DOMAIN", "SALESFORCE_CLIENT_ID", "STRIPE_API_KEY"])
@pytest.mark.parametrize("value", ["", None])
def test_a_missing_credential_is_named(name: str, value: str | None) -> None:
    env = {key: text for key, text in REAL.items() if key != name} | ({} if value is None else {name: value})
    with pytest.raises(SettingsError, match=name):
        load_settings(env)


def test_a_sign_in_without_secret_or_key_names_both_ways() -> None:
    env = {name: value for name, value in REAL.items() if name != "SALESFORCE_CLIENT_SECRET"}
    with pytest.raises(
        SettingsError, match=r"SALESFORCE_CLIENT_SECRET.*SALESFORCE_USERNAME.*SALESFORCE_PRIVATE_KEY_FILE"
    ):
        load_settings(env)
    with pytest.raises(SettingsError, match="SALESFORCE_PRIVATE_KEY_FILE"):
        load_settings(env | {"SALESFORCE_USERNAME": "sync@acme.example"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SALESFORCE_BASE_URL", "localhost:8080"),
        ("STRIPE_BASE_URL", "ftp://stripe"),
        ("SYNC_CLOCK_URL", "nonsense"),
        ("SYNC_POLL_SECONDS", "0"),
        ("SYNC_POLL_SECONDS", "-1"),
        ("SYNC_POLL_SECONDS", "1.5"),
        ("SYNC_POLL_SECONDS", "²"),
        ("SYNC_LINGER_SECONDS", "soon"),
        ("SYNC_ALERT_WEBHOOK", "hooks.slack.com/services/T0"),
        ("SYNC_ALERT_EMAIL", "finance@acme.example"),
        ("SYNC_SMTP_URL", "smtp://mail.acme.example"),
        ("STRIPE_API_KEY", "pk_test_canary"),
        ("STRIPE_API_KEY", "whsec_canary"),
        ("SALESFORCE_API_VERSION", "v66"),
        ("SALESFORCE_API_VERSION", "66.0/../.."),
    ],
)
def test_every_mistake_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load_settings(REAL | {name: value})


@pytest.mark.parametrize(
    "text", ["acme.my", "acme.my.salesforce.com", "https://acme.my.salesforce.com", "https://acme.my.salesforce.com/"]
)
def test_the_domain_may_be_written_in_any_way(text: str) -> None:
    assert load_settings(REAL | {"SALESFORCE_DOMAIN": text}).salesforce_domain == "acme.my"


def test_a_private_key_wins_over_a_secret(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("a key")
    env = REAL | {"SALESFORCE_USERNAME": "sync@acme.example", "SALESFORCE_PRIVATE_KEY_FILE": str(key)}
    assert load_settings(env).salesforce_client_secret is None


def test_a_private_key_that_is_not_there_is_named() -> None:
    env = REAL | {"SALESFORCE_USERNAME": "sync@acme.example", "SALESFORCE_PRIVATE_KEY_FILE": "/nope.pem"}
    with pytest.raises(SettingsError, match=r"SALESFORCE_PRIVATE_KEY_FILE: there is no file /nope\.pem"):
        load_settings(env)


def test_a_private_key_needs_the_user_that_it_signs_in_as() -> None:
    with pytest.raises(SettingsError, match="needs SALESFORCE_USERNAME"):
        load_settings(REAL | {"SALESFORCE_PRIVATE_KEY_FILE": "/nope.pem"})


@pytest.mark.parametrize("name", ["SALESFORCE_DOMAIN", "SALESFORCE_USERNAME", "SALESFORCE_CLIENT_SECRET"])
def test_any_credential_switches_the_sandbox_off(name: str) -> None:
    """Half-set credentials must never be answered by the sandbox."""
    with pytest.raises(SettingsError, match="is not set; set it, or unset all credentials"):
        load_settings({name: "x"})


def shown_by_accident(settings: Settings) -> list[str]:
    return [repr(settings), str(settings), f"{settings}", repr([settings]), repr(settings.stripe_webhook_secrets)]


def test_no_secret_shows_where_settings_are_shown() -> None:
    for text in shown_by_accident(load_settings(REAL)):
        assert "canary" not in text
        assert "***" in text or "Secret" in text


def test_a_secret_is_still_the_text_that_a_client_needs() -> None:
    assert Secret("sk_1") == "sk_1"
    assert repr({"key": Secret("sk_1")}) == "{'key': '***'}"


def test_alerts_have_a_webhook_or_recipients_and_a_server_and_neither_address_is_shown() -> None:
    webhook, server = "https://hooks.slack.com/services/T0/B0/x", "smtps://sync:pass@mail.acme.example?from=a@b.c"
    env = REAL | {"SYNC_ALERT_WEBHOOK": webhook, "SYNC_ALERT_EMAIL": "a@b.c, d@e.f", "SYNC_SMTP_URL": server}
    settings = load_settings(env)
    assert (settings.alert_webhook, settings.alert_email, settings.smtp_url) == (webhook, ("a@b.c", "d@e.f"), server)
    assert "services/T0" not in repr(settings)
    assert "pass@" not in repr(settings)


def test_a_mail_server_is_written_as_an_smtp_address() -> None:
    env = REAL | {"SYNC_ALERT_EMAIL": "a@b.c", "SYNC_SMTP_URL": "mail.acme.example:25"}
    with pytest.raises(SettingsError, match="SYNC_SMTP_URL must be written as smtp://"):
        load_settings(env)
