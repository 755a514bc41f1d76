"""The jobs that a person starts in the launchpad: look at Accounts now, try refused writes again, plan, apply, undo,
explain.

Each says in its configuration what to fill in, shows what came of it as the metadata of its one step, and ends with
one line that names what is wrong and what to do where it cannot work. Runs about named Accounts carry the tag
`sync/scope`, a keyed hash of them: it finds the other runs about the same Accounts and tells nobody which they are.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from sync_pipeline.config.settings import Settings
from sync_pipeline.orchestration.failures import MOST_WRITES_SHOWN, one_clear_failure
from sync_pipeline.orchestration.lanes import ALL_ACCOUNTS, LANE, SCOPE
from sync_pipeline.orchestration.launchpad import ALLOW, filled_in, some_text, some_texts

if TYPE_CHECKING:
    from sync_pipeline.engine.context import Engine
    from sync_pipeline.engine.planning import PlanDocument
    from sync_pipeline.engine.rounds import BatchReport

HASH_LENGTH = 24
PAGE_WIDTH = 120
RUNS_SHOWN = 20
RUN_ID = re.compile("[0-9a-f-]{36}")
MAX_RUNTIME_SECONDS = 60 * 60
AN_ACCOUNT = "the Account's id (001...) or the link of its page in Salesforce"
TAGS = {LANE: "by_hand", "dagster/max_runtime": str(MAX_RUNTIME_SECONDS)}


SOME_ACCOUNTS = {"accounts": some_texts(f"Which Accounts: {AN_ACCOUNT} for each."), **ALLOW}
SOME_REFUSED = {
    "records": some_texts(
        f"What to try again: {AN_ACCOUNT}, or a record as this job lists it. Empty: only list what is parked, and why."
    ),
    "everything": dg.Field(bool, default_value=False, description="Try everything again that is parked."),
    **ALLOW,
}
PLAN_SCOPE = {"accounts": some_texts(f"Which Accounts: {AN_ACCOUNT} for each. Empty: all of them, from full listings.")}
KEPT_PLAN = {"plan_run": some_text("Id of the plan_only run whose plan you have read."), **ALLOW}
SET_BACK = {
    "run": some_text("Which run to set back, as the list of this job names it. Empty: list the latest runs."),
    "write": dg.Field(bool, default_value=False, description="Set the values back; otherwise they are only shown."),
    **ALLOW,
}
QUESTION = {
    "record": some_text(
        "The link of the record's page in Salesforce, its id, or OBJECT/ID, as in Account/001..., subscription/sub_...,"
        " Churn_Record__c/a0B..."
    ),
    "field": some_text("API name of a field, as in Lifetime_Value__c. Empty: all of them."),
}


@dg.op(config_schema=SOME_ACCOUNTS)
def look_at_accounts(context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings]) -> None:
    """Claims the Accounts, looks at them in both systems, plans and writes until they are at rest."""
    from sync_pipeline.engine.by_name import look_at

    accounts = _account_ids(context.op_config["accounts"])
    if not accounts:
        raise dg.Failure(f"no Account is named: write into `accounts` {AN_ACCOUNT}", allow_retries=False)
    with _engine(context, settings) as engine:
        _tag(context, engine, accounts)
        report = look_at(engine, accounts, allow=context.op_config["allow"])
        _tell_elsewhere(context, accounts, report)
        context.add_output_metadata(_came_to(context, engine, accounts, report))


@dg.op(config_schema=SOME_REFUSED)
def try_refused_writes(context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings]) -> None:
    """Plans the Accounts of the refused writes anew and sends what is still wanted; or lists what is parked."""
    from sync_pipeline.core.salesforce_ids import record_id
    from sync_pipeline.engine.by_name import refused, replay
    from sync_pipeline.engine.markdown import table
    from sync_pipeline.engine.refusals import without_values

    names = [record_id(name) or name.strip() for name in context.op_config["records"]]
    with _engine(context, settings) as engine:
        rows = refused(engine, names)
        parked = [(row.account, row.target, row.reason, without_values(row.error or "")) for row in rows]
        listed = table(("Account", "Record", "Wanted", "Refused because"), parked[:MOST_WRITES_SHOWN])
        found: dict[str, Any] = {
            "parked": len(rows),
            "parked_writes": dg.MetadataValue.md(listed if rows else "Nothing is parked."),
        }
        if rows and (names or context.op_config["everything"]):
            accounts = sorted({row.account for row in rows})
            _tag(context, engine, accounts)
            report = replay(engine, rows, allow=context.op_config["allow"])
            _tell_elsewhere(context, accounts, report)
            found |= _came_to(context, engine, accounts, report)
        elif rows:
            context.log.info("nothing was tried: name what to try in `records`, or set `everything: true`")
        context.add_output_metadata(found)


@dg.op(config_schema=PLAN_SCOPE)
def plan_without_writing(context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings]) -> None:
    """Reads both systems, plans every round of every Account, and keeps the plan. Writes to neither system."""
    from sync_pipeline.core import canonical
    from sync_pipeline.engine.by_name import require_accounts
    from sync_pipeline.engine.plan_text import as_markdown
    from sync_pipeline.engine.planning import document, foresee_accounts
    from sync_pipeline.engine.reconcile import compare, read_tables
    from sync_pipeline.warehouse.parquet import replace_file

    accounts = _account_ids(context.op_config["accounts"])
    with _engine(context, settings) as engine:
        _tag(context, engine, accounts)
        if accounts:
            require_accounts(engine, accounts)
            ahead = foresee_accounts(engine, accounts)
        else:
            ahead = list(compare(engine, read_tables(engine)).ahead.values())
        planned = document(engine, ahead)
    path = _plan_file(settings, context.run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, canonical.encode(planned).encode())
    context.add_output_metadata(
        {
            "plan": dg.MetadataValue.md(as_markdown(planned, most_writes=MOST_WRITES_SHOWN)),
            **_counts(planned),
            "file": dg.MetadataValue.path(str(path)),
            "to_write_it": f"start the job apply_plan with plan_run: {context.run_id}",
        }
    )


@dg.op(config_schema=KEPT_PLAN)
def write_kept_plan(context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings]) -> None:
    """Writes what the plan says. An Account that has changed since is left alone, and its moved lines are told."""
    from sync_pipeline.engine.apply_plan import apply_plan as write
    from sync_pipeline.engine.markdown import table
    from sync_pipeline.engine.planning import PlanError, from_json

    with _engine(context, settings) as engine:
        run = context.op_config["plan_run"].strip()
        path = _plan_file(settings, run)
        if not RUN_ID.fullmatch(run) or not path.is_file():
            raise PlanError(
                f"there is no plan of a run {run!r}: start the job plan_only, read its plan, and write"
                " that run's id into `plan_run`"
            )
        planned = from_json(path.read_bytes())
        accounts = sorted({write.account_id for write in planned.writes})
        _tag(context, engine, accounts)
        report = write(engine, planned, allow=context.op_config["allow"])
        found = _came_to(context, engine, accounts, report.total)
    if report.moved:
        lines = [(each.account_id, f"{each.target} {each.field}", each.what) for each in report.moved]
        found["left_because_it_moved"] = dg.MetadataValue.md(table(("Account", "Record", "What"), lines))
    if report.unread:
        unread = sorted(report.unread.items())
        found["left_because_it_could_not_be_read"] = dg.MetadataValue.md(table(("Account", "Why"), unread))
    if report.begun:
        context.log.warning(
            f"changed while their plan was written, and left half-way: {', '.join(sorted(report.begun))}"
        )
    if left := len(report.unread.keys() | report.refused):
        context.log.warning(
            f"{left} accounts are left: {len(report.refused)} have changed, {len(report.unread)} could not be read"
        )
    context.add_output_metadata({"accounts_left": left, **found})


@dg.op(config_schema=SET_BACK)
def set_back(context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings]) -> None:
    """Sets back what a run has written to Salesforce, where it still stands; shows it, and what stays, before."""
    from sync_pipeline.engine.audit_text import runs_as_markdown
    from sync_pipeline.engine.undo import carry_out, plan_undo
    from sync_pipeline.engine.undo_text import as_markdown
    from sync_pipeline.ledger import audit

    run = context.op_config["run"].strip()
    with _engine(context, settings) as engine:
        if not run:
            with engine.ledger.read() as conn:
                latest = audit.runs(conn, RUNS_SHOWN)
            context.add_output_metadata({"runs": dg.MetadataValue.md(runs_as_markdown(latest))})
            return
        undo = plan_undo(engine, run)
        _tag(context, engine, undo.commands.keys())
        found: dict[str, Any] = {
            "plan": dg.MetadataValue.md(as_markdown(undo, most=MOST_WRITES_SHOWN)),
            "records": sum(map(len, undo.commands.values())),
            "stays": len(undo.stays),
        }
        if context.op_config["write"]:
            done = carry_out(engine, undo, allow=context.op_config["allow"])
            found |= {"set_back": done.total.done, "refused": done.total.parked, "changed_since": len(done.stays)}
            found["for_later"] = len(done.total.waiting | undo.unread.keys())
        context.add_output_metadata(found)


@dg.op(config_schema=QUESTION)
def answer_why(context: dg.OpExecutionContext, settings: dg.ResourceParam[Settings]) -> None:
    """From the value to its rule, to what it was read from, to every write and what was there before."""
    from sync_pipeline.engine.by_name import reference
    from sync_pipeline.engine.explain import NothingToExplain, explain
    from sync_pipeline.engine.explain_text import as_text

    with _engine(context, settings) as engine:
        if not context.op_config["record"].strip():
            raise NothingToExplain("no record is named: write into `record` OBJECT/ID, as in Account/001...")
        found = explain(engine, reference(context.op_config["record"]), context.op_config["field"].strip() or None)
        _tag(context, engine, [found[0].account])
    context.add_output_metadata(
        {"explanation": dg.MetadataValue.md(f"```\n{as_text(found, width=PAGE_WIDTH)}\n```"), "fields": len(found)}
    )


@contextmanager
def _engine(context: dg.OpExecutionContext, settings: Settings) -> Iterator["Engine"]:
    """The engine, whose writes the audit keeps under the id of this run."""
    from sync_pipeline.engine.assembly import open_engine

    with one_clear_failure(), open_engine(settings, run=context.run_id) as engine:
        for warning in engine.warnings:
            context.log.warning(f"the rules do not fit the org, so writes will be refused: {warning}")
        yield engine


def _account_ids(named: Sequence[str]) -> list[str]:
    """The ids that a person means. Raises Failure for what cannot be an Account."""
    from sync_pipeline.core.salesforce_ids import record_id

    ids = {text: record_id(text) for text in named if text.strip()}
    wrong = [text for text, found in ids.items() if found is None or not found.startswith("001")]
    if wrong:
        raise dg.Failure(f"{wrong[0]!r} is no Account: write {AN_ACCOUNT}", allow_retries=False)
    return sorted({found for found in ids.values() if found is not None})


def _tag(context: dg.OpExecutionContext, engine: "Engine", accounts: Collection[str]) -> None:
    """Which Accounts the run is about, as a keyed hash."""
    from sync_pipeline.core import canonical
    from sync_pipeline.core.fields import keyed_hash

    scope = ALL_ACCOUNTS
    if accounts:
        scope = keyed_hash(canonical.encode(sorted(accounts)), engine.personal_key)[:HASH_LENGTH]
    context.instance.add_run_tags(context.run_id, {SCOPE: scope})


def _tell_elsewhere(context: dg.OpExecutionContext, accounts: Collection[str], report: "BatchReport") -> None:
    if (elsewhere := len(accounts) - report.accounts) > 0:
        context.log.info(f"{elsewhere} accounts are in work elsewhere, and are looked at there again")


def _came_to(
    context: dg.OpExecutionContext, engine: "Engine", accounts: Collection[str], report: "BatchReport"
) -> dict[str, Any]:
    """What the run did, as metadata."""
    from sync_pipeline.engine.audit_text import as_markdown
    from sync_pipeline.ledger import audit

    with engine.ledger.read() as conn:
        rows = audit.of_run(conn, context.run_id)
    for problem in sorted(report.problems):
        context.log.warning(problem)
    return {
        "written": dg.MetadataValue.md(as_markdown(rows, most=MOST_WRITES_SHOWN)),
        "accounts": len(accounts),
        "at_rest": report.settled,
        "resting": report.resting,
        "deferred": report.deferred,
        "writes": report.writes,
        "refused": report.parked,
        **report.cost.report(),
    }


def _counts(planned: "PlanDocument") -> dict[str, int]:
    return {
        "accounts": planned.accounts,
        "accounts_that_differ": len({write.account_id for write in planned.writes}),
        "for_a_person": len(planned.open_matters),
        "stripe_calls": planned.calls.stripe_writes,
        "salesforce_calls": planned.calls.salesforce_writes,
    }


def plans_folder(settings: Settings) -> Path:
    """Where plans wait until somebody has read them."""
    return settings.home / "plans"


def _plan_file(settings: Settings, run: str) -> Path:
    return plans_folder(settings) / f"{run}.json"


def _job(name: str, op: dg.OpDefinition, fields: Mapping[str, dg.Field], description: str) -> dg.JobDefinition:
    return dg.GraphDefinition(name=name, node_defs=[op]).to_job(
        description=description, config=filled_in(fields, op.name), tags=TAGS, executor_def=dg.in_process_executor
    )


JOBS = [
    _job(
        "resync_accounts",
        look_at_accounts,
        SOME_ACCOUNTS,
        "Looks at these Accounts now, in both systems, and writes what makes them agree. What was refused to them is"
        " tried once more.",
    ),
    _job(
        "replay_parked",
        try_refused_writes,
        SOME_REFUSED,
        "Lists the writes that a system has refused, and why; tries those that you name again. For when the reason is"
        " gone and nothing else has changed: what changes is tried again by itself.",
    ),
    _job(
        "plan_only",
        plan_without_writing,
        PLAN_SCOPE,
        "Shows every write that would be made, why, and the money that it moves. Writes to neither system.",
    ),
    _job("apply_plan", write_kept_plan, KEPT_PLAN, "Writes a plan that `plan_only` has kept, as far as it still fits."),
    _job(
        "undo_run",
        set_back,
        SET_BACK,
        "Sets back what a run has written to Salesforce, where it still stands. What was written to Stripe stays and is"
        " shown. Mend the rule or the record first: the rules have the last word again right after.",
    ),
    _job(
        "explain_value",
        answer_why,
        QUESTION,
        "Says why a field has its value: its rule, what it was read from, each write, and what was there before.",
    ),
]
