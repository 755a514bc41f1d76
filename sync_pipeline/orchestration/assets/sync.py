"""The full comparison: what would be written, the writing, and the certificate of what agrees afterwards.

The three belong to one run. What is written is what this run planned from this run's snapshots, so the plan goes
from step to step in memory; an account is looked at afresh before anything is written to it.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from sync_pipeline.config.settings import Settings
from sync_pipeline.frames.tables import (
    ACCOUNT_CUSTOMERS,
    ACCOUNT_LTV,
    CERTIFICATE,
    CERTIFICATE_ACCOUNTS,
    CERTIFICATE_HISTORY,
    DEAL_SUBSCRIPTIONS,
    MAPPING,
    MRR_AT_RISK,
    PLAN,
    SNAPSHOTS,
)
from sync_pipeline.orchestration.assets.sources import source
from sync_pipeline.orchestration.failures import MOST_WRITES_SHOWN, one_clear_failure
from sync_pipeline.orchestration.lanes import RECONCILE
from sync_pipeline.orchestration.launchpad import ALLOW
from sync_pipeline.orchestration.pages import offered
from sync_pipeline.orchestration.table_assets import (
    NIGHTLY,
    OWNERS,
    Results,
    key,
    materialized,
    schema_check,
    table_spec,
)

if TYPE_CHECKING:
    from sync_pipeline.engine.reconcile import Certificate

WRITEBACK = dg.AssetKey(["sync", "writeback"])
AGREE = "salesforce_and_stripe_agree_to_the_penny"
INDEPENDENT = "planner_and_tables_agree_on_every_account_to_the_penny"
ADDS_UP = "every_difference_is_the_sum_of_its_classes"
MEMORY = "run_memory"
NOT_COUNTED = (
    "salesforce/contracts",
    "salesforce/churn_records",
    "salesforce/sync_conflicts",
    "salesforce/failure_tasks",
    "stripe/events",
)
CERTIFIED_FROM = tuple(SNAPSHOTS[name] for name in SNAPSHOTS if name not in NOT_COUNTED)
LEFT_SHOWN = 20
BEFORE_PLAN = [*map(key, (*SNAPSHOTS.values(), *MAPPING, ACCOUNT_LTV))]


@dg.multi_asset(
    name="plan",
    pool=RECONCILE,
    specs=[
        table_spec(
            PLAN,
            group="sync",
            kinds={"parquet"},
            deps=[*BEFORE_PLAN, source("ledger", "link"), source("ledger", "fact")],
        ).with_io_manager_key(MEMORY)
    ],
    check_specs=[schema_check(PLAN)],
)
def plan(context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]) -> Results:
    """Plans every account that billing concerns from the snapshots; writes to neither system."""
    from sync_pipeline.engine.assembly import open_engine
    from sync_pipeline.engine.plan_text import as_markdown
    from sync_pipeline.engine.planning import document
    from sync_pipeline.engine.reconcile import compare
    from sync_pipeline.engine.snapshot import TABLES
    from sync_pipeline.frames.convert import to_frame, to_records
    from sync_pipeline.warehouse.parquet import Warehouse

    with one_clear_failure():
        warehouse = Warehouse(settings.warehouse)
        tables = {name: to_records(warehouse.read(SNAPSHOTS[name]), SNAPSHOTS[name]) for name in TABLES}
        with open_engine(settings, run=context.run.run_id) as engine:
            provenance = {"planned_at": str(engine.env.now())}
            compared = compare(engine, tables)
            planned = document(engine, list(compared.ahead.values()), invoices=False)
        yield materialized(
            settings,
            PLAN,
            to_frame(planned.writes, PLAN),
            provenance,
            metadata={
                "plan": dg.MetadataValue.md(as_markdown(planned, most_writes=MOST_WRITES_SHOWN)),
                "accounts": len(compared.ahead),
                "accounts_that_differ": len(compared.different()),
                "commands": sum(len(each.commands) for each in compared.ahead.values()),
                "reviews": sum(len(each.now.reviews) for each in compared.ahead.values()),
            },
            value=compared,
        )


def _nightly(asset: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """The freshness policy that a graph cannot be given by its decorator."""
    return asset.map_asset_specs(lambda spec: spec.replace_attributes(freshness_policy=NIGHTLY))


@dg.op(pool=RECONCILE, out=dg.Out(io_manager_key=MEMORY))
def choose_accounts(context: dg.OpExecutionContext, plan: Any) -> list[str]:
    """The accounts whose plan is not empty."""
    different: list[str] = plan.different()
    context.log.info(f"{len(different)} of {len(plan.ahead)} accounts differ")
    return different


@dg.op(pool=RECONCILE, out=dg.Out(io_manager_key=MEMORY), config_schema=ALLOW)
def write_back(
    context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings], plan: Any, accounts: list[str]
) -> dg.Output[Any]:
    """Claims the accounts, looks at them afresh, plans again and writes, round by round until they are at rest.

    Stops before it begins when that would be more than the guards allow.
    """
    from sync_pipeline.engine.assembly import open_engine
    from sync_pipeline.engine.guard import check_everything
    from sync_pipeline.engine.reconcile import repair

    allow = context.op_config["allow"]
    with one_clear_failure(), open_engine(settings, run=context.run_id) as engine:
        if not allow:
            check_everything(engine, plan.ahead.values())
        report = repair(engine, accounts, allow=allow)
    counts = {
        "accounts": report.accounts,
        "settled": report.settled,
        "deferred": report.deferred,
        "writes": report.writes,
        "linked": report.linked,
        "parked": report.parked,
        **report.cost.report(),
    }
    context.log.info(f"{report.writes} writes, {report.settled} of {report.accounts} accounts at rest")
    return dg.Output(report, metadata=counts)


@_nightly
@dg.graph_asset(
    key=WRITEBACK,
    ins={"plan": dg.AssetIn(key(PLAN))},
    group_name="sync",
    kinds={"salesforce", "stripe"},
    owners=OWNERS,
    description="The writes that bring both systems together. Drain runs report their batches here as observations.",
)
def writeback(plan: Any) -> Any:
    return write_back(plan, choose_accounts(plan))


@dg.multi_asset(
    name="certificate",
    pool=RECONCILE,
    specs=[
        table_spec(CERTIFICATE, group="sync", kinds={"parquet"}, deps=[key(PLAN), WRITEBACK]),
        table_spec(
            CERTIFICATE_ACCOUNTS,
            group="sync",
            kinds={"polars", "parquet"},
            deps=[WRITEBACK, *map(key, (*CERTIFIED_FROM, ACCOUNT_CUSTOMERS, DEAL_SUBSCRIPTIONS, MRR_AT_RISK))],
        ),
        table_spec(CERTIFICATE_HISTORY, group="sync", kinds={"polars", "parquet"}, deps=[key(CERTIFICATE_ACCOUNTS)]),
    ],
    check_specs=[
        schema_check(CERTIFICATE),
        schema_check(CERTIFICATE_ACCOUNTS),
        schema_check(CERTIFICATE_HISTORY),
        dg.AssetCheckSpec(
            ADDS_UP,
            asset=key(CERTIFICATE_ACCOUNTS),
            description="The classes of every difference add up to what lies between the two systems.",
        ),
        dg.AssetCheckSpec(
            INDEPENDENT,
            asset=key(CERTIFICATE_ACCOUNTS),
            description=(
                "Where the planner, which computes account by account, finds nothing to write, the figures computed"
                " over whole tables are those that Salesforce shows."
            ),
        ),
        dg.AssetCheckSpec(
            AGREE,
            asset=key(CERTIFICATE),
            description="After the repair nothing differs and no account waits for a person; all totals are equal.",
        ),
    ],
    ins={
        "plan": dg.AssetIn(key(PLAN), input_manager_key=MEMORY),
        "written": dg.AssetIn(WRITEBACK, input_manager_key=MEMORY),
    },
)
def certificate(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings], plan: Any, written: Any
) -> Results:
    """Looks at every account that differed once more, adds up what both systems say, and makes the page."""
    import polars as pl

    from sync_pipeline.engine.assembly import open_engine
    from sync_pipeline.engine.reconcile import certify
    from sync_pipeline.frames.certificate import BASE, MEASURES, unlike_the_planner
    from sync_pipeline.frames.convert import to_frame
    from sync_pipeline.warehouse.certificate import certify_amounts, write_page
    from sync_pipeline.warehouse.parquet import Warehouse
    from sync_pipeline.warehouse.summaries import agreement_over_time

    with one_clear_failure():
        with open_engine(settings, run=context.run.run_id) as engine:
            found = certify(engine, plan, written)
            commercial = engine.rules.commercial
        agreed = [
            (name, measure, value)
            for name, each in plan.ahead.items()
            for measure in MEASURES
            if (value := each.before.base.get((name, f"account.{measure}"))) is not None
        ]
        warehouse = Warehouse(settings.warehouse)
        provenance = {"certified_at": str(found.at)}
        left = {each.account for each in found.left}
        base_frame = pl.DataFrame(agreed, schema=BASE, orient="row")
        amounts = certify_amounts(warehouse, commercial, base_frame, left, found.at)
        over_time = dg.MetadataValue.md(agreement_over_time(amounts.history))
        page = offered(context, write_page(warehouse, amounts, commercial, agrees=found.agrees, at=found.at))
        yield materialized(
            settings,
            CERTIFICATE,
            to_frame(_totals(found), CERTIFICATE),
            provenance,
            metadata={
                "page": page,
                "agreement": over_time,
                "accounts": found.accounts,
                "agreed": found.agreed,
                "repaired": found.repaired,
                "writes": found.writes,
                "left": len(found.left),
                "left_to_do": dg.MetadataValue.md(_left(found)),
                **{f"difference_minor_{row.measure}_{row.currency}": row.difference_minor for row in _totals(found)},
            },
            checks=[dg.AssetCheckResult(check_name=AGREE, asset_key=key(CERTIFICATE), passed=found.agrees)],
        )
        # What changed since the listing, or waits for a person, says nothing about the computation.
        quiet = plan.ahead.keys() - set(plan.different()) - left
        apart = unlike_the_planner(amounts.amounts, quiet)
        classes = amounts.amounts["difference_class"].value_counts().sort("difference_class")
        yield materialized(
            settings,
            CERTIFICATE_ACCOUNTS,
            amounts.amounts,
            provenance,
            metadata={
                "page": page,
                **{f"class_{name}": count for name, count in classes.iter_rows()},
            },
            checks=[
                dg.AssetCheckResult(
                    check_name=ADDS_UP,
                    asset_key=key(CERTIFICATE_ACCOUNTS),
                    passed=amounts.wrong.is_empty(),
                    metadata={"figures": amounts.wrong.height},
                ),
                dg.AssetCheckResult(
                    check_name=INDEPENDENT,
                    asset_key=key(CERTIFICATE_ACCOUNTS),
                    passed=apart.is_empty(),
                    metadata={"accounts": len(quiet), "first": ", ".join(apart["account_id"].head(LEFT_SHOWN))},
                ),
            ],
        )
        yield materialized(
            settings, CERTIFICATE_HISTORY, amounts.history, provenance, metadata={"agreement": over_time}
        )


def _totals(certificate: "Certificate") -> list[Any]:
    from sync_pipeline.frames.rows import CertifiedTotal

    return [
        CertifiedTotal(
            measure=measure,
            currency=currency,
            salesforce_minor=total.salesforce,
            stripe_minor=total.stripe,
            difference_minor=total.difference,
        )
        for measure, by_currency in sorted(certificate.totals.items())
        for currency, total in sorted(by_currency.items())
    ]


def _left(certificate: "Certificate") -> str:
    """What is left, by record id; details may name people, so they stay in the ledger."""
    return "\n".join(_lines(certificate)) or "Nothing: both systems agree."


def _lines(certificate: "Certificate") -> Iterator[str]:
    if certificate.left:
        yield "| Account | Record |\n| --- | --- |"
    yield from (f"| {left.account} | {left.subject} |" for left in certificate.left[:LEFT_SHOWN])
    if len(certificate.left) > LEFT_SHOWN:
        yield f"| {len(certificate.left) - LEFT_SHOWN} more | |"
