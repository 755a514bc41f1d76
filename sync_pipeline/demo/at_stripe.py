"""What customers, banks and the finance team do at Stripe: pay and fail to, change seats, cancel, refund, dispute."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any, Literal

from sync_pipeline.core.money import exponent
from sync_pipeline.demo.play import Play
from sync_pipeline.demo.records import STRIPE_KINDS, Record, Unclear, id_of, records, split
from sync_pipeline.demo.stage import StageError
from sync_pipeline.demo.verbs import verb

PATHS = {"item": "subscription_items", "tax_id": "tax_ids"}
PLACE = re.compile(r"\{([^}]+)\}")


@verb("the customer pays")
def pay(play: Play, deal: str = "") -> None:
    """The open invoice, of several the oldest: by bank transfer, or with the card that is on file."""
    invoice = _open_invoice(play, deal)
    if invoice["collection_method"] == "charge_automatically":
        _stripe(play, "POST", f"/v1/invoices/{invoice['id']}/pay", {})
        return
    payment = {"customer": invoice["customer"], "outcome": "succeed", "invoice": invoice["id"]}
    play.control("POST", "/payments", payment)


@verb("the customer tries to pay in vain")
def pay_in_vain(play: Play, because: str = "insufficient_funds", deal: str = "") -> None:
    """By hand, with the card that is on file, which is declined."""
    invoice = _open_invoice(play, deal)
    declined = {"customer": invoice["customer"], "outcome": "fail", "decline_code": because}
    play.control("POST", "/payments", declined)
    with suppress(StageError):
        _stripe(play, "POST", f"/v1/invoices/{invoice['id']}/pay", {})
        raise Unclear("the payment went through")


@verb("the customer pays part of the invoice")
def pay_part(play: Play, amount: Decimal, deal: str = "") -> None:
    invoice, now = _open_invoice(play, deal), int(play.now().timestamp())
    money = {"value": _minor(amount, invoice), "currency": invoice["currency"]}
    report = {
        "amount_requested": money,
        "initiated_at": now,
        "payment_method_details": {"type": "custom", "custom": {"display_name": "Cheque"}},
        "customer_details": {"customer": invoice["customer"]},
        "outcome": "guaranteed",
        "guaranteed": {"guaranteed_at": now},
    }
    record = _stripe(play, "POST", "/v1/payment_records/report_payment", report)
    _stripe(play, "POST", f"/v1/invoices/{invoice['id']}/attach_payment", {"payment_record": record["id"]})


@verb("the customer puts a card on file")
def put_card(play: Play, card: str = "visa", deal: str = "") -> None:
    """One of Stripe's test cards; from now on what is due is collected from it."""
    subscription = play.only(f"subscription {deal}")
    attached = {"customer": subscription["customer"]}
    method = _stripe(play, "POST", f"/v1/payment_methods/pm_card_{card}/attach", attached)
    automatic = {"collection_method": "charge_automatically", "default_payment_method": method["id"]}
    _stripe(play, "POST", f"/v1/subscriptions/{subscription['id']}", automatic)


@verb("the card is going to be declined")
def decline(play: Play, because: str = "insufficient_funds", times: int = 1, customer: str = "") -> None:
    plan = {"customer": id_of(play.only(f"customer {customer}")), "outcome": "fail", "decline_code": because}
    play.control("POST", "/payments", {**plan, "times": times})


@verb("the customer changes seats")
def change_seats(play: Play, seats: dict[str, Any]) -> None:
    """In the customer portal: product -> quantity."""
    for product, quantity in seats.items():
        _stripe(play, "POST", f"/v1/subscription_items/{id_of(play.only(f'item {product}'))}", {"quantity": quantity})


@verb("the customer cancels")
def cancel(
    play: Play,
    when: Literal["at the end of the period", "at once"] = "at the end of the period",
    because: str = "",
    comment: str = "",
    deal: str = "",
) -> None:
    path = f"/v1/subscriptions/{id_of(play.only(f'subscription {deal}'))}"
    told = {name: text for name, text in (("feedback", because), ("comment", comment)) if text}
    details = {"cancellation_details": told} if told else {}
    if when == "at once":
        _stripe(play, "DELETE", path, details)
    else:
        _stripe(play, "POST", path, {"cancel_at_period_end": True, **details})


@verb("the customer takes the cancellation back")
def keep(play: Play, deal: str = "") -> None:
    path = f"/v1/subscriptions/{id_of(play.only(f'subscription {deal}'))}"
    _stripe(play, "POST", path, {"cancel_at_period_end": False})


@verb("finance refunds")
def refund(play: Play, amount: Decimal | None = None, deal: str = "") -> None:
    """A part or all of the last payment, on the invoice's payment."""
    payment = _last_payment(play)
    part = {} if amount is None else {"amount": _minor(amount, payment)}
    _stripe(play, "POST", "/v1/refunds", {"charge": payment["id"], **part})


@verb("finance does at the invoice")
def at_invoice(
    play: Play,
    what: Literal["mark as paid out of band", "void", "write off"],
    deal: str = "",
) -> None:
    path = f"/v1/invoices/{id_of(_open_invoice(play, deal))}"
    match what:
        case "mark as paid out of band":
            _stripe(play, "POST", f"{path}/pay", {"paid_out_of_band": True})
        case "void":
            _stripe(play, "POST", f"{path}/void", {})
        case "write off":
            _stripe(play, "POST", f"{path}/mark_uncollectible", {})


@verb("finance credits the open invoice")
def credit(play: Play, amount: Decimal, deal: str = "") -> None:
    invoice = _open_invoice(play, deal)
    _stripe(play, "POST", "/v1/credit_notes", {"invoice": invoice["id"], "amount": _minor(amount, invoice)})


@verb("finance answers the dispute")
def answer_dispute(play: Play, evidence: Literal["winning_evidence", "losing_evidence"]) -> None:
    answered = {"evidence": {"uncategorized_text": evidence}, "submit": True}
    _stripe(play, "POST", f"/v1/disputes/{id_of(play.only('dispute'))}", answered)


@verb("somebody edits at Stripe")
def edit(play: Play, records: dict[str, Any]) -> None:
    for key, params in records.items():
        kind, _ = split(key)
        _stripe(play, "POST", f"/v1/{_path(kind)}/{id_of(play.only(key))}", params)


@verb("somebody creates at Stripe")
def create(play: Play, records: dict[str, Any]) -> None:
    """Each by kind and name, with its parameters."""
    for key, params in records.items():
        kind, name = split(key)
        _stripe(play, "POST", f"/v1/{_path(kind)}", {"name": name, **params} if name else params)


@verb("somebody deletes at Stripe")
def delete(play: Play, record: str) -> None:
    _stripe(play, "DELETE", f"/v1/{_path(split(record)[0])}/{id_of(play.only(record))}", {})


@verb("somebody calls Stripe")
def call(play: Play, path: str, given: dict[str, Any] | None = None) -> None:
    """Anything else that the dashboard can do: a path in which {invoice} stands for that record's id."""
    _stripe(play, "POST", _filled(play, path), given or {})


def _stripe(play: Play, method: str, path: str, params: Mapping[str, Any]) -> dict[str, Any]:
    body = {"system": "stripe", "method": method, "path": path, "params": _resolved(play, params)}
    result: dict[str, Any] = play.control("POST", "/humans", body)["result"]
    return result


def _resolved(play: Play, value: Any) -> Any:
    """Parameters as Stripe takes them: names of records in braces become ids, decimals texts."""
    if isinstance(value, Mapping):
        return {name: _resolved(play, held) for name, held in value.items()}
    if isinstance(value, list):
        return [_resolved(play, each) for each in value]
    if isinstance(value, str):
        return _filled(play, value)
    return str(value) if isinstance(value, Decimal) else value


def _filled(play: Play, text: str) -> str:
    return PLACE.sub(lambda place: id_of(play.only(place[1])), text)


def _path(kind: str) -> str:
    if kind not in STRIPE_KINDS:
        raise Unclear(f"{kind!r} is nothing that Stripe has")
    return PATHS.get(kind, f"{kind}s")


def _minor(amount: Decimal, record: Record) -> int:
    return int(Decimal(amount).scaleb(exponent(str(record["currency"]).upper())))


def _open_invoice(play: Play, deal: str) -> Record:
    found = [each for each in records(play.truth, f"invoice {deal}") if each["status"] == "open"]
    if not found:
        raise Unclear("no invoice is open")
    return found[0]


def _last_payment(play: Play) -> Record:
    found = [each for each in records(play.truth, "charge") if each["status"] == "succeeded"]
    if not found:
        raise Unclear("nothing was paid yet that could be refunded")
    return found[-1]
