"""Whole lists of Stripe instead of one look per customer, where they take fewer calls.

A reading of the lists shows a customer as it was when the reading began. It serves an account once, and only while
nothing has been heard of it and nobody has worked on it since: its turn in the queue tells both. So what was written
is always read back by a look of its own, or by a later reading. What an old reading shows is enough for what is written
to Salesforce, as an event that comes late would be; nothing is written to Stripe from one (rounds.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from sync_pipeline.core.observation import Observation, Present
from sync_pipeline.core.stripe_records import Customer
from sync_pipeline.core.world import Billing, Catalogue
from sync_pipeline.engine.context import Engine
from sync_pipeline.engine.retries import delay_us
from sync_pipeline.ledger import cursors, links, work
from sync_pipeline.ledger.work import Claim
from sync_pipeline.systems.outcomes import UNKNOWN_SHAPE, ReadFailed
from sync_pipeline.systems.stripe import listings
from sync_pipeline.systems.stripe.client import Stripe, after
from sync_pipeline.systems.stripe.holdings import LISTS

CALLS_PER_CUSTOMER = 1 + len(LISTS)
FEW = 50
"""So many are looked at one by one in a moment. The reading of long lists lasts, and lets whoever is more urgent by."""
SHORT = 50
"""So many pages are read in a moment too."""
FRESH_US = 120 * 1_000_000
"""A look at a thousand accounts one by one takes longer than this, and is written from all the same."""
LASTS_US = 60 * 60 * 1_000_000
TRIES = 3
"""A page that fails is asked for again: the reading of all would hardly ever come to its end otherwise."""
NOT_AGAIN_FOR_US = 10 * 60 * 1_000_000
PAGES = "stripe.pages"
"""Cursor: how many pages the lists have, as the last one who read them found."""

Turn = tuple[int, int]


class TooLong(Exception):
    """The lists have more pages than are worth reading."""


def most_pages(customers: int, known: int | None) -> int:
    """How many pages of Stripe's lists are worth reading to see so many customers; 0 where single looks are cheaper.

    `known` is how many there were when they were last counted. Whoever does not know that tries for half of what the
    single looks would cost, so that it costs half as much again at the most where that was not enough.
    """
    one_by_one = customers * CALLS_PER_CUSTOMER
    if known is None:
        return one_by_one // 2
    return one_by_one if known < one_by_one else 0


def keep_count(conn: Connection, pages: int, now: int) -> None:
    """Remembers how many pages the lists have."""
    cursors.put(conn, PAGES, str(pages), now)


@dataclass(frozen=True, slots=True)
class FromLists:
    """Stripe as its lists have shown it since `began_wall`; who is not in them is looked at."""

    stripe: Stripe
    began_wall: int
    held: Mapping[str, tuple[Customer, Billing]]

    def customer(self, customer_id: str) -> Observation[Customer]:
        known = self.held.get(customer_id)
        return self.stripe.customer(customer_id) if known is None else Present(known[0])

    def billing(self, customer_id: str) -> Billing:
        known = self.held.get(customer_id)
        return self.stripe.billing(customer_id) if known is None else known[1]

    def customers_like(self, account_id: str, name: str, now: int) -> list[Customer]:
        return self.stripe.customers_like(account_id, name, now)

    def catalogue(self, products: Iterable[str], lookup_keys: Iterable[str], coupons: Iterable[str] = ()) -> Catalogue:
        return self.stripe.catalogue(products, lookup_keys, coupons)

    def charged_lines(self, customers: Iterable[str]) -> dict[str, str]:
        return self.stripe.charged_lines(customers)

    def product_names(self, products: Iterable[str]) -> Mapping[str, str]:
        return self.stripe.product_names(products)


def by_cost(engine: Engine, accounts: Collection[str]) -> dict[str, FromLists]:
    """Those of the accounts that are read from lists which are read now; none where single looks are cheaper."""
    with engine.ledger.read() as conn:
        customers = links.customers_by_account(conn, accounts)
        most = _most_pages(conn, len(customers), waiting=len(customers))
    found = _read(engine, customers, most, lambda: None) if most else None
    return {} if found is None else dict.fromkeys(customers, found)


@dataclass
class Lists:
    """One worker's readings. `workers` tells how many share the queue: then a reading is for all that is due there, and
    not for one batch only."""

    engine: Engine
    workers: Callable[[Connection, int], int] | None = None
    _kept: dict[str, tuple[Turn, FromLists]] = field(default_factory=dict)
    _not_before: int = 0
    _reading: bool = False

    def of(self, claims: Sequence[Claim], between: Callable[[], None]) -> dict[str, FromLists]:
        """Those of the claimed accounts that are read from lists; `between` is called before every page."""
        wall = self.engine.env.wall()
        self._kept = {name: kept for name, kept in self._kept.items() if wall - kept[1].began_wall <= LASTS_US}
        served: dict[str, FromLists] = {}
        for claim in claims:
            turn, found = self._kept.pop(claim.account, (None, None))
            if found is not None and turn == (claim.dirty_seq, claim.fence):
                served[claim.account] = found
        left = [claim.account for claim in claims if claim.account not in served]
        if self._reading or wall < self._not_before:
            return served
        turns, customers, most = self._worth_reading(left, wall)
        if not most:
            return served
        self._reading = True
        try:
            found = _read(self.engine, customers, most, between)
        finally:
            self._reading = False
        if found is None:
            self._not_before = self.engine.env.wall() + NOT_AGAIN_FOR_US
            return served
        self._kept |= {name: (turn, found) for name, turn in turns.items() if name in customers}
        return served | {name: found for name in left if name in customers}

    def put_off(self, listed: Mapping[str, FromLists], claims: Iterable[Claim]) -> None:
        """Keeps what was read for these accounts until their next turn: their leases ran out during the reading."""
        for claim in claims:
            if (found := listed.get(claim.account)) is not None:
                self._kept[claim.account] = (claim.dirty_seq, claim.fence + 1), found

    def _worth_reading(self, left: Sequence[str], wall: int) -> tuple[dict[str, Turn], dict[str, list[str]], int]:
        """The turns of what else is due, all customers by account, and how many pages are worth reading for them."""
        with self.engine.ledger.read() as conn:
            workers = None if self._kept else self.workers
            among = workers(conn, wall) if workers else 1
            due = work.due(conn, wall) // among if workers else 0
            if not _most_pages(conn, len(left) + due, waiting=len(left)):
                return {}, {}, 0
            turns = work.turns(conn, wall) if workers else {}
            customers = links.customers_by_account(conn, {*left, *turns})
        customers |= _named(self.engine, sorted({*left, *turns} - customers.keys()))
        ours = sum(name in customers for name in left)
        with self.engine.ledger.read() as conn:
            return turns, customers, _most_pages(conn, ours + (len(customers) - ours) // among, waiting=ours)


def _most_pages(conn: Connection, customers: int, *, waiting: int) -> int:
    """How many pages are worth reading for so many customers, of whom so many are `waiting` for it now."""
    cursor = cursors.get(conn, PAGES)
    known = None if cursor is None else int(cursor)
    if waiting <= FEW and (known is None or known > SHORT):
        return 0
    return most_pages(customers, known)


def _named(engine: Engine, accounts: Sequence[str]) -> dict[str, list[str]]:
    """The customers that Accounts name which were never looked at: those of a company that begins."""
    if len(accounts) <= FEW:
        return {}
    try:
        return {account: [customer] for account, customer in engine.salesforce.customer_ids(accounts).items()}
    except ReadFailed as error:
        if error.access:
            raise
        return {}


def _read(
    engine: Engine, customers: Mapping[str, Sequence[str]], most: int, between: Callable[[], None]
) -> FromLists | None:
    """The lists of these customers by account; None where that did not work. Raises ReadFailed for missing access."""
    began, pager = engine.env.wall(), _Pager(engine, most, between)
    held = None
    try:
        wanted = {each for some in customers.values() for each in some}
        held = listings.of_customers(engine.stripe, wanted, pager.pages)
    except ReadFailed as error:
        if error.access:
            raise
        return None
    except UNKNOWN_SHAPE:
        # A single look tells which object it is, and lets all others be served.
        return None
    except TooLong:
        pass
    with engine.ledger.tx() as conn:
        keep_count(conn, pager.read, engine.env.now())
    return None if held is None else FromLists(engine.stripe, began, held)


@dataclass
class _Pager:
    """Reads lists page by page, at most so many pages in all."""

    engine: Engine
    most: int
    between: Callable[[], None]
    read: int = 0

    def pages(self, path: str, **params: Any) -> Iterator[Mapping[str, Any]]:
        cursor: dict[str, Any] | None = {}
        while cursor is not None:
            if self.read >= self.most:
                raise TooLong
            self.read += 1
            page = self._page(path, **params, **cursor)
            yield from page["data"]
            cursor = after(page)

    def _page(self, path: str, **params: Any) -> Mapping[str, Any]:
        for fails in range(TRIES):
            self.between()
            try:
                return self.engine.stripe.page(path, **params)
            except ReadFailed as error:
                if error.access:
                    raise
                self.engine.env.sleep(delay_us(fails, self.engine.env.jitter()) / 1_000_000)
        self.between()
        return self.engine.stripe.page(path, **params)
