"""The rules held against the org: once a day and for every new rules file, before the first write.

What keeps everything from being read stops the engine; what keeps single writes from succeeding is told, and the
rest goes on. A check costs three calls to Salesforce; that it went well is remembered in the ledger, so that a run
of the drain costs none.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from sync_pipeline.config.rules import RulesError, RulesFile
from sync_pipeline.core import canonical
from sync_pipeline.core.org_schema import OrgSchema
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.rules_check import Fault, faults, parents
from sync_pipeline.core.units import DAY_US
from sync_pipeline.ledger import cursors
from sync_pipeline.ledger.database import Ledger
from sync_pipeline.systems.outcomes import ReadFailed
from sync_pipeline.systems.salesforce.client import Salesforce

CHECKED = "rules.checked"
CHECKED_FOR_US = DAY_US


def read_org_schema(salesforce: Salesforce, rules: Rules) -> OrgSchema:
    """The schema of the objects that the rules map, and of those to which mapped paths lead. Raises ReadFailed."""
    wanted = {names.object for names in rules.salesforce.values()}
    described = dict(salesforce.described)
    all_names = frozenset(described) if wanted <= described.keys() else salesforce.object_names()
    schema = OrgSchema(described, all_names, salesforce.stages())
    return OrgSchema({**described, **salesforce.describe(parents(rules, schema))}, all_names, schema.stages)


def check_org(salesforce: Salesforce, file: RulesFile) -> list[Fault]:
    """Everything in the rules that does not fit the org, asked afresh. Raises ReadFailed."""
    return faults(file.rules, read_org_schema(salesforce, file.rules))


def in_words(file: RulesFile, found: Sequence[Fault]) -> list[str]:
    """The faults, one line each with its place in the rules file, from its first line to its last."""
    ordered = sorted(found, key=lambda fault: file.lines.get(fault.part, 0))
    return [f"{file.place(fault.part)}: {fault.message}" for fault in ordered]


def require_fitting_rules(ledger: Ledger, salesforce: Salesforce, file: RulesFile, *, now: int, wall: int) -> list[str]:
    """Checks the rules against the org, unless that went well within a day; returns what single writes will meet.

    An org that does not answer is checked at the next start. Raises RulesError, with every fault, when nothing could be
    read; ReadFailed when access is refused.
    """
    # A new version may write more than the one that was checked.
    stamp = canonical.sha256([salesforce.org_id, version("sync-pipeline"), file.rules])
    with ledger.read() as conn:
        known, _, at = (cursors.get(conn, CHECKED) or "").partition("@")
    if known == stamp and 0 <= wall - int(at) < CHECKED_FOR_US:
        return []
    try:
        found = check_org(salesforce, file)
    except ReadFailed as failure:
        if failure.access:
            raise
        return [f"the rules are not held against the org, because it does not answer: {failure}"]
    if any(fault.fatal for fault in found):
        raise RulesError("\n".join(in_words(file, found)))
    if not found:
        with ledger.tx() as conn:
            cursors.put(conn, CHECKED, f"{stamp}@{wall}", now)
    return in_words(file, found)
