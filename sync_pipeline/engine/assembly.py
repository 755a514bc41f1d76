"""From settings to a running engine: the one place where the parts are put together for production."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from sync_pipeline.config.rules import read_rules
from sync_pipeline.config.settings import LocalSettings, Settings
from sync_pipeline.core.rules import Rules
from sync_pipeline.engine.binding import require_own_systems
from sync_pipeline.engine.context import Engine, build_engine
from sync_pipeline.engine.env import Env, SystemEnv
from sync_pipeline.engine.gate import LIVE, TEST, Rates
from sync_pipeline.engine.org_check import require_fitting_rules
from sync_pipeline.ledger import migrations
from sync_pipeline.ledger.database import Ledger, open_ledger
from sync_pipeline.systems.alerts import Alerts
from sync_pipeline.systems.salesforce.client import Salesforce
from sync_pipeline.systems.salesforce.connection import Login
from sync_pipeline.systems.stripe.client import Stripe


def build_env(settings: Settings) -> Env:
    return SystemEnv(settings.clock_url)


def build_salesforce(settings: Settings, rules: Rules) -> Salesforce:
    login = Login(
        domain=settings.salesforce_domain,
        client_id=settings.salesforce_client_id,
        client_secret=settings.salesforce_client_secret,
        username=settings.salesforce_username,
        private_key_file=settings.salesforce_private_key_file,
        base_url=settings.salesforce_base_url,
        api_version=settings.salesforce_api_version,
    )
    return Salesforce(login, rules.salesforce, rules.commercial.account_team_role)


def build_alerts(settings: Settings) -> Alerts:
    return Alerts(settings.alert_webhook, settings.smtp_url, settings.alert_email)


def build_stripe(settings: Settings) -> Stripe:
    return Stripe(settings.stripe_api_key, base_url=settings.stripe_base_url)


@contextmanager
def open_current_ledger(settings: LocalSettings) -> Iterator[Ledger]:
    """The ledger, created when there is none yet. Raises LedgerError when it needs an upgrade."""
    if migrations.current(settings.database_url) is None:
        migrations.upgrade(settings.database_url)
    with open_existing_ledger(settings) as ledger:
        yield ledger


@contextmanager
def open_existing_ledger(settings: LocalSettings) -> Iterator[Ledger]:
    """The ledger, which must be there: a mistyped path must not look like an empty one. Raises LedgerError."""
    migrations.require_current(settings.database_url)
    ledger = open_ledger(settings.database_url)
    try:
        yield ledger
    finally:
        ledger.close()


@contextmanager
def open_engine(settings: Settings, *, run: str) -> Iterator[Engine]:
    """The engine that the settings describe. `run` names this process or run in the audit.

    Raises LedgerError, RulesError, ReadFailed or WrongSystem.
    """
    file, env, alerts = read_rules(settings.rules_file), build_env(settings), build_alerts(settings)
    salesforce, stripe = build_salesforce(settings, file.rules), build_stripe(settings)
    with open_current_ledger(settings) as ledger:
        require_own_systems(settings, ledger, salesforce, stripe, env.now())
        warnings = require_fitting_rules(ledger, salesforce, file, now=env.now(), wall=env.wall())
        engine = build_engine(
            rules=file.rules if alerts.is_configured else without_alerts(file.rules),
            ledger=ledger,
            salesforce=salesforce,
            stripe=stripe,
            env=env,
            run=run,
            rates=_rates(settings),
        )
        yield replace(engine, warnings=tuple(warnings), alerts=alerts)


def without_alerts(rules: Rules) -> Rules:
    """Where nobody can be told there is nothing to tell."""
    return replace(rules, commercial=replace(rules.commercial, alert_from=None))


def _rates(settings: Settings) -> Rates | None:
    """What Stripe allows this key. The sandbox of this project counts nothing unless told to."""
    if settings.stripe_base_url:
        return None
    return LIVE if "_live_" in settings.stripe_api_key else TEST
