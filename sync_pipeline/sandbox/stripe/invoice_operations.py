"""The operations on invoices: make, edit, finalise, pay, send, void, write off."""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors, payments, taxes
from sync_pipeline.sandbox.stripe.billing import add_invoice_item_line
from sync_pipeline.sandbox.stripe.discounts import grant
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.finalization import collect, finalize
from sync_pipeline.sandbox.stripe.invoice_items import remove_item, require_draft
from sync_pipeline.sandbox.stripe.invoices import lines_of, new_draft, sum_up
from sync_pipeline.sandbox.stripe.money import check_currency
from sync_pipeline.sandbox.stripe.operations import action, merge_metadata, operation, pick
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.payment_methods import card_error, resolve
from sync_pipeline.sandbox.stripe.references import check_default_method, check_usable
from sync_pipeline.sandbox.stripe.standing import close_open, on_closed_unpaid
from sync_pipeline.sandbox.stripe.world import World

_PLAIN = "description footer custom_fields statement_descriptor default_payment_method effective_at number"
_COLLECT = "auto_advance collection_method days_until_due due_date default_tax_rates discounts metadata"
_COLLECT += " automatic_tax.enabled"


@operation("POST /v1/invoices", f"customer subscription currency pending_invoice_items_behavior {_PLAIN} {_COLLECT}")
def create_invoice(world: World, params: Params, args: list[str]) -> Row:
    taxes.unsupported_automatic(params)
    subscription = None
    if params.get("subscription"):
        subscription = world.need("subscription", params["subscription"], "subscription")
    if not params.get("customer") and subscription is None:
        raise errors.required("customer")
    customer = world.need("customer", params.get("customer") or (subscription or {})["customer"], "customer")
    pending = [] if params.get("pending_invoice_items_behavior") != "include" and subscription is None else [
        i for i in world.find("invoiceitem", customer=customer["id"]) if "invoice" not in i
        and (subscription is None or i.get("_subscription") in (None, subscription["id"]))
    ]  # fmt: skip
    # A customer who was never billed has no currency yet: what waits for the invoice gives it one.
    waiting = next((i["currency"] for i in pending), world.settings.default_currency)
    currency = params.get("currency") or (subscription or customer).get("currency") or waiting
    inherited = (subscription or {}).get("collection_method", "charge_automatically")
    method = str(params.get("collection_method") or inherited)
    check_default_method(world, params.get("default_payment_method"), customer, "default_payment_method")
    invoice = new_draft(world, customer, {
        "billing_reason": "subscription_update" if subscription else "manual", "currency": check_currency(currency),
        "collection_method": method, "auto_advance": params.get("auto_advance", False), **pick(params, _PLAIN),
        **_due(params, str(method), None), "metadata": merge_metadata(None, params),
        "_tax_rates": taxes.check_rates(world, params.get("default_tax_rates"), "default_tax_rates"),
    }, subscription)  # fmt: skip
    if "discounts" in params:
        invoice = world.update(invoice, {"discounts": _discounts(world, invoice, params)})
    for item in pending:
        if item["currency"] == invoice["currency"]:
            add_invoice_item_line(world, invoice, item)
    if subscription and not lines_of(world, invoice["id"]):
        raise StripeError("Nothing to invoice for subscription", code="invoice_no_subscription_line_items",
                          param="subscription")  # fmt: skip
    invoice = _schedule(world, sum_up(world, invoice))
    world.emit("invoice.created", invoice)
    return invoice


def _discounts(world: World, invoice: Row, params: Params) -> list[str]:
    return grant(world, params["discounts"], "discounts", redeemer=invoice["customer"], currency=invoice["currency"],
                 invoice=invoice["id"])  # fmt: skip


def _due(params: Params, method: str, current: Row | None) -> Row:
    if method != "send_invoice":
        if "days_until_due" in params or "due_date" in params:
            raise StripeError("You can only set `days_until_due` or `due_date` if `collection_method` is set to "
                              "`send_invoice`.", param="days_until_due")  # fmt: skip
        return {}
    if "due_date" in params:
        return {"due_date": params["due_date"], "_days_until_due": 0}
    days = params.get("days_until_due", (current or {}).get("_days_until_due"))
    if days is None:
        raise StripeError("If `collection_method` is `send_invoice`, you must pass `days_until_due` or `due_date`.",
                          code="parameter_missing", param="days_until_due")  # fmt: skip
    return {"_days_until_due": days}


def _schedule(world: World, invoice: Row) -> Row:
    """An advancing draft finalises itself after an hour."""
    at = world.now() + world.settings.draft_seconds if invoice["auto_advance"] else None
    world.set_timer("finalize", invoice["id"], at)
    return world.update(invoice, {"automatically_finalizes_at": at})


@action("POST /v1/invoices/{invoice}", f"{_PLAIN} {_COLLECT}")
def update_invoice(world: World, params: Params, invoice: Row) -> Row:
    taxes.unsupported_automatic(params)
    if invoice["status"] != "draft" and params.keys() - {"metadata", "auto_advance", "default_payment_method",
                                                         "expand", "description"}:  # fmt: skip
        require_draft(invoice)
    customer = world.store.table("customer")[invoice["customer"]]
    check_default_method(world, params.get("default_payment_method"), customer, "default_payment_method")
    with world.watching("invoice", invoice["id"], "invoice.updated"):
        changes = pick(params, _PLAIN) | {"metadata": merge_metadata(invoice, params)}
        if "auto_advance" in params:
            changes["auto_advance"] = params["auto_advance"]
        if params.keys() & {"collection_method", "days_until_due", "due_date"}:
            method = params.get("collection_method", invoice["collection_method"])
            changes |= {"collection_method": method, **_due(params, str(method), invoice)}
        if "default_tax_rates" in params:
            changes["_tax_rates"] = taxes.check_rates(world, params["default_tax_rates"], "default_tax_rates")
        if "discounts" in params:
            changes["discounts"] = _discounts(world, invoice, params)
        invoice = world.update(invoice, changes)
        if invoice["status"] == "draft":
            invoice = sum_up(world, invoice)
            if "auto_advance" in params:
                _schedule(world, invoice)
    return world.need("invoice", invoice["id"])


@action("DELETE /v1/invoices/{invoice}")
def delete_invoice(world: World, params: Params, invoice: Row) -> Row:
    if invoice["status"] != "draft" or "_subscription" in invoice:
        raise StripeError("You can only delete draft invoices that are not part of a subscription.",
                          code="invoice_not_editable", param="invoice")  # fmt: skip
    for item in world.find("invoiceitem", invoice=invoice["id"]):
        remove_item(world, item)
    world.set_timer("finalize", invoice["id"], None)
    return world.delete(invoice, "invoice.deleted")


@action("POST /v1/invoices/{invoice}/finalize", "auto_advance")
def finalize_invoice(world: World, params: Params, invoice: Row) -> Row:
    if invoice["status"] != "draft":
        raise StripeError("This invoice is already finalized, you can't re-finalize a non-draft invoice.",
                          code="invoice_not_editable", param="invoice")  # fmt: skip
    if "auto_advance" in params:
        invoice = world.update(invoice, {"auto_advance": params["auto_advance"]})
    invoice = finalize(world, invoice)
    if invoice.get("auto_advance") and invoice["status"] == "open":
        collect(world, invoice)
    return world.need("invoice", invoice["id"])


def _payable(world: World, invoice: Row) -> Row:
    if invoice["status"] == "paid":
        raise StripeError("Invoice is already paid", code="invoice_already_paid", param="invoice")
    if invoice["status"] == "void":
        raise StripeError("Invoice is void and cannot be paid.", param="invoice")
    if invoice["status"] == "draft":
        invoice = finalize(world, invoice)
    return invoice


@action("POST /v1/invoices/{invoice}/pay", "paid_out_of_band payment_method off_session forgive")
def pay_invoice(world: World, params: Params, invoice: Row) -> Row:
    invoice = _payable(world, invoice)
    if invoice["status"] == "paid":
        return invoice
    if params.get("paid_out_of_band"):
        return pay_out_of_band(world, invoice)
    if params.get("forgive"):
        raise errors.unsupported("forgiving a shortfall", "forgive")
    method = resolve(world, params["payment_method"], "payment_method") if params.get("payment_method") else None
    check_usable(method, invoice["customer"])
    if method is None and payments.method_for(world, invoice) is None:
        raise StripeError(
            "There is no `default_payment_method` set on this Customer or Invoice. Please set a "
            "`default_payment_method` before attempting to pay the invoice.", code="resource_missing",
        )  # fmt: skip
    after = payments.attempt(world, invoice, method, automatic=False)
    if after["status"] != "paid":
        raise _declined(world, after)
    return after


def _declined(world: World, invoice: Row) -> StripeError:
    """The answer to a payment by hand that failed. What failed stays on record."""
    payment = payments.default_payment(world, invoice)
    intent = world.render(world.need("payment_intent", payment["_payment"])) if payment else None
    if intent and intent["status"] == "requires_action":
        return StripeError(
            "This payment requires additional user action before it can be completed successfully.", status=402,
            type="card_error", code="invoice_payment_intent_requires_action", commits=True, payment_intent=intent,
        )  # fmt: skip
    told = (intent or {}).get("last_payment_error") or {}
    return card_error(told.get("decline_code") or "generic_decline", commits=True, payment_intent=intent,
                      charge=told.get("charge"))  # fmt: skip


def pay_out_of_band(world: World, invoice: Row) -> Row:
    """Paid elsewhere: no charge, a payment record stands for the money."""
    owed = invoice["amount_remaining"]
    record = payments.create_record(world, owed, invoice["currency"], invoice["customer"], {})
    payment = payments.join(world, invoice, "payment_record", record["id"], owed, is_default=False)
    return payments.count_attached(world, payment)


@action("POST /v1/invoices/{invoice}/attach_payment", "payment_intent payment_record")
def attach_payment(world: World, params: Params, invoice: Row) -> Row:
    """Part of an invoice, or all of it, is paid by a payment of one's own."""
    if invoice["status"] != "open":
        raise StripeError("You can only attach a payment to an open invoice.", param="invoice")
    if params.get("payment_record"):
        record = world.need("payment_record", params["payment_record"], "payment_record")
        amount = record["amount_guaranteed"]["value"]
        payments.count_attached(
            world, payments.join(world, invoice, "payment_record", record["id"], amount, is_default=False)
        )
        return world.need("invoice", invoice["id"])
    if not params.get("payment_intent"):
        raise errors.required("payment_intent")
    intent = world.need("payment_intent", params["payment_intent"], "payment_intent")
    payment = payments.join(world, invoice, "payment_intent", intent["id"], intent["amount"], is_default=False)
    if intent["status"] == "succeeded":
        payments.count_attached(world, payment)
    return world.need("invoice", invoice["id"])


@operation(
    "POST /v1/payment_records/report_payment",
    "amount_requested customer_details description initiated_at metadata outcome guaranteed.guaranteed_at"
    " payment_method_details.type payment_method_details.custom processor_details",
)
def report_payment(world: World, params: Params, args: list[str]) -> Row:
    """Tell Stripe of money that came in elsewhere; `attach_payment` puts it towards an invoice."""
    if params.get("outcome") != "guaranteed":
        raise errors.unsupported("reported payments that are not guaranteed", "outcome")
    asked = params["amount_requested"]
    customer = (params.get("customer_details") or {}).get("customer")
    return payments.create_record(world, asked["value"], check_currency(asked["currency"]), customer, {
        **pick(params, "customer_details description processor_details"), "reported_by": "self",
        "metadata": merge_metadata(None, params),
    })  # fmt: skip


@action("POST /v1/invoices/{invoice}/send")
def send_invoice(world: World, params: Params, invoice: Row) -> Row:
    if invoice["collection_method"] != "send_invoice":
        raise StripeError("You can only manually send an invoice if its collection method is 'send_invoice'.",
                          param="invoice")  # fmt: skip
    if invoice["status"] == "draft":
        invoice = finalize(world, invoice)
    world.emit("invoice.sent", invoice)
    return invoice


@action("POST /v1/invoices/{invoice}/void")
def void_invoice(world: World, params: Params, invoice: Row) -> Row:
    return _close(world, invoice, "void", ("open", "uncollectible"))


@action("POST /v1/invoices/{invoice}/mark_uncollectible")
def mark_uncollectible(world: World, params: Params, invoice: Row) -> Row:
    return _close(world, invoice, "uncollectible", ("open",))


def _close(world: World, invoice: Row, status: str, allowed: tuple[str, ...]) -> Row:
    if invoice["status"] not in allowed:
        verb = "void" if status == "void" else "mark uncollectible"
        raise StripeError(f"You cannot {verb} an invoice with status {invoice['status']}.",
                          code="status_transition_invalid", param="invoice")  # fmt: skip
    invoice = close_open(world, invoice, status, "user_forgiven" if status == "uncollectible" else None)
    customer = world.get("customer", invoice["customer"])
    if status == "uncollectible" and customer and customer.get("delinquent"):
        world.update(customer, {"delinquent": False}, "customer.updated")
    if status == "void":
        on_closed_unpaid(world, invoice)
    return world.need("invoice", invoice["id"])
