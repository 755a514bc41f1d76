"""What happens around the people: time, the nightly reconcile, lost webhooks, failing systems, an administrator.

And the two verbs of the story itself: steps at the same moment, and what is expected.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Literal

from sync_pipeline.demo.play import Play
from sync_pipeline.demo.records import Unclear, id_of
from sync_pipeline.demo.story import Steps
from sync_pipeline.demo.verbs import verb
from sync_pipeline.engine.assembly import build_env
from sync_pipeline.engine.intake import resync
from sync_pipeline.engine.ruling import rule

SPAN = re.compile(r"(\d+) (second|minute|hour|day)s?")
SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
STEADY: dict[str, Any] = {}


@verb("time passes")
def time_passes(play: Play, span: str) -> None:
    """For so many seconds, minutes, hours or days. The sync works meanwhile; Stripe bills, collects and retries."""
    found = SPAN.fullmatch(span)
    if found is None:
        raise Unclear(f"{span!r} is no span of time; write it as 4 days")
    play.pass_time(int(found[1]) * SECONDS[found[2]])


@verb("the nightly reconcile runs")
def nightly_reconcile(play: Play) -> None:
    play.reconcile()


@verb("somebody asks for a fresh look")
def fresh_look(play: Play, account: str = "") -> None:
    """What `sync-pipeline resync` does."""
    resync(play.stage.ledger, [id_of(play.only(f"Account {account}"))], build_env(play.stage.settings))


@verb("somebody decides the conflict with resolve")
def decide(play: Play, keep: Literal["Salesforce", "Stripe"], by: str = "Robin") -> None:
    """What `sync-pipeline resolve` does."""
    key = play.only("Sync_Conflict__c")["Conflict_Key__c"]
    rule(play.stage.ledger, build_env(play.stage.settings), key, keep, by=by)


@verb("while the sync is down")
def sync_is_down(play: Play, steps: Steps) -> None:
    """Nothing is received and nothing is written; Stripe's deliveries fail and are repeated later."""
    _webhooks(play, {"drop": 1})
    with play.unattended():
        play.act(steps)
    _webhooks(play, STEADY)


@verb("at the same moment")
def same_moment(play: Play, steps: Steps) -> None:
    """The sync sees only what has come of all of them."""
    with play.unattended():
        play.act(steps)


@verb("webhooks are")
def webhooks(play: Play, conditions: dict[str, Any]) -> None:
    """The share of webhooks that we `lose`, that come `duplicate`, that are held back (`reorder`) or fail (`drop`)."""
    _webhooks(play, {name: float(value) if isinstance(value, Decimal) else value for name, value in conditions.items()})


@verb("webhooks arrive again")
def webhooks_arrive(play: Play) -> None:
    _webhooks(play, STEADY)


@verb("Stripe fails")
def stripe_fails(play: Play, how: str, call: str = ". .", times: int = 1, commit: bool = False) -> None:
    """`call` is a method and a pattern of paths; with `commit` Stripe did it and the answer is lost all the same."""
    _fault(play, "stripe", how, call, times, commit)


@verb("Salesforce fails")
def salesforce_fails(play: Play, how: str, call: str = ". .", times: int = 1, commit: bool = False) -> None:
    _fault(play, "salesforce", how, call, times, commit)


@verb("a row is locked")
def lock(play: Play, record: str, times: int = 1) -> None:
    """So often somebody else's long save holds a Salesforce record when it is written."""
    play.control("POST", "/salesforce", {"lock_row": id_of(play.only(record)), "times": times})


@verb("the session expires")
def expire_session(play: Play) -> None:
    play.control("POST", "/salesforce", {"expire_tokens": True})


@verb("all systems are well again")
def recover(play: Play) -> None:
    play.control("DELETE", "/faults")


@verb("an administrator sets")
def set_up(play: Play, systems: dict[str, Any]) -> None:
    """Settings of the two systems: validation rules, hidden fields, limits, what follows the last retry."""
    play.control("POST", "/settings", systems)


@verb("expect", only_looks=True)
def expect(play: Play, what: dict[str, Any]) -> None:
    play.expect(what)


def _webhooks(play: Play, conditions: dict[str, Any]) -> None:
    play.control("POST", "/webhooks", {"conditions": conditions})


def _fault(play: Play, side: str, how: str, call: str, times: int, commit: bool) -> None:
    method, _, path = call.partition(" ")
    match = {"side": side, "path": path} | ({} if method == "." else {"method": method})
    committed = {"commit": True} if commit else {}
    play.control("POST", "/faults", {"match": match, "kind": how, "times": times, **committed})
