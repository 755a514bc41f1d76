"""I6 a second time, over whole tables: Polars sums what Stripe lists, by the frames that the data team queries."""

from __future__ import annotations

from collections.abc import Iterator

from sync_pipeline.engine.snapshot import Tables
from sync_pipeline.frames.cash import Listings, cash, disagreements, sums
from sync_pipeline.frames.convert import to_frame
from sync_pipeline.frames.ltv import account_ltv
from sync_pipeline.frames.mapping import account_customers
from sync_pipeline.frames.tables import SNAPSHOTS
from sync_pipeline.ledger.database import Ledger
from sync_pipeline.sandbox.world import Sandbox
from sync_pipeline.simulator.oracle import collected_minor, is_there
from sync_pipeline.warehouse.ledger_frames import links_to_stripe, sums_of_facts

MONEY = ("invoices", "invoice_payments", "charges", "refunds", "disputes", "credit_notes")


def miscounted(tables: Tables, sandbox: Sandbox, ledger: Ledger, *, org_id: str, currency: str) -> Iterator[str]:
    """Where the listings come to other sums than the ledger's facts, or to another lifetime value than Stripe's own
    objects. Accounts that are deleted are told to a person and count for neither."""
    accounts, customers = (
        to_frame(tables[name], SNAPSHOTS[name]) for name in ("salesforce/accounts", "stripe/customers")
    )
    listings = Listings(*(to_frame(tables[f"stripe/{name}"], SNAPSHOTS[f"stripe/{name}"]) for name in MONEY))
    with ledger.read() as conn:
        mapping = account_customers(accounts, customers, links_to_stripe(conn), org_id)
        facts = sums_of_facts(conn)
    entries = cash(listings)
    for name, kind, _, listed, known in disagreements(sums(entries, mapping), facts).iter_rows():
        if is_there(sandbox, name):
            yield f"I6: {kind} of {name}: the listings come to {listed}, the facts of the ledger to {known}"
    values = account_ltv(entries, listings.invoices, mapping, currency)
    found = dict(values.filter(currency=currency).select("account_id", "net_minor").iter_rows())
    collected = collected_minor(sandbox)
    for name in sorted(found.keys() | collected.keys()):
        if is_there(sandbox, name) and found.get(name, 0) != collected.get(name, 0):
            yield f"I6: {name}: Polars sums {found.get(name, 0)}, Stripe collected {collected.get(name, 0)}"
