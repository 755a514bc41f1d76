"""Which records of the two systems belong together, as tables with the evidence."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from sync_pipeline.config.settings import Settings
from sync_pipeline.frames.tables import ACCOUNT_CUSTOMERS, BILLED_LINES, DEAL_SUBSCRIPTIONS, SNAPSHOTS
from sync_pipeline.orchestration.assets.sources import source
from sync_pipeline.orchestration.failures import one_clear_failure
from sync_pipeline.orchestration.lanes import RECONCILE
from sync_pipeline.orchestration.table_assets import Results, key, materialized, schema_check, table_spec

if TYPE_CHECKING:
    import polars as pl

ACCOUNTS = SNAPSHOTS["salesforce/accounts"]
OPPORTUNITIES = SNAPSHOTS["salesforce/opportunities"]
LINES = SNAPSHOTS["salesforce/opportunity_line_items"]
CUSTOMERS = SNAPSHOTS["stripe/customers"]
SUBSCRIPTIONS = SNAPSHOTS["stripe/subscriptions"]
ITEMS = SNAPSHOTS["stripe/subscription_items"]
KINDS = {"polars", "parquet"}
ONE_ACCOUNT = "each_customer_belongs_to_at_most_one_account"
NO_RIVALS = "no_customer_is_claimed_by_several_accounts"
ONE_SUBSCRIPTION = "each_deal_has_at_most_one_subscription"
NO_DOUBT = "no_deal_is_claimed_by_several_subscriptions"
ONE_ITEM = "each_line_is_billed_by_at_most_one_item"
LINK = source("ledger", "link")


@dg.multi_asset(
    name="account_customers",
    pool=RECONCILE,
    specs=[table_spec(ACCOUNT_CUSTOMERS, group="mapping", kinds=KINDS, deps=[key(ACCOUNTS), key(CUSTOMERS), LINK])],
    check_specs=[
        schema_check(ACCOUNT_CUSTOMERS),
        dg.AssetCheckSpec(
            ONE_ACCOUNT,
            asset=key(ACCOUNT_CUSTOMERS),
            blocking=True,
            description="Money of one customer counts for one Account.",
        ),
        dg.AssetCheckSpec(
            NO_RIVALS,
            asset=key(ACCOUNT_CUSTOMERS),
            description="Ambiguous customers count for no Account until a person decides.",
        ),
    ],
)
def account_customers(settings: dg.ResourceParam[Settings]) -> Results:
    """Each Stripe customer with the Account that claims it by the strongest evidence."""
    from sync_pipeline.frames import mapping
    from sync_pipeline.warehouse.parquet import Warehouse

    with one_clear_failure():
        warehouse = Warehouse(settings.warehouse)
        provenance = warehouse.provenance(ACCOUNTS)
        frame = mapping.account_customers(
            warehouse.read(ACCOUNTS), warehouse.read(CUSTOMERS), _links(settings), provenance["origin"]
        )
        matched = frame.filter(state="matched")
        rivals = frame.filter(state="ambiguous")
        yield materialized(
            settings,
            ACCOUNT_CUSTOMERS,
            frame,
            provenance,
            lineage={
                "customer_id": [(CUSTOMERS, "id"), (ACCOUNTS, "stripe_customer_id")],
                "account_id": [(ACCOUNTS, "id"), (CUSTOMERS, "account_id")],
                "in_salesforce": [(ACCOUNTS, "id")],
                "in_stripe": [(CUSTOMERS, "id")],
            },
            metadata={"matched": matched.height, "ambiguous": rivals["customer_id"].n_unique()},
            checks=[
                dg.AssetCheckResult(
                    check_name=ONE_ACCOUNT,
                    asset_key=key(ACCOUNT_CUSTOMERS),
                    passed=matched["customer_id"].is_unique().all(),
                ),
                _warning(ACCOUNT_CUSTOMERS, NO_RIVALS, rivals["customer_id"]),
            ],
        )


@dg.multi_asset(
    name="deal_subscriptions",
    pool=RECONCILE,
    specs=[
        table_spec(
            DEAL_SUBSCRIPTIONS,
            group="mapping",
            kinds=KINDS,
            deps=[key(OPPORTUNITIES), key(SUBSCRIPTIONS), key(ACCOUNT_CUSTOMERS), LINK],
        )
    ],
    check_specs=[
        schema_check(DEAL_SUBSCRIPTIONS),
        dg.AssetCheckSpec(
            ONE_SUBSCRIPTION, asset=key(DEAL_SUBSCRIPTIONS), blocking=True, description="No deal is billed twice."
        ),
        dg.AssetCheckSpec(
            NO_DOUBT,
            asset=key(DEAL_SUBSCRIPTIONS),
            description="Ambiguous deals are written to by nobody until a person decides.",
        ),
    ],
)
def deal_subscriptions(settings: dg.ResourceParam[Settings]) -> Results:
    """Each deal, or part of one that is split, with the subscription of its Account that bills it."""
    from sync_pipeline.frames import mapping
    from sync_pipeline.warehouse.parquet import Warehouse

    with one_clear_failure():
        warehouse = Warehouse(settings.warehouse)
        provenance = warehouse.provenance(OPPORTUNITIES)
        frame = mapping.deal_subscriptions(
            warehouse.read(OPPORTUNITIES),
            warehouse.read(SUBSCRIPTIONS),
            warehouse.read(ACCOUNT_CUSTOMERS),
            _links(settings),
            provenance["origin"],
        )
        matched = frame.filter(state="matched")
        doubtful = frame.filter(state="ambiguous")
        yield materialized(
            settings,
            DEAL_SUBSCRIPTIONS,
            frame,
            provenance,
            lineage={
                "deal_id": [(OPPORTUNITIES, "id"), (SUBSCRIPTIONS, "opportunity_id"), (SUBSCRIPTIONS, "intent")],
                "opportunity_id": [(OPPORTUNITIES, "id")],
                "subscription_id": [(SUBSCRIPTIONS, "id"), (OPPORTUNITIES, "stripe_subscription_id")],
                "account_id": [(OPPORTUNITIES, "account_id"), (ACCOUNT_CUSTOMERS, "account_id")],
            },
            metadata={"matched": matched.height, "ambiguous": doubtful["deal_id"].n_unique()},
            checks=[
                dg.AssetCheckResult(
                    check_name=ONE_SUBSCRIPTION,
                    asset_key=key(DEAL_SUBSCRIPTIONS),
                    passed=matched["deal_id"].is_unique().all(),
                ),
                _warning(DEAL_SUBSCRIPTIONS, NO_DOUBT, doubtful["deal_id"]),
            ],
        )


@dg.multi_asset(
    name="billed_lines",
    pool=RECONCILE,
    specs=[
        table_spec(BILLED_LINES, group="mapping", kinds=KINDS, deps=[key(LINES), key(ITEMS), key(DEAL_SUBSCRIPTIONS)])
    ],
    check_specs=[
        schema_check(BILLED_LINES),
        dg.AssetCheckSpec(
            ONE_ITEM, asset=key(BILLED_LINES), description="No line is billed twice: only one item claims it."
        ),
    ],
)
def billed_lines(settings: dg.ResourceParam[Settings]) -> Results:
    """Each line of a deal with the item of its subscription that bills it."""
    from sync_pipeline.frames import mapping
    from sync_pipeline.warehouse.parquet import Warehouse

    with one_clear_failure():
        warehouse = Warehouse(settings.warehouse)
        items, deals = warehouse.read(ITEMS), warehouse.read(DEAL_SUBSCRIPTIONS)
        frame = mapping.billed_lines(warehouse.read(LINES), items, deals)
        matched = frame.filter(state="matched")
        running = items.filter(items["subscription"].is_in(deals.filter(state="matched")["subscription_id"].implode()))
        yield materialized(
            settings,
            BILLED_LINES,
            frame,
            warehouse.provenance(LINES),
            lineage={
                "line_id": [(LINES, "id"), (ITEMS, "line_ids")],
                "item_id": [(ITEMS, "id"), (LINES, "stripe_item_id")],
                "opportunity_id": [(LINES, "opportunity_id")],
                "subscription_id": [(ITEMS, "subscription"), (DEAL_SUBSCRIPTIONS, "subscription_id")],
                "account_id": [(DEAL_SUBSCRIPTIONS, "account_id")],
            },
            metadata={
                "matched": matched.height,
                "items_that_bill_no_line": running["id"].n_unique() - matched["item_id"].n_unique(),
            },
            checks=[_warning(BILLED_LINES, ONE_ITEM, frame.filter(state="ambiguous")["line_id"])],
        )


def _warning(table: Any, name: str, ids: "pl.Series") -> dg.AssetCheckResult:
    """A check that asks a person to decide; what is ambiguous is already kept out of everything that counts."""
    found = ids.unique().sort().to_list()
    return dg.AssetCheckResult(
        check_name=name,
        asset_key=key(table),
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"ambiguous": len(found), "first": ", ".join(found[:20])},
    )


def _links(settings: Settings) -> "pl.DataFrame":
    from sync_pipeline.engine.assembly import open_current_ledger
    from sync_pipeline.warehouse.ledger_frames import links_to_stripe

    with open_current_ledger(settings) as ledger, ledger.read() as conn:
        return links_to_stripe(conn)
