"""The beginning of an installation: a rules file of its own, a ledger, and the variables that bind it.

Nothing is written to either system. Doing it again keeps the rules file that is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sync_pipeline.config.rules import RulesError, read_rules
from sync_pipeline.config.settings import Settings
from sync_pipeline.engine.assembly import build_env, build_salesforce, build_stripe
from sync_pipeline.engine.org_check import check_org, in_words
from sync_pipeline.ledger import migrations

STARTER = """\
# The rules of this company: only what differs from the shipped ones, all of which `sync-pipeline rules show` prints.
commercial:
  # Deals that closed before this day are never billed by the sync.
  go_live: {today}
  # Where every record of the org is in one currency, this is the one.
  default_currency: {currency}
"""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What was made and found. `faults` are one line each: what in the rules does not fit the org."""

    rules_file: Path
    made: bool
    variables: Mapping[str, str]
    faults: tuple[str, ...]


def begin(settings: Settings) -> Beginning:
    """Makes what is missing: a starter rules file (SYNC_RULES, or in SYNC_HOME) and the ledger.

    Raises ReadFailed where a system lets nobody in, RulesError for a rules file that cannot be used, LedgerError.
    """
    path = settings.rules_file or settings.home / "rules.yaml"
    shipped = read_rules().rules
    salesforce, stripe = build_salesforce(settings, shipped), build_stripe(settings)
    # Both systems let us in before anything is made.
    variables = {
        "SYNC_RULES": str(path),
        "SYNC_EXPECT_ORG_ID": salesforce.org_id,
        "SYNC_EXPECT_STRIPE_ACCOUNT": stripe.account_id(),
    }
    made = not path.exists()
    if made:
        today = datetime.fromtimestamp(build_env(settings).now() // 1_000_000, UTC).date()
        text = STARTER.format(today=today, currency=shipped.commercial.default_currency)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        except OSError as error:
            raise RulesError(f"{path} cannot be written ({error.strerror}); name another place in SYNC_RULES") from None
    file = read_rules(path)
    migrations.upgrade(settings.database_url)
    faults = in_words(file, check_org(build_salesforce(settings, file.rules), file))
    return Beginning(path, made, variables, tuple(faults))
