"""What a plan consists of: commands to send, reviews for people, and the values both sides agree on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sync_pipeline.core import canonical
from sync_pipeline.core.conflict import Clash, Conflict, Standing
from sync_pipeline.core.rules import Priority

Action = Literal[
    "link",
    "salesforce.once",
    "stripe.create",
    "stripe.update",
    "stripe.delete",
    "salesforce.upsert",
    "salesforce.update",
    "alert.send",
]
ACTION_ORDER = get_args(Action)
STRIPE_CREATE_ORDER = (
    "customer",
    "tax_id",
    "product",
    "price",
    "coupon",
    "subscription",
    "subscription_schedule",
    "invoiceitem",
)


OF_SUBSCRIPTION = {"subscription": "id", "subscription_item": "subscription"}
"""Where the body of an update of Stripe names its subscription, by object."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """A value that both sides are known to hold: the next merge base."""

    subject: str
    rule: str
    value: str


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field of one write: canonical values before and after, the rule that asks for it, and why.

    `put_back` names the thing whose field somebody had edited, where the write undoes that; the ledger keeps count.
    `invoices` are those that the value was read from, some of them where there are many.
    """

    field: str
    old: Any
    new: Any
    rule: str
    reason: str
    personal: bool = False
    put_back: str | None = None
    invoices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """One write. `key` is the natural identity of the effect, `target` the object that it touches.

    `body` by action: stripe.create {object, params}; stripe.update and stripe.delete {object, id, params};
    salesforce.update {object, id, fields}; salesforce.upsert {object, external_field, external_id, fields};
    salesforce.once {marker, record}, both {object, fields}: made together or not at all, and once only, because the
    marker's key is unique; link {kind, external_id}, which touches the ledger only; alert.send {title, text, link,
    link_text}, told once to people.
    `subject` is the Salesforce record that a created or linked Stripe object belongs to.
    `agreements` hold as soon as the write took effect, before anybody looks again: an edit made right after it is then
    known as an edit, not taken for a difference that was never settled.
    """

    key: str
    account: str
    target: str
    action: Action
    priority: Priority
    reason: str
    subject: str
    body: Mapping[str, Any]
    changes: tuple[FieldChange, ...] = ()
    agreements: tuple[Agreement, ...] = ()

    @property
    def system(self) -> str:
        """`stripe` or `salesforce`; `link` and `alert` are of neither."""
        return self.action.partition(".")[0]

    @property
    def subscription(self) -> str | None:
        """The subscription that an update of Stripe changes, itself or one of its items."""
        if self.action != "stripe.update" or self.body["object"] not in OF_SUBSCRIPTION:
            return None
        name: str = self.body[OF_SUBSCRIPTION[self.body["object"]]]
        return name

    def order(self) -> tuple[int, int, int, str]:
        """Urgent first; within an account a thing comes before what needs it."""
        kind = self.body.get("object", "")
        rank = STRIPE_CREATE_ORDER.index(kind) if self.action == "stripe.create" else 0
        return (self.priority, ACTION_ORDER.index(self.action), rank, self.key)

    def digest(self) -> str:
        """Identity of the inputs: a command that was refused is not sent again until this changes."""
        return canonical.sha256([self.action, self.target, self.body])


@dataclass(frozen=True, slots=True)
class Review:
    """Something that a person has to decide or mend; it closes by itself when the reason is gone."""

    key: str
    account: str
    rule: str
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Something is not to be acted on yet; the account is due again at this moment (microseconds UTC).

    `detail` tells people what waits where that was agreed on; `subject` is its Salesforce record. `priority` is that of
    the work that is put off: most is of seats and terms.
    """

    at: int
    subject: str = ""
    detail: str = ""
    priority: Priority = Priority.SEATS


Entry = Command | Review | Agreement | LookAgain | Clash | Standing
"""What a rule module may yield."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`commands` are all writes that are wanted and may be sent; `in_doubt` are those that have been sent, and nobody
    knows whether they took effect; `conflicts` are those that are new or moved on.

    `look_again_at` is when the account has to be planned again even if nothing happens, and `look_again_as` how urgent
    that is; `waits` tells what for.
    """

    commands: tuple[Command, ...] = ()
    reviews: tuple[Review, ...] = ()
    agreements: tuple[Agreement, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    look_again_at: int | None = None
    look_again_as: Priority = Priority.BULK
    waits: tuple[LookAgain, ...] = ()
    in_doubt: tuple[Command, ...] = ()

    @property
    def sent_first(self) -> tuple[Command, ...]:
        """What one round sends if all goes well.

        Records of Salesforce are set when the account's writes to Stripe are done: these change what is to be shown
        there, and it would be written twice.
        """
        if any(command.system == "stripe" for command in self.commands):
            return tuple(command for command in self.commands if command.action != "salesforce.update")
        return self.commands
