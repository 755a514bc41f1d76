"""The settings: everything that comes from the environment, read once, checked, with secrets that never print.

With no credentials set, everything points at the running sandbox, whose ready line `sync-pipeline sandbox` leaves
in SYNC_HOME/sandbox.json.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

CREDENTIALS = (
    "SALESFORCE_DOMAIN",
    "SALESFORCE_CLIENT_ID",
    "SALESFORCE_CLIENT_SECRET",
    "SALESFORCE_USERNAME",
    "SALESFORCE_PRIVATE_KEY_FILE",
    "STRIPE_API_KEY",
)


class SettingsError(ValueError):
    """A setting that cannot be used; the message names the variable and what to do."""


class Secret(str):
    """A text that shows as *** wherever it is printed by accident."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """What an installation knows without any system: its folder, its ledger and its rules. Paths are absolute."""

    home: Path
    database_url: Secret
    rules_file: Path | None

    @property
    def warehouse(self) -> Path:
        """Where the Parquet tables are."""
        return self.home / "warehouse"


@dataclass(frozen=True, slots=True)
class Settings(LocalSettings):
    """The environment of one installation. `poll_seconds` is between looks at Salesforce."""

    salesforce_domain: str
    salesforce_client_id: Secret
    salesforce_client_secret: Secret | None
    salesforce_username: str | None
    salesforce_private_key_file: str | None
    salesforce_api_version: str
    salesforce_base_url: str | None
    stripe_api_key: Secret
    stripe_base_url: str | None
    stripe_webhook_secrets: tuple[Secret, ...]
    clock_url: str | None
    alert_webhook: Secret | None
    alert_email: tuple[str, ...]
    smtp_url: Secret | None
    dagster_url: str | None
    expect_org_id: str | None
    expect_stripe_account: str | None
    poll_seconds: int
    linger_seconds: int


def load_local_settings(env: Mapping[str, str] | None = None) -> LocalSettings:
    """The settings of an environment that need no credentials."""
    values = os.environ if env is None else env
    home = sandbox_file(values).parent
    rules = values.get("SYNC_RULES")
    return LocalSettings(
        home=home,
        database_url=Secret(values.get("SYNC_DATABASE_URL") or f"sqlite:///{home / 'ledger.db'}"),
        rules_file=Path(rules).absolute() if rules else None,
    )


def load_settings(env: Mapping[str, str] | None = None) -> Settings:
    """The settings of an environment (the process's own by default). Raises SettingsError."""
    values = dict(os.environ if env is None else env)
    ready_file = sandbox_file(values)
    if not any(values.get(name) for name in CREDENTIALS):
        values = _sandbox_values(ready_file) | {name: value for name, value in values.items() if value}
    for name in ("SALESFORCE_DOMAIN", "SALESFORCE_CLIENT_ID", "STRIPE_API_KEY"):
        if not values.get(name):
            raise SettingsError(f"{name} is not set; set it, or unset all credentials to use the sandbox")
    if values["STRIPE_API_KEY"].startswith(("pk_", "whsec_")):
        raise SettingsError(
            "STRIPE_API_KEY holds a publishable key or a webhook secret; it has to be a restricted key (rk_...) "
            "or a secret one (sk_...)"
        )
    username, key_file = values.get("SALESFORCE_USERNAME"), values.get("SALESFORCE_PRIVATE_KEY_FILE")
    client_secret = values.get("SALESFORCE_CLIENT_SECRET")
    if key_file and not username:
        raise SettingsError("SALESFORCE_PRIVATE_KEY_FILE needs SALESFORCE_USERNAME, the user that it signs in as")
    if key_file and not Path(key_file).is_file():
        raise SettingsError(f"SALESFORCE_PRIVATE_KEY_FILE: there is no file {key_file}")
    if not client_secret and not (username and key_file):
        raise SettingsError("set SALESFORCE_CLIENT_SECRET, or SALESFORCE_USERNAME with SALESFORCE_PRIVATE_KEY_FILE")
    local = load_local_settings(values)
    secrets = tuple(map(Secret, _listed(values, "STRIPE_WEBHOOK_SECRETS")))
    return Settings(
        home=local.home,
        database_url=local.database_url,
        rules_file=local.rules_file,
        salesforce_domain=_domain(values["SALESFORCE_DOMAIN"]),
        salesforce_client_id=Secret(values["SALESFORCE_CLIENT_ID"]),
        salesforce_client_secret=Secret(client_secret) if client_secret and not key_file else None,
        salesforce_username=username,
        salesforce_private_key_file=key_file,
        salesforce_api_version=_version(values),
        salesforce_base_url=_url(values, "SALESFORCE_BASE_URL"),
        stripe_api_key=Secret(values["STRIPE_API_KEY"]),
        stripe_base_url=_url(values, "STRIPE_BASE_URL"),
        stripe_webhook_secrets=secrets,
        clock_url=_url(values, "SYNC_CLOCK_URL"),
        alert_webhook=_webhook(values),
        alert_email=_listed(values, "SYNC_ALERT_EMAIL"),
        smtp_url=_smtp(values),
        dagster_url=_url(values, "SYNC_DAGSTER_URL"),
        expect_org_id=values.get("SYNC_EXPECT_ORG_ID") or None,
        expect_stripe_account=values.get("SYNC_EXPECT_STRIPE_ACCOUNT") or None,
        poll_seconds=_positive(values, "SYNC_POLL_SECONDS", 30),
        linger_seconds=_positive(values, "SYNC_LINGER_SECONDS", 60),
    )


def sandbox_file(env: Mapping[str, str] | None = None) -> Path:
    """Where a running sandbox leaves its ready line."""
    values = os.environ if env is None else env
    return Path(values.get("SYNC_HOME") or ".sync").absolute() / "sandbox.json"


def sandbox_environment(ready: Mapping[str, str]) -> dict[str, str]:
    """The variables that point an installation at a sandbox, from the sandbox's ready line."""
    return {
        "SALESFORCE_DOMAIN": "sandbox.my",
        "SALESFORCE_CLIENT_ID": ready["client_id"],
        "SALESFORCE_CLIENT_SECRET": ready["client_secret"],
        "SALESFORCE_BASE_URL": ready["salesforce_url"],
        "STRIPE_API_KEY": ready["stripe_key"],
        "STRIPE_BASE_URL": ready["stripe_url"],
        "STRIPE_WEBHOOK_SECRETS": ready["webhook_secret"],
        "SYNC_CLOCK_URL": ready["control_url"] + "/clock",
    }


def harmless_environment() -> dict[str, str]:
    """This process's environment for a child, without anything that could point it at real accounts."""
    ours = ("SYNC_", "SALESFORCE_", "STRIPE_", "DAGSTER_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return inherited | {"NO_PROXY": "127.0.0.1,localhost", "PYTHONUNBUFFERED": "1"}


def _sandbox_values(ready_file: Path) -> dict[str, str]:
    try:
        ready = json.loads(ready_file.read_text("utf-8"))
        return sandbox_environment(ready)
    except (OSError, ValueError, KeyError, TypeError):
        raise SettingsError(
            "no credentials are set and no sandbox is running: start `sync-pipeline sandbox --data story` in another "
            "terminal, or set the SALESFORCE_* and STRIPE_* variables"
        ) from None


def _domain(text: str) -> str:
    """My Domain as simple-salesforce wants it: acme.my for https://acme.my.salesforce.com."""
    host = urlsplit(text).netloc or text
    return host.strip("/").removesuffix(".salesforce.com")


def _version(values: Mapping[str, str]) -> str:
    text = values.get("SALESFORCE_API_VERSION") or "66.0"
    if not re.fullmatch(r"[0-9]{2,3}\.0", text):
        raise SettingsError(f"SALESFORCE_API_VERSION must be written as 66.0, not {text!r}")
    return text


def _url(values: Mapping[str, str], name: str) -> str | None:
    text = values.get(name)
    if text and urlsplit(text).scheme not in ("http", "https"):
        raise SettingsError(f"{name} is not an http(s) address: {text}")
    return text.rstrip("/") if text else None


def _webhook(values: Mapping[str, str]) -> Secret | None:
    """Whoever knows the address can write to the channel, so it is never shown."""
    text = values.get("SYNC_ALERT_WEBHOOK")
    if text and urlsplit(text).scheme not in ("http", "https"):
        raise SettingsError("SYNC_ALERT_WEBHOOK is not an http(s) address")
    return Secret(text) if text else None


def _smtp(values: Mapping[str, str]) -> Secret | None:
    text, recipients = values.get("SYNC_SMTP_URL"), _listed(values, "SYNC_ALERT_EMAIL")
    if bool(text) != bool(recipients):
        raise SettingsError(
            "SYNC_ALERT_EMAIL (who gets alerts) and SYNC_SMTP_URL (through which server) need each other"
        )
    if text and (urlsplit(text).scheme not in ("smtp", "smtps") or not urlsplit(text).hostname):
        raise SettingsError("SYNC_SMTP_URL must be written as smtp://user:password@host:587 or smtps://...")
    return Secret(text) if text else None


def _listed(values: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in values.get(name, "").split(",") if part.strip())


def _positive(values: Mapping[str, str], name: str, default: int) -> int:
    text = values.get(name) or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise SettingsError(f"{name} must be a whole number of seconds above 0, not {text!r}")
    return int(text)
