"""Disputes: a bank takes money back, evidence may win it again."""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe.balances import move_money
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.operations import action, merge_metadata
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.pictures import all_of, parts
from sync_pipeline.sandbox.stripe.settings import DAY
from sync_pipeline.sandbox.stripe.standing import ENDED
from sync_pipeline.sandbox.stripe.subscriptions import cancel_now
from sync_pipeline.sandbox.stripe.world import World, timer

FEE_MINOR = 2000
RESPONSE_TIME = 9 * DAY
DECISION_TIME = 30 * DAY
OPEN = ("needs_response", "under_review")
_NETWORK_CODES = {"fraudulent": "10.4", "product_not_received": "13.1", "subscription_canceled": "13.2"}


@timer("open_dispute")
def open_dispute(world: World, charge_id: str) -> None:
    """The customer's bank withdraws the charge's money."""
    charge = world.get("charge", charge_id)
    if charge is None or charge["disputed"] or charge["refunded"]:
        return
    dispute_charge(world, charge, "fraudulent")


def dispute_charge(world: World, charge: Row, reason: str) -> Row:
    amount = charge["amount"] - charge["amount_refunded"]
    row = world.create("dispute", {
        "amount": amount, "charge": charge["id"], "currency": charge["currency"], "enhanced_eligibility_types": [],
        "evidence": {"enhanced_evidence": {}},
        "evidence_details": {"due_by": world.now() + RESPONSE_TIME, "enhanced_eligibility": {}, "has_evidence": False,
                             "past_due": False, "submission_count": 0},
        "is_charge_refundable": False, "metadata": {}, "payment_intent": charge.get("payment_intent"),
        "payment_method_details": {"type": "card", "card": {
            "brand": "visa", "case_type": "chargeback", "network_reason_code": _NETWORK_CODES.get(reason)}},
        "reason": reason, "status": "needs_response", "_transactions": [],
    })  # fmt: skip
    charge = world.update(charge, {"disputed": True}, "charge.updated")
    world.emit("charge.dispute.created", row)
    row = _move(world, row, -amount, FEE_MINOR)
    world.emit("charge.dispute.funds_withdrawn", row)
    world.set_timer("dispute_overdue", row["id"], world.now() + RESPONSE_TIME)
    if world.settings.cancel_on_dispute:
        _cancel_subscriptions(world, charge)
    return row


def _cancel_subscriptions(world: World, charge: Row) -> None:
    """End what the disputed money was for."""
    for payment in world.find("invoice_payment", _payment=charge.get("payment_intent")):
        invoice = world.need("invoice", payment["invoice"])
        subscription = world.get("subscription", invoice.get("_subscription"))
        if payment["status"] == "paid" and subscription and subscription["status"] not in ENDED:
            cancel_now(world, subscription, reason="payment_disputed")


def _move(world: World, row: Row, amount: int, fee: int) -> Row:
    transaction = move_money(world, row, "adjustment", amount, fee=fee, category="dispute" if amount < 0
                             else "dispute_reversal")  # fmt: skip
    return world.update(row, {"_transactions": [*row["_transactions"], transaction["id"]]})


@timer("dispute_overdue")
def overdue(world: World, id: str) -> None:
    row = world.get("dispute", id)
    if row and row["status"] == "needs_response":
        decide(world, row, won=False)


@timer("dispute_decision")
def decision(world: World, id: str) -> None:
    """The bank decides by the evidence; Stripe's test words settle it for sure."""
    row = world.get("dispute", id)
    if row and row["status"] == "under_review":
        decide(world, row, won=row["evidence"].get("uncategorized_text") == "winning_evidence")


def decide(world: World, row: Row, *, won: bool) -> Row:
    world.set_timer("dispute_overdue", row["id"], None)
    world.set_timer("dispute_decision", row["id"], None)
    row = world.update(row, {"status": "won" if won else "lost"})
    if won:
        row = _move(world, row, row["amount"], -FEE_MINOR)
        world.emit("charge.dispute.funds_reinstated", row)
        world.update(world.need("charge", row["charge"]), {"disputed": False}, "charge.updated")
    world.emit("charge.dispute.closed", row)
    return row


@action("POST /v1/disputes/{dispute}", "evidence metadata submit")
def update_dispute(world: World, params: Params, row: Row) -> Row:
    changes: Row = {"metadata": merge_metadata(row, params)}
    if params.get("evidence"):
        _require_open(row)
        changes["evidence"] = {**row["evidence"], **params["evidence"]}
        changes["evidence_details"] = {**row["evidence_details"], "has_evidence": True}
        if params.get("submit", True):
            details = changes["evidence_details"]
            changes |= {
                "status": "under_review",
                "evidence_details": {**details, "submission_count": details["submission_count"] + 1},
            }
            quick = row["evidence"] | params["evidence"]
            known = quick.get("uncategorized_text") in ("winning_evidence", "losing_evidence")
            world.set_timer("dispute_decision", row["id"], world.now() + (60 if known else DECISION_TIME))
    return world.update(row, changes, "charge.dispute.updated")


@action("POST /v1/disputes/{dispute}/close")
def close_dispute(world: World, params: Params, row: Row) -> Row:
    """Accept the loss."""
    _require_open(row)
    return decide(world, row, won=False)


def _require_open(row: Row) -> None:
    if row["status"] not in OPEN:
        raise StripeError(f"This dispute is already closed ({row['status']}).", param="dispute")


@parts("dispute")
def parts_of_dispute(world: World, row: Row) -> Row:
    return {"balance_transactions": all_of(world, "balance_transaction", row["_transactions"])}
