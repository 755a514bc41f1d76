"""Which Salesforce org and which Stripe account a ledger belongs to: bound on first use, held to ever after.

A copied org carries production's Stripe ids, and a copied environment production's keys: either could write to
real customers from a place where people only try things. Another org or account than the bound one, or a sandbox
org with a live Stripe key, is refused before anything is read.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from sync_pipeline.config.settings import Settings
from sync_pipeline.core import canonical
from sync_pipeline.ledger import cursors
from sync_pipeline.ledger.database import Ledger
from sync_pipeline.systems.salesforce.client import Salesforce
from sync_pipeline.systems.stripe.client import Stripe

# Cursors: the org's id (15 characters) with its kind; the account's id with the mode of its key; the digest of the
# key that was last seen to lead there, so that a start costs no call and works while Stripe does not answer.
ORG = "bound.org"
STRIPE_ACCOUNT = "bound.stripe_account"
STRIPE_KEY = "bound.stripe_key"
SANDBOX = "sandbox"
LIVE = "live"
MEND = (
    "Mend the credentials, give the other system a ledger of its own (SYNC_DATABASE_URL), or move this one on purpose: "
    "sync-pipeline ledger rebind"
)


class WrongSystem(Exception):
    """The credentials lead to another org or Stripe account than they should; nothing was read or written."""


@dataclass(frozen=True, slots=True)
class Binding:
    """An org and a Stripe account. `org_kind` is sandbox or production, `stripe_mode` test or live."""

    org_id: str
    org_kind: str
    stripe_account: str
    stripe_mode: str

    def __str__(self) -> str:
        return f"{self.org} and {self.stripe}"

    @property
    def org(self) -> str:
        return f"Salesforce org {self.org_id} ({self.org_kind})"

    @property
    def stripe(self) -> str:
        return f"Stripe account {self.stripe_account} ({self.stripe_mode})"


def bound(conn: Connection) -> Binding | None:
    """What the ledger belongs to, None before its first use."""
    org, account = cursors.get(conn, ORG), cursors.get(conn, STRIPE_ACCOUNT)
    return None if org is None or account is None else Binding(*org.split(":"), *account.split(":"))


def bind(conn: Connection, binding: Binding, now: int) -> None:
    """Makes the ledger belong to these systems, whatever it belonged to."""
    cursors.put(conn, ORG, f"{binding.org_id}:{binding.org_kind}", now)
    cursors.put(conn, STRIPE_ACCOUNT, f"{binding.stripe_account}:{binding.stripe_mode}", now)
    cursors.put(conn, STRIPE_KEY, "", now)


def reached(settings: Settings, salesforce: Salesforce, stripe: Stripe) -> Binding:
    """Where the credentials lead. One call to each system. Raises ReadFailed."""
    kind = SANDBOX if salesforce.is_sandbox() else "production"
    return Binding(salesforce.org_id, kind, stripe.account_id(), _mode(settings))


def require_own_systems(settings: Settings, ledger: Ledger, salesforce: Salesforce, stripe: Stripe, now: int) -> None:
    """Binds a new ledger, and refuses everything else than what it is bound to. Raises WrongSystem, ReadFailed."""
    _check_expected(settings, salesforce, stripe)
    key = canonical.sha256(["stripe key", str.__str__(settings.stripe_api_key)])
    with ledger.read() as conn:
        own, known_key = bound(conn), cursors.get(conn, STRIPE_KEY)
    if own is None:
        found = reached(settings, salesforce, stripe)
        if found.org_kind == SANDBOX and found.stripe_mode == LIVE:
            raise WrongSystem(
                f"{found.org} must not write to a live Stripe account: a copied org carries production's Stripe ids; "
                "set STRIPE_API_KEY to a test key"
            )
        with ledger.tx() as conn:
            bind(conn, found, now)
    else:
        strange = strange_org(own, salesforce.org_id)
        if strange is None and key != known_key:
            strange = strange_account(own, settings, stripe.account_id())
        if strange is not None:
            raise WrongSystem(f"the ledger {ledger.name} {strange}; nothing was read or written. {MEND}")
    if key != known_key:
        with ledger.tx() as conn:
            cursors.put(conn, STRIPE_KEY, key, now)


def strange_org(own: Binding, org_id: str) -> str | None:
    """What the ledger belongs to and to which org the credentials lead instead; None where it is the same one."""
    return None if org_id == own.org_id else _elsewhere(own.org, f"Salesforce org {org_id}")


def strange_account(own: Binding, settings: Settings, account: str) -> str | None:
    """The same of the Stripe account to which the key leads, and of the key's mode."""
    mode = _mode(settings)
    if (account, mode) == (own.stripe_account, own.stripe_mode):
        return None
    return _elsewhere(own.stripe, f"Stripe account {account} ({mode})")


def _elsewhere(own: str, found: str) -> str:
    return f"belongs to {own}, but the credentials lead to {found}"


def _check_expected(settings: Settings, salesforce: Salesforce, stripe: Stripe) -> None:
    if settings.expect_org_id and settings.expect_org_id[:15] != salesforce.org_id:
        raise WrongSystem(
            f"the credentials lead to Salesforce org {salesforce.org_id}, SYNC_EXPECT_ORG_ID names "
            f"{settings.expect_org_id}"
        )
    if settings.expect_stripe_account and (found := stripe.account_id()) != settings.expect_stripe_account:
        raise WrongSystem(
            f"the key leads to Stripe account {found}, SYNC_EXPECT_STRIPE_ACCOUNT names "
            f"{settings.expect_stripe_account}"
        )


def _mode(settings: Settings) -> str:
    """Test and live objects of one account know nothing of each other; the key says which it sees."""
    return LIVE if "_live_" in settings.stripe_api_key else "test"
