"""I16: what people edit on one side is never lost, and what they edit on both becomes one conflict.

Told from both systems' own values of the two-way fields and from the merge base, at the moment at which a write of the
sync takes effect. A write is held to what its worker has seen: nobody can help an edit that comes between the look and
the write, because Stripe takes no condition with a write.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from zoneinfo import ZoneInfo

from sqlalchemy import select

from sync_pipeline.core import canonical
from sync_pipeline.core.canon import number
from sync_pipeline.core.units import MICROS
from sync_pipeline.ledger.tables import conflict, review
from sync_pipeline.sandbox.world import Sandbox
from sync_pipeline.simulator.held import NOTHING, scheduled_end
from sync_pipeline.simulator.oracle import is_there
from sync_pipeline.simulator.people import ENDED
from sync_pipeline.simulator.stage import Stage, StagedLedger

QUANTITY, CANCEL_DATE = "item.quantity", "contract.cancel_requested_on"
FIELDS = (QUANTITY, CANCEL_DATE)
OF_STRIPE = ("si_", "sub_")
LEASE_SECONDS = 120
WHATEVER = "whatever"
Name = tuple[str, str]
"""Rule and subject, as a conflict has them."""


@dataclass(frozen=True, slots=True)
class Term:
    """A two-way field: both values (canonical), and the ids of the records that show them.

    `joined` is what Salesforce has together with lines that join the others, which are no edit of what both sides had.
    `taken_off`: lines of it are not on the deal any more, which a person is asked about even if only one side moved.
    """

    salesforce: str
    stripe: str
    records: tuple[str, ...]
    joined: str
    taken_off: bool = False

    @property
    def values(self) -> tuple[str, str]:
        return self.salesforce, self.stripe


class Edits:
    """`clashes` counts by field how often base and both values were three different ones, with these values."""

    def __init__(self, stage: Stage, sandbox: Sandbox, zone: ZoneInfo, breaks: Callable[[str], None]) -> None:
        self._stage, self._sandbox, self._zone, self._breaks = stage, sandbox, zone, breaks
        self.ledger: StagedLedger | None = None
        self.clashes: dict[Name, Counter[tuple[str, str, str]]] = defaultdict(Counter)
        self._terms: dict[Name, Term] = {}
        self._told: dict[Name, tuple[str | None, str, str]] = {}
        self._since: dict[Name, int] = {}
        self._looks: dict[tuple[str, str], int] = {}

    def seen(self, worker: str, side: str, moment: int, body: bytes) -> None:
        """A worker has read an answer of a system that was right at a moment."""
        for term in self._terms.values():
            for record in term.records:
                if record.startswith(OF_STRIPE) == (side == "stripe") and record.encode() in body:
                    self._looks[worker, record] = moment

    def look(self, writer: str | None = None) -> None:
        """After every change. `writer` is the worker whose write this is, if it is one."""
        assert self.ledger is not None
        agreed = self.ledger.agreed()
        before, self._terms = self._terms, dict(self._all(agreed))
        for name, term in self._terms.items():
            known, agreed_on = before.get(name), _agreed_on(name, term, agreed)
            if known is None or known.values != term.values:
                if writer is not None and known is not None:
                    self._judge(writer, name, known, term, agreed_on)
                self._since[name] = self._stage.micros
            # What both sides agreed on may become known only after they have edited it: a worker stood still.
            now = (agreed_on, *term.values)
            if agreed_on is not None and self._told.get(name) != now:
                if term.taken_off:
                    # Whatever is on the deal then: a line that was put on since may come to the same item.
                    self.clashes[name][agreed_on, WHATEVER, term.stripe] += 1
                elif len(set(now)) == 3:
                    self.clashes[name][agreed_on, *term.values] += 1
                    self._stage.sometimes[f"both sides edited {name[0]}"] += 1
            self._told[name] = now

    def at_rest(self) -> Iterator[str]:
        """Every clash that was looked at has one conflict, and every conflict was a clash."""
        assert self.ledger is not None
        with self.ledger.read() as conn:
            rows = conn.execute(select(conflict).where(conflict.c.rule.in_(FIELDS))).all()
        found = Counter((row.rule, row.subject, row.base, row.salesforce, row.stripe) for row in rows)
        for (rule, subject, *values), count in found.items():
            known, base = self.clashes[rule, subject], values[0] or NOTHING
            times = known[base, values[1], values[2]] + known[base, WHATEVER, values[2]]
            if count > times:
                yield f"I16: {count} conflicts about {rule} of {subject} with {values}, which clashed {times} times"
        for row in rows:
            term = self._terms.get((row.rule, row.subject))
            if row.status == "Open" and term is not None and term.salesforce == term.stripe:
                yield f"I16: the conflict about {row.rule} of {row.subject} is open, and both sides have {term.stripe}"
        with self.ledger.read() as conn:
            told = set(conn.execute(select(review.c.key).where(review.c.closed_at.is_(None))).scalars())
        yield from self._ends(told)
        yield from self._rulings(told)

    def _ends(self, told: Collection[str]) -> Iterator[str]:
        """A running subscription is to end on the day that its Contract says, or a person is told."""
        subscriptions = self._sandbox.stripe.world.store.table("subscription")
        for (rule, subject), term in self._terms.items():
            if rule != CANCEL_DATE:
                continue
            subscription = subscriptions[term.records[1]]
            if subscription["status"] in ENDED:
                continue
            matters = {f"{rule}:{subject}", f"missing_subscription:{subscription['metadata'].get('sf_opportunity_id')}"}
            if term.salesforce != term.stripe and matters.isdisjoint(told):
                yield f"I16: {subject} is to end on {term.salesforce}, and at Stripe on {term.stripe}"

    def _rulings(self, told: Collection[str]) -> Iterator[str]:
        """Every record of a conflict shows what became of it; a ruling that no later edit has overtaken is done, or a
        person is told what it takes."""
        assert self.ledger is not None
        with self.ledger.read() as conn:
            known = {row.key: row for row in conn.execute(select(conflict))}
        shown = self._sandbox.salesforce.org.store.table("Sync_Conflict__c").values()
        present = {row["Conflict_Key__c"]: row for row in shown if not row.get("IsDeleted")}
        told_nowhere = {key for key, row in known.items() if not is_there(self._sandbox, row.account)}
        for key in sorted((known.keys() ^ present.keys()) - told_nowhere):
            yield f"I16: conflict {key} is {'not ' if key in known else ''}in Salesforce alone"
        for key in sorted(known.keys() & present.keys()):
            status, winner = (present[key].get(name) for name in ("Status__c", "Winner__c"))
            if (status, winner) != (known[key].status, known[key].winner):
                yield f"I16: conflict {key} is {known[key].status} and shows {status}, {winner}"
            ruling = present[key].get("Ruling__c")
            matters = {f"{known[key].rule}:{known[key].subject}", f"last_item:{known[key].opportunity_id}"}
            if (
                ruling
                and matters.isdisjoint(told)
                and status != "Overtaken"
                and (status, winner) != ("Decided", ruling)
            ):
                yield f"I16: {ruling} shall count in conflict {key}, which is {status} for {winner}"

    def _judge(self, writer: str, name: Name, was: Term, is_now: Term, agreed_on: str | None) -> None:
        """Whether a write took an edit away that its worker had seen, or could have seen: a look holds for a lease."""
        since, now = self._since.get(name, 0), self._stage.micros
        looks = [self._looks.get((writer, record), -1) for record in was.records]
        is_fresh = any(look < since and now - look < LEASE_SECONDS * MICROS for look in looks)
        if was.taken_off and _number(is_now.stripe) < _number(was.stripe) and not self._is_known(name, was):
            self._breaks(f"I16: lines of {name[1]} were taken off the deal, and nobody was asked before that ended")
            return
        if agreed_on is None or was.records != is_now.records or is_fresh:
            return
        if was.salesforce == was.stripe and set(is_now.values) <= {was.stripe, is_now.joined}:
            return
        pairs = zip(was.values, is_now.values, strict=True)
        lost = [old for old, new in pairs if old not in (new, agreed_on)]
        if lost and not self._is_known(name, was):
            self._breaks(
                f"I16: {name[0]} of {name[1]} was {was.salesforce} in Salesforce and {was.stripe} at Stripe, agreed on "
                f"as {agreed_on}, is made {' and '.join(is_now.values)}, and is no conflict"
            )

    def _is_known(self, name: Name, term: Term) -> bool:
        """Whether the ledger has a conflict about these values, or a person has said which of them counts."""
        assert self.ledger is not None
        about = (conflict.c.rule == name[0], conflict.c.subject == name[1])
        with self.ledger.read() as conn:
            rows = conn.execute(select(conflict.c.salesforce, conflict.c.stripe).where(*about)).all()
        # Where lines were taken off, what Salesforce says is that of the line that has come in their place.
        values = {term.stripe} if term.taken_off else set(term.values)
        return any(values <= {row.salesforce, row.stripe} for row in rows)

    def _all(self, agreed: Mapping[Name, str]) -> Iterator[tuple[Name, Term]]:
        salesforce, stripe = self._sandbox.salesforce.org.store, self._sandbox.stripe.world.store
        lines = {key: row for key, row in salesforce.table("OpportunityLineItem").items() if not row.get("IsDeleted")}
        items = (each for each in stripe.table("subscription_item").values() if not each.get("deleted"))
        for item in items:
            told = [each for each in (item["metadata"].get("sf_line_id") or "").split(",") if each]
            billed = [each for each in told if each in lines or (QUANTITY, each) in agreed]
            names = [each for each in billed if (QUANTITY, each) in agreed] or billed
            if names:
                agreed_ones, all_of_them = (
                    _canonical(
                        sum((Decimal(str(lines[each]["Quantity"])) for each in some if each in lines), Decimal(0))
                    )
                    for some in (names, billed)
                )
                both = agreed_ones, _canonical(item["quantity"])
                taken_off = any(each not in lines for each in names)
                yield (QUANTITY, item["id"]), Term(*both, (item["id"], *names), all_of_them, taken_off)
        subscriptions = stripe.table("subscription")
        deals = {row.get("ContractId"): key for key, row in salesforce.table("Opportunity").items()}
        billing = {each["metadata"].get("sf_opportunity_id"): key for key, each in subscriptions.items()}
        for contract in (row for row in salesforce.table("Contract").values() if not row.get("IsDeleted")):
            named = contract.get("Stripe_Subscription_Id__c") or billing.get(deals.get(contract["Id"]))
            if (subscription := subscriptions.get(named or "")) is not None:
                day = contract.get("Cancel_Requested_On__c")
                end = scheduled_end(self._sandbox, subscription, self._zone)
                both = canonical.encode(day), canonical.encode(end)
                yield (CANCEL_DATE, contract["Id"]), Term(*both, (contract["Id"], subscription["id"]), both[0])


def _agreed_on(name: Name, term: Term, agreed: Mapping[Name, str]) -> str | None:
    """A subscription that we made began without an end; seats are agreed on line by line."""
    rule, subject = name
    if rule == CANCEL_DATE:
        return agreed.get((rule, subject), NOTHING)
    known = [agreed[rule, line] for line in term.records[1:] if (rule, line) in agreed]
    return _canonical(sum((_number(each) for each in known), Decimal(0))) if known else None


def _number(value: str) -> Decimal:
    return Decimal(canonical.decode(value))


def _canonical(value: Decimal | int) -> str:
    return canonical.encode(number(value))
