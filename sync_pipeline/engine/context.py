"""What every step of the engine needs: the rules, the ledger, the two systems, the environment, and who we are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Protocol

from sync_pipeline.core import canonical
from sync_pipeline.core.commands import Plan
from sync_pipeline.core.observation import Observation
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.stripe_records import Customer
from sync_pipeline.core.world import Billing, Catalogue, World
from sync_pipeline.engine.env import Env
from sync_pipeline.engine.gate import LedgerGate, Rates
from sync_pipeline.engine.leases import Leases
from sync_pipeline.ledger import cursors
from sync_pipeline.ledger.commands import CommandRow
from sync_pipeline.ledger.database import Ledger
from sync_pipeline.systems.alerts import Alerts
from sync_pipeline.systems.salesforce.client import Salesforce
from sync_pipeline.systems.salesforce.reads import AccountRecords
from sync_pipeline.systems.stripe.client import Stripe


class SalesforceReads(Protocol):
    """Where worlds come from: the org itself, or snapshot tables of it."""

    def accounts(self, ids: Sequence[str]) -> dict[str, AccountRecords]: ...


class StripeReads(Protocol):
    """Where worlds come from: Stripe itself, or snapshot tables of it."""

    def customer(self, customer_id: str) -> Observation[Customer]: ...

    def customers_like(self, account_id: str, name: str, now: int) -> list[Customer]: ...

    def billing(self, customer_id: str) -> Billing: ...

    def catalogue(
        self, products: Iterable[str], lookup_keys: Iterable[str], coupons: Iterable[str] = ()
    ) -> Catalogue: ...

    def charged_lines(self, customers: Iterable[str]) -> dict[str, str]:
        """The invoice items of customers, invoiced or not, by the Salesforce lines that they name."""

    def product_names(self, products: Iterable[str]) -> Mapping[str, str]:
        """What Stripe calls products, archived ones included, by id; one that was deleted has no name."""


class Halted(Exception):
    """Nothing can or may be done for any account; the message says which system or guard stops us, and why."""


class Approval(Protocol):
    """Who has the last word before plans are written."""

    def approved(
        self, worlds: Mapping[str, World], plans: Mapping[str, Plan], tell: Callable[[str], None]
    ) -> Collection[str]:
        """The accounts whose plans may be written; the others are left for another time, and `tell` hears what is wrong
        with them. Raises Halted."""

    def wrote(self, worlds: Mapping[str, World], plans: Mapping[str, Plan], rows: Iterable[CommandRow]) -> None:
        """Called after each round: what of the approved plans was in the outbox to be sent."""
        return


class EverythingApproved(Approval):
    """Every plan may be written."""

    def approved(
        self, worlds: Mapping[str, World], plans: Mapping[str, Plan], tell: Callable[[str], None]
    ) -> Collection[str]:
        return plans.keys()


EVERYTHING = EverythingApproved()


@dataclass(frozen=True, slots=True)
class Engine:
    """One installation at work. `run` names the process or Dagster run in the audit; `warnings` say in words what of
    the rules does not fit the org and will be refused; `approval` sees every plan before it is written; `rates` are how
    often Stripe may be called by all processes together, None where nobody limits it (the sandbox); `gathers` says that
    what may wait is gathered for bulk jobs, which its user sends; `leases` are those of what is worked on."""

    rules: Rules
    ledger: Ledger
    salesforce: Salesforce
    stripe: Stripe
    env: Env
    personal_key: bytes
    run: str
    code_version: str
    alerts: Alerts = field(default_factory=Alerts)
    warnings: tuple[str, ...] = ()
    approval: Approval = EVERYTHING
    rates: Rates | None = None
    gathers: bool = False
    leases: Leases = field(default_factory=Leases)

    def __post_init__(self) -> None:
        # Both systems are shared by everything that this engine does, and so is the way to them.
        self.salesforce.gate = self.stripe.gate = LedgerGate(self.ledger, self.env, self.rates, self.leases)

    @property
    def instance_id(self) -> str:
        """Scope of the idempotency keys: the same org always makes the same keys."""
        return self.salesforce.org_id


def build_engine(
    *,
    rules: Rules,
    ledger: Ledger,
    salesforce: Salesforce,
    stripe: Stripe,
    env: Env,
    run: str,
    rates: Rates | None = None,
) -> Engine:
    """The engine over an open, migrated ledger."""
    return Engine(
        rules=rules,
        ledger=ledger,
        salesforce=salesforce,
        stripe=stripe,
        env=env,
        personal_key=_personal_key(ledger, env),
        run=run,
        code_version=code_version(rules),
        rates=rates,
    )


def code_version(rules: Rules) -> str:
    """This version of the program with these rules."""
    return f"{_version()}+{canonical.sha256(rules)[:8]}"


@cache
def _version() -> str:
    return version("sync-pipeline")


def _personal_key(ledger: Ledger, env: Env) -> bytes:
    """The installation's own key for hashes of personal values, made once and kept in the ledger."""
    with ledger.tx() as conn:
        known = cursors.put_once(conn, "personal_key", env.secret().hex(), env.now())
    return bytes.fromhex(known)
