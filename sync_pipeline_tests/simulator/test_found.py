"""What the simulator has found, as the least plan that showed it: each failed before its fix.

A seed would stand for another story as soon as people learn to do something new; a plan stays what it is.
"""

from __future__ import annotations

import re
from inspect import getsource

import pytest

from sync_pipeline.sandbox.salesforce.package import DEFAULT_PACKAGE, load
from sync_pipeline.simulator import edits, held, oracle, people, watch
from sync_pipeline.simulator.people import Action
from sync_pipeline.simulator.play import Plan, play
from sync_pipeline.simulator.stage import Weather

FOUND: dict[str, Plan] = {
    "seed 103: who resent a command before he had signed in did so inside the write-ahead's transaction": Plan(
        103,
        (
            Action(2400, "win", 0, 0),
            Action(125, "win", 2, 0),
            Action(140, "edit figures by hand", 2, 53),
            Action(15552120, "edit seats at Stripe", 1, 6),
            Action(10920, "refund", 1, 56),
            Action(2678520, "rename the customer", 0, 42),
            Action(2520, "win", 1, 0),
        ),
        (
            (5, "stripe_500 committed"),
            (10, "lost before"),
            (20, "stripe_429"),
            (28, "stripe_429"),
            (30, "salesforce_concurrent_limit"),
            (39, "lost before"),
            (43, "salesforce_503"),
            (44, "late"),
        ),
        Weather(kill=0.02),
        by_card=False,
    ),
    "seed 130: a renewal that was paid is won and is never billed itself": Plan(
        130,
        (
            Action(15552000, "rename the customer", 0, 36),
            Action(2520, "win", 1, 0),
            Action(15552120, "refund", 0, 23),
            Action(15552120, "cancel at once", 0, 53),
        ),
        (),
        Weather(),
        by_card=True,
    ),
    "seed 118: what a person ruled was agreed on before Stripe had it": Plan(
        1,
        (
            Action(0, "win", 0, 0),
            Action(3600, "set the end on both sides", 0, 24),
            Action(3600, "rule on a conflict", 0, 24),
        ),
        (),
        Weather(),
        by_card=False,
    ),
    "seed 184: who had stood still went on with what Salesforce had shown before the edit that it then overwrote": Plan(
        184,
        (
            Action(2400, "win", 2, 0),
            Action(50, "edit seats on both sides", 2, 21),
            Action(2400, "schedule the end", 2, 40),
        ),
        (),
        Weather(pause=0.005),
        by_card=True,
    ),
    "seed 931: a clash counts too where what both had agreed on was written down only after both had edited it": Plan(
        931,
        (
            Action(300, "win", 0, 0),
            Action(10800, "edit seats on both sides", 2, 28),
            Action(345600, "rule on a conflict", 2, 28),
            Action(300, "win", 2, 0),
            Action(2400, "cancel at once", 2, 59),
            Action(2678400, "edit seats on both sides", 2, 13),
        ),
        (),
        Weather(kill=0.005, pause=0.005),
        by_card=True,
    ),
    "seed 939: what was edited on a merged Account was edited on the one that has it now": Plan(
        939,
        (
            Action(5, "win", 1, 0),
            Action(15552000, "dispute a payment", 1, 49),
            Action(5, "edit seats in Salesforce", 2, 54),
            Action(345600, "edit seats on both sides", 1, 20),
            Action(15552000, "merge the Account", 1, 37),
        ),
        (),
        Weather(),
        by_card=True,
    ),
    "seed 991: a ruling for a cancel date that is past waits for what a person is told to do": Plan(
        991,
        (
            Action(5, "win", 2, 0),
            Action(0, "merge the Account", 1, 8),
            Action(20, "take the end back", 2, 14),
            Action(10800, "set the end on both sides", 2, 59),
            Action(15552000, "rule on a conflict", 1, 12),
        ),
        (),
        Weather(),
        by_card=False,
    ),
    "seed 1338: a Task that is completed has a command of its own": Plan(
        1338,
        (
            Action(50, "edit a price in Salesforce", 2, 30),
            Action(50, "win", 1, 0),
            Action(2678400, "take the cancel date away", 0, 53),
            Action(2400, "fail to pay", 1, 12),
            Action(345600, "set the end on both sides", 1, 42),
            Action(0, "take the cancel date away", 1, 39),
        ),
        (),
        Weather(),
        by_card=True,
    ),
    "seed 81: a merge that nobody looked for in fifteen days is not found out any more, and a person is told": Plan(
        81,
        (
            Action(300, "win", 0, 0),
            Action(2400, "edit figures by hand", 1, 57),
            Action(345600, "win a dispute", 1, 57),
            Action(10800, "restore the Account", 1, 16),
            Action(20, "merge the Account", 0, 14),
            Action(300, "win", 1, 0),
            Action(2678400, "edit seats in Salesforce", 1, 19),
        ),
        (),
        Weather(pause=0.02),
        by_card=True,
    ),
    "seed 280: a merge that another worker followed during a look billed a deal twice": Plan(
        280,
        (
            Action(2400, "win", 0, 0),
            Action(85800, "set the end on both sides", 1, 36),
            Action(10800, "rule on a conflict", 1, 36),
            Action(0, "win", 2, 0),
            Action(85800, "win an amendment", 0, 43),
            Action(85800, "take the cancel date away", 2, 42),
            Action(85800, "delete the customer", 1, 24),
            Action(0, "merge the Account", 2, 16),
        ),
        (),
        Weather(kill=0.02, pause=0.005),
        by_card=False,
    ),
    "seed 1317: after a merge that is not found out, a Contract names a subscription that no Account shows": Plan(
        1317,
        (
            Action(0, "win", 0, 0),
            Action(5, "win", 1, 0),
            Action(0, "merge the Account", 0, 10),
            Action(2678400, "take the end back", 2, 48),
            Action(85800, "set the end on both sides", 1, 50),
        ),
        (),
        Weather(),
        by_card=False,
    ),
    "seed 1475: an Account takes the Task of an overdue invoice along": Plan(
        1475,
        (
            Action(50, "win", 1, 0),
            Action(345600, "delete the customer", 2, 10),
            Action(300, "reopen the deal", 1, 36),
            Action(2678400, "restore the Account", 1, 44),
            Action(300, "win", 2, 0),
            Action(300, "delete the Account", 1, 48),
        ),
        (),
        Weather(kill=0.02),
        by_card=False,
    ),
    "seed 1884: a subscription that comes with a merged Account's customer has an end there from then on": Plan(
        1,
        (Action(0, "win", 0, 0), Action(20, "merge the Account", 0, 50)),
        tuple((call, "stripe_503") for call in range(21, 33)),
        Weather(),
        by_card=False,
    ),
    "seed 2162: the day from which on a renewal is worked on is no quiet day": Plan(
        2162,
        (
            Action(20, "win", 0, 0),
            Action(23675445, "refund", 0, 48),
        ),
        (),
        Weather(),
        by_card=True,
    ),
    "seed 2490: an edit of seats that Stripe refused is none": Plan(
        2490,
        (
            Action(20, "win", 2, 0),
            Action(300, "merge the Account", 1, 53),
            Action(15552300, "fail to pay", 1, 29),
            Action(2460, "edit seats at Stripe", 2, 40),
        ),
        (),
        Weather(kill=0.005, pause=0.02),
        by_card=True,
    ),
    "seed 3440: an Account whose own customer was deleted names the one that came with a merge": Plan(
        3440,
        (
            Action(20, "win", 1, 0),
            Action(50, "reopen the deal", 2, 39),
            Action(2400, "edit a price in Salesforce", 1, 42),
            Action(100, "delete the customer", 1, 28),
            Action(305, "merge the Account", 1, 12),
        ),
        (),
        Weather(kill=0.005, pause=0.02),
        by_card=False,
    ),
    "seed 3794: whose a deleted customer was is known when its Account was merged long ago": Plan(
        3794,
        (
            Action(2400, "win", 2, 0),
            Action(18230520, "merge the Account", 2, 4),
            Action(2678470, "delete the customer", 0, 21),
        ),
        (),
        Weather(),
        by_card=True,
    ),
    "seed 3828: a merge that another worker followed during a look killed the worker: its facts had another name": Plan(
        3828,
        (
            Action(20, "win", 2, 0),
            Action(15552000, "lose a dispute", 0, 31),
            Action(20, "merge the Account", 2, 30),
        ),
        (),
        Weather(pause=0.005),
        by_card=True,
    ),
    "seed 4761: who had lost an account gave a new key to what another worker had sent, and died": Plan(
        4761,
        (
            Action(50, "win", 1, 0),
            Action(2400, "fail to pay", 2, 43),
            Action(20, "win", 0, 0),
            Action(10800, "rule on a conflict", 1, 5),
            Action(2400, "win", 2, 0),
            Action(345600, "edit seats in Salesforce", 1, 52),
            Action(2680800, "rule on a conflict", 0, 24),
        ),
        (),
        Weather(pause=0.02),
        by_card=False,
    ),
    "seed 9511: what was answered after a merge was noted as agreed on under the Account that is gone": Plan(
        9511,
        (
            Action(50, "win", 0, 0),
            Action(345600, "edit figures by hand", 0, 57),
            Action(20, "edit seats at Stripe", 0, 55),
            Action(300, "merge the Account", 0, 18),
        ),
        (),
        Weather(pause=0.02),
        by_card=True,
    ),
    "seed 5915: an item that was not told yet that it has lost a line gave its seats to the line that stayed": Plan(
        5915,
        (
            Action(5, "win", 0, 0),
            Action(2400, "win an amendment", 0, 38),
            Action(2400, "win", 2, 0),
            Action(15552000, "refund", 2, 51),
            Action(300, "edit a price in Salesforce", 0, 31),
        ),
        (),
        Weather(kill=0.005, pause=0.005),
        by_card=False,
    ),
    "seed 16680: Stripe gives no end to a subscription whose first invoice is not paid": Plan(
        16680,
        (
            Action(300, "win", 0, 0),
            Action(2678400, "take the end back", 0, 13),
            Action(2400, "enter a cancel date", 0, 56),
            Action(20, "win", 1, 0),
            Action(10800, "edit seats in Salesforce", 2, 24),
            Action(50, "fail to pay", 0, 41),
            Action(2400, "win", 2, 0),
            Action(10800, "set the end on both sides", 0, 10),
            Action(10800, "rule on a conflict", 0, 10),
        ),
        (
            (2, "salesforce_expired_session"),
            (8, "stripe_500 committed"),
            (9, "salesforce_expired_session"),
            (19, "lost after"),
            (23, "late"),
            (44, "stripe_503"),
            (45, "lost after"),
            (50, "salesforce_row_lock"),
            (52, "stripe_500 committed"),
            (60, "stripe_500 committed"),
            (70, "late"),
            (73, "late"),
            (74, "lost after"),
            (75, "lost before"),
            (85, "stripe_409_in_progress"),
            (97, "stripe_429"),
            (99, "lost after"),
        ),
        Weather(),
        by_card=True,
    ),
    "seed 10894: a customer that was made while its Account was merged had the slot of the one that is gone": Plan(
        10894,
        (
            Action(20, "win", 0, 0),
            Action(355, "delete the Account", 2, 32),
            Action(300, "reopen the deal", 0, 51),
            Action(0, "merge the Account", 0, 37),
        ),
        (
            (18, "lost after"),
            (19, "late"),
            (22, "stripe_500"),
        ),
        Weather(pause=0.02),
        by_card=False,
    ),
    "seed 13714: a subscription of a merged Account has its end before the merge is found out": Plan(
        13714,
        (
            Action(20, "win", 0, 0),
            Action(15552000, "enter a cancel date", 1, 44),
            Action(2678400, "rule on a conflict", 2, 10),
            Action(85800, "merge the Account", 0, 10),
        ),
        (
            (21, "stripe_429"),
            (52, "late"),
        ),
        Weather(pause=0.005),
        by_card=True,
    ),
    "seed 15865: until a merge is found out, the figures of each Account are those of its own customers": Plan(
        15865,
        (
            Action(0, "win", 2, 0),
            Action(2678400, "delete the customer", 1, 10),
            Action(2400, "delete the Account", 2, 2),
            Action(10800, "edit a price in Salesforce", 1, 60),
            Action(50, "win", 0, 0),
            Action(2678400, "merge the Account", 2, 12),
        ),
        (
            (9, "lost before"),
            (29, "stripe_lock_timeout"),
            (47, "salesforce_gateway"),
            (52, "late"),
        ),
        Weather(pause=0.005),
        by_card=True,
    ),
}


@pytest.mark.parametrize("what", FOUND)
def test_what_was_found_stays_fixed(what: str) -> None:
    assert play(FOUND[what]).violations == []


def test_the_oracle_knows_the_names_of_fields() -> None:
    """A name that no field has would only ever read as an empty field."""
    package = load(DEFAULT_PACKAGE)
    known = {name for fields in package.fields.values() for name in fields} | package.objects.keys()
    said = "".join(map(getsource, (edits, held, oracle, people, watch)))
    assert set(re.findall(r"\b\w+__c\b", said)) - known == set()
