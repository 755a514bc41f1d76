"""The doctor: is this installation able to work, and if not, what exactly has to be done?

Each check is one sentence with a verdict; a failed one names its fix. It writes to neither system.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from sync_pipeline.config.rules import RulesError, RulesFile, read_rules
from sync_pipeline.config.settings import Settings
from sync_pipeline.engine.assembly import build_env, build_salesforce, build_stripe, open_existing_ledger
from sync_pipeline.engine.binding import MEND, Binding, bound, strange_account, strange_org
from sync_pipeline.engine.env import ClockUnreachable
from sync_pipeline.engine.guard import hold
from sync_pipeline.engine.org_check import check_org
from sync_pipeline.ledger import migrations
from sync_pipeline.ledger.buckets import LONGEST_LEAD_US
from sync_pipeline.ledger.database import Ledger, LedgerError
from sync_pipeline.systems.outcomes import ReadFailed
from sync_pipeline.systems.salesforce.client import Salesforce
from sync_pipeline.systems.stripe.client import API_VERSION, Stripe
from sync_pipeline.systems.stripe.events import HEARD

Verdict = Literal["ok", "warning", "failed"]
LOW_BUDGET_SHARE = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, how it went, and what was found or has to be done."""

    check: str
    verdict: Verdict
    detail: str


def examine(settings: Settings) -> Iterator[Finding]:
    """Every check, in the order in which a new installation needs them."""
    ledger, own = _ledger(settings), None
    yield ledger
    if ledger.verdict == "ok":
        with open_existing_ledger(settings) as opened:
            guards = _guards(opened)
            with opened.read() as conn:
                own = bound(conn)
        yield guards
    try:
        file = read_rules(settings.rules_file)
    except RulesError as error:
        yield Finding("rules file", "failed", str(error))
        return
    yield Finding("rules file", "ok", f"{len(file.rules.fields)} fields are kept")
    if file.rules.commercial.go_live is None:
        detail = "go_live is not set: every deal that was ever won is billed; set it before the first run"
        yield Finding("go-live", "warning", detail)
    yield from _salesforce(settings, file, own)
    yield from _stripe(settings, own)
    if settings.clock_url is not None:
        yield _virtual_clock(settings)


def _ledger(settings: Settings) -> Finding:
    try:
        found, head = migrations.current(settings.database_url), migrations.head()
    except LedgerError as error:
        return Finding("ledger", "failed", str(error))
    if found is None:
        return Finding(
            "ledger", "warning", "there is none yet; the first command makes it, or: sync-pipeline ledger upgrade"
        )
    if found != head:
        return Finding("ledger", "failed", f"it is at {found}, this version needs {head}: sync-pipeline ledger upgrade")
    return Finding("ledger", "ok", f"at {found}")


def _guards(ledger: Ledger) -> Finding:
    held = hold(ledger)
    return Finding("guards", "ok", "none has stopped the sync") if held is None else Finding("guards", "failed", held)


def _salesforce(settings: Settings, file: RulesFile, own: Binding | None) -> Iterator[Finding]:
    """`own` is what the ledger belongs to."""
    salesforce = build_salesforce(settings, file.rules)
    signed_in = _answered("Salesforce sign-in", lambda: f"org {salesforce.org_id}")
    yield signed_in
    if signed_in.verdict != "ok":
        return
    if settings.clock_url is None and (told_at := salesforce.told_at) is not None:
        yield _clock(build_env(settings).wall() - told_at)
    expected = settings.expect_org_id
    if expected is None:
        detail = f"set SYNC_EXPECT_ORG_ID={salesforce.org_id}, so that a copy of the org is never written to"
        yield Finding("Salesforce org", "warning", detail)
    elif expected[:15] != salesforce.org_id:
        yield Finding("Salesforce org", "failed", f"this is {salesforce.org_id}, expected {expected}")
    else:
        yield Finding("Salesforce org", "ok", "the expected one")
    if own is not None and (strange := strange_org(own, salesforce.org_id)):
        yield Finding("ledger", "failed", f"{strange}. {MEND}")
    yield from _rules_in_the_org(salesforce, file)
    if salesforce.api_usage is not None:
        used, allowed = salesforce.api_usage
        scarce = (allowed - used) * 100 < allowed * LOW_BUDGET_SHARE
        detail = f"{used} of {allowed} calls of the rolling day are used"
        yield Finding("Salesforce API budget", "warning" if scarce else "ok", detail)


def _rules_in_the_org(salesforce: Salesforce, file: RulesFile) -> Iterator[Finding]:
    try:
        faults = check_org(salesforce, file)
    except ReadFailed as error:
        yield Finding("Salesforce fields", "failed", str(error))
        return
    for fault in faults:
        detail = f"{file.place(fault.part)}: {fault.message}"
        yield Finding("Salesforce fields", "failed" if fault.fatal else "warning", detail)
    if not faults:
        mapped = sum(len(names.fields) for names in file.rules.salesforce.values())
        yield Finding("Salesforce fields", "ok", f"{mapped} fields fit the rules")
    line = file.rules.salesforce["line"]
    shown, discount = salesforce.described.get(line.object), line.fields.get("discount")
    if shown is not None and discount is not None and shown.lacks(discount):
        detail = (
            f"{line.object}.{discount} is not shown to the integration user, so a line with a discount is billed in "
            "full; deploy the permission set Stripe_Sync anew, unless the org has no such field"
        )
        yield Finding("Salesforce fields", "warning", detail)


def _stripe(settings: Settings, own: Binding | None) -> Iterator[Finding]:
    stripe = build_stripe(settings)
    account = _answered("Stripe sign-in", lambda: f"account {stripe.account_id()}")
    yield account
    if account.verdict == "ok":
        found = account.detail.removeprefix("account ")
        if settings.expect_stripe_account is None:
            detail = f"set SYNC_EXPECT_STRIPE_ACCOUNT={found}, so that another account is never written to"
            yield Finding("Stripe account", "warning", detail)
        elif found != settings.expect_stripe_account:
            yield Finding("Stripe account", "failed", f"{account.detail}, expected {settings.expect_stripe_account}")
        else:
            yield Finding("Stripe account", "ok", "the expected one")
        if own is not None and (strange := strange_account(own, settings, found)):
            yield Finding("ledger", "failed", f"{strange}. {MEND}")
    if settings.stripe_webhook_secrets:
        yield Finding("Stripe webhooks", "ok", f"{len(settings.stripe_webhook_secrets)} signing secrets are set")
    else:
        detail = "STRIPE_WEBHOOK_SECRETS is empty: changes are found by the sweep, minutes later"
        yield Finding("Stripe webhooks", "warning", detail)
    if account.verdict == "ok":
        yield from _endpoints(stripe)


def _endpoints(stripe: Stripe) -> Iterator[Finding]:
    """Whether Stripe sends what the receiver wants to hear, in the shapes of the version that is read here."""
    check = "Stripe webhook endpoint"
    try:
        enabled = [endpoint for endpoint in stripe.webhook_endpoints() if endpoint.enabled]
    except ReadFailed as error:
        yield Finding(check, "warning", f"it cannot be looked at; let the key read webhook endpoints ({error})")
        return
    if not enabled:
        detail = "none is enabled at Stripe: make one that points at the receiver's /webhooks/stripe, with api_version"
        yield Finding(check, "warning", f"{detail} {API_VERSION}")
    for endpoint in enabled:
        missing = [] if "*" in endpoint.events else sorted(set(HEARD) - endpoint.events)
        if missing:
            yield Finding(check, "warning", f"{endpoint.id} does not send {', '.join(missing)}: enable them at Stripe")
        if endpoint.api_version != API_VERSION:
            shapes = endpoint.api_version or "the account's own version"
            detail = f"{endpoint.id} sends the shapes of {shapes}; make one with api_version {API_VERSION}"
            yield Finding(check, "warning", detail)
        if not missing and endpoint.api_version == API_VERSION:
            yield Finding(check, "ok", f"{endpoint.id} sends what is heard, in the shapes of {API_VERSION}")


def _clock(ahead_us: int) -> Finding:
    """Of a machine whose clock is so far ahead of Salesforce's, which counts seconds."""
    apart = f"{abs(ahead_us) // 1_000_000} s {'ahead of' if ahead_us >= 0 else 'behind'} Salesforce's"
    if abs(ahead_us) > LONGEST_LEAD_US:
        return Finding("clock", "failed", f"the machine's clock is {apart}: let it be set by NTP")
    return Finding("clock", "ok", f"the machine's clock, {apart}")


def _virtual_clock(settings: Settings) -> Finding:
    env = build_env(settings)
    try:
        apart = abs(env.now() - env.wall()) // 1_000_000
    except ClockUnreachable as error:
        return Finding("clock", "failed", str(error))
    return Finding("clock", "ok", f"the sandbox's virtual clock, {apart} s from wall time")


def _answered(check: str, ask: Callable[[], str]) -> Finding:
    try:
        return Finding(check, "ok", ask())
    except ReadFailed as error:
        return Finding(check, "failed", str(error))
