"""Credit notes: the only thing that changes what a finalised invoice comes to."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors, payments
from sync_pipeline.sandbox.stripe.balances import adjust_balance
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.listing import page_of
from sync_pipeline.sandbox.stripe.money import round_half_up
from sync_pipeline.sandbox.stripe.operations import action, merge_metadata, operation, pick
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.pictures import page, parts
from sync_pipeline.sandbox.stripe.refunds import refund
from sync_pipeline.sandbox.stripe.world import World

_CREATE = "invoice amount credit_amount refund_amount out_of_band_amount reason memo effective_at"
_CREATE += " lines.type lines.invoice_line_item lines.quantity lines.amount lines.description lines.unit_amount"
_CREATE += " lines.unit_amount_decimal refunds.refund refunds.amount_refunded"


@operation("POST /v1/credit_notes", f"{_CREATE} metadata")
def create_note(world: World, params: Params, args: list[str]) -> Row:
    return _issue(world, params)


@operation("GET /v1/credit_notes/preview", f"{_CREATE} metadata")
def preview_note(world: World, params: Params, args: list[str]) -> Row:
    with world.store.trial():
        return world.render(_issue(world, params))


@operation("GET /v1/credit_notes/preview/lines", f"{_CREATE} metadata limit starting_after ending_before")
def preview_lines(world: World, params: Params, args: list[str]) -> Row:
    with world.store.trial():
        rows = world.find("credit_note_line_item", _credit_note=_issue(world, params)["id"])
        return page_of(rows, world, params, "/v1/credit_notes/preview/lines")


def _issue(world: World, params: Params) -> Row:
    invoice = world.need("invoice", params["invoice"], "invoice")
    if invoice["status"] not in ("open", "paid", "uncollectible"):
        raise StripeError(f"You can only credit an open, paid or uncollectible invoice, not one that is "
                          f"{invoice['status']}.", param="invoice")  # fmt: skip
    lines = [_line(world, invoice, entry, i) for i, entry in enumerate(params.get("lines") or ())]
    amount = sum(_net(line) for line in lines) if lines else params.get("amount")
    if amount is None:
        amount = sum(params.get(n, 0) for n in ("credit_amount", "refund_amount", "out_of_band_amount"))
    if params.get("amount", amount) != amount:
        raise StripeError(f"The lines come to {amount} with tax, not to {params['amount']}.", param="amount")
    if amount <= 0:
        raise errors.required("amount")
    earlier = [n for n in world.find("credit_note", invoice=invoice["id"]) if n["status"] == "issued"]
    credited = sum(n["total"] for n in earlier)
    left = invoice["total"] - credited
    if amount > left:
        raise StripeError(f"The credit note's total ({amount}) is more than what is left to credit ({left}).",
                          param="amount")  # fmt: skip
    if lines:
        taxes = [tax for line in lines for tax in line["taxes"]]
        discounts = [part for line in lines for part in line["discount_amounts"]]
    else:
        taxes, discounts = _taxes(_uncredited(invoice, earlier), 0, amount, left), []
    pre = min(amount, invoice["amount_remaining"]) if invoice["status"] != "paid" else 0
    post = amount - pre
    parts = {n: params.get(n, 0) for n in ("credit_amount", "refund_amount", "out_of_band_amount")}
    for i, entry in enumerate(params.get("refunds") or ()):
        if not entry.get("refund"):
            raise errors.required(f"refunds[{i}][refund]")
    linked = sum(r.get("amount_refunded") or world.need("refund", r["refund"], "refunds")["amount"]
                 for r in params.get("refunds") or ())  # fmt: skip
    if sum(parts.values()) + linked != post:
        raise StripeError(
            f"The sum of credit amount, refund amount and out of band amount ({sum(parts.values()) + linked}) must "
            f"equal the post payment amount ({post}).", param="credit_amount",
        )  # fmt: skip
    customer = world.need("customer", invoice["customer"], "invoice")
    number = f"{invoice['number']}-CN-{len(world.find('credit_note', invoice=invoice['id'])) + 1:02d}"
    id = world.new_id("cn_")
    kept = [world.create("credit_note_line_item", {**line, "_credit_note": id}) for line in lines]
    note = world.create("credit_note", {
        **_sums(amount, taxes, discounts), "amount_shipping": 0, "currency": invoice["currency"],
        "customer": invoice["customer"], "effective_at": params.get("effective_at", world.now()),
        "invoice": invoice["id"], "metadata": merge_metadata(None, params), "number": number,
        "out_of_band_amount": parts["out_of_band_amount"] or None, "pdf": f"https://pay.stripe.com/credit_notes/{id}/pdf",
        "post_payment_amount": post, "pre_payment_amount": pre, "pretax_credit_amounts": [], "refunds": [],
        "status": "issued", **pick(params, "reason memo"),
        "type": "mixed" if pre and post else "pre_payment" if pre else "post_payment",
        "_lines": [line["id"] for line in kept],
    }, id=id)  # fmt: skip
    if parts["credit_amount"]:
        _, transaction = adjust_balance(
            world, customer, -parts["credit_amount"], "credit_note", currency=note["currency"], credit_note=id,
            invoice=invoice["id"],
        )  # fmt: skip
        note = world.update(note, {"customer_balance_transaction": transaction["id"]})
    note = world.update(note, {"refunds": _refunds(world, invoice, params, parts["refund_amount"])})
    world.emit("credit_note.created", note)
    _reduce(world, invoice, pre, post)
    return note


def _line(world: World, invoice: Row, entry: Params, index: int) -> Row:
    param = f"lines[{index}]"
    quantity = entry.get("quantity", 1)
    if entry["type"] == "invoice_line_item":
        line = world.need("line_item", entry.get("invoice_line_item") or "", f"{param}[invoice_line_item]")
        if line["invoice"] != invoice["id"]:
            raise errors.missing("line item", line["id"], f"{param}[invoice_line_item]")
        amount = entry.get("amount")
        if amount is None:
            amount = round_half_up(Fraction(line["amount"] * quantity, line["quantity"] or 1))
        own: Row = {
            "invoice_line_item": line["id"], "description": line.get("description"),
            **_with_line(world, line, amount, param),
        }  # fmt: skip
    else:
        unit = Fraction(entry.get("unit_amount_decimal") or entry.get("unit_amount") or 0)
        amount = round_half_up(unit * quantity)
        own = {"description": entry.get("description"), "unit_amount": entry.get("unit_amount"),
               "unit_amount_decimal": entry.get("unit_amount_decimal") or str(unit)}  # fmt: skip
    return {
        "amount": amount, "discount_amount": 0, "discount_amounts": [], "pretax_credit_amounts": [],
        "quantity": quantity, "tax_rates": [], "taxes": [], "type": entry["type"], **own,
    }  # fmt: skip


def _with_line(world: World, line: Row, amount: int, param: str) -> Row:
    """The discounts and taxes of an invoice line that go back with `amount` of it."""
    notes = [n for n in world.find("credit_note", invoice=line["invoice"]) if n["status"] == "issued"]
    gone = [world.need("credit_note_line_item", id) for note in notes for id in note["_lines"]]
    credited = sum(g["amount"] for g in gone if g.get("invoice_line_item") == line["id"])
    whole = line["amount"]
    if abs(credited + amount) > abs(whole):
        raise StripeError(f"The amount ({amount}) is more than what is left to credit of the line "
                          f"({whole - credited}).", param=f"{param}[amount]")  # fmt: skip
    if not amount:
        return {}
    discounts = [d | {"amount": _share(d["amount"], credited, amount, whole)} for d in line["discount_amounts"]]
    return {
        "discount_amount": sum(d["amount"] for d in discounts), "discount_amounts": discounts,
        "taxes": _taxes(line["taxes"], credited, amount, whole),
    }  # fmt: skip


def _uncredited(invoice: Row, notes: list[Row]) -> list[Row]:
    """The taxes of an invoice less those that notes have given back: the last note takes exactly what is left."""
    gone: Counter[tuple[str, str]] = Counter()
    for tax in (tax for note in notes for tax in note["total_taxes"]):
        for name in ("amount", "taxable_amount"):
            gone[tax["tax_rate_details"]["tax_rate"], name] += tax[name]
    return [
        tax | {n: tax[n] - gone[tax["tax_rate_details"]["tax_rate"], n] for n in ("amount", "taxable_amount")}
        for tax in invoice["total_taxes"]
    ]


def _taxes(taxes: list[Row], before: int, part: int, whole: int) -> list[Row]:
    names = ("amount", "taxable_amount")
    return [tax | {n: _share(tax[n], before, part, whole) for n in names} for tax in taxes]


def _share(amount: int, before: int, part: int, whole: int) -> int:
    """What of `amount` goes with `part` of a whole of which `before` has gone: all parts add up to `amount`."""
    return round_half_up(Fraction(amount * (before + part), whole)) - round_half_up(Fraction(amount * before, whole))


def _net(line: Row) -> int:
    """What a line credits: less its discounts, with its exclusive tax."""
    exclusive = sum(t["amount"] for t in line["taxes"] if t["tax_behavior"] == "exclusive")
    return int(line["amount"] - line["discount_amount"] + exclusive)


def _sums(total: int, taxes: list[Row], discounts: list[Row]) -> Row:
    """The sums of a note over `total`, which is less discounts and with tax; one tax per rate, one discount per id."""
    by_rate: dict[tuple[str, str], Row] = {}
    for tax in taxes:
        key = tax["tax_rate_details"]["tax_rate"], tax["tax_behavior"]
        known = by_rate.setdefault(key, tax | {"amount": 0, "taxable_amount": 0})
        known |= {n: known[n] + tax[n] for n in ("amount", "taxable_amount")}
    by_discount: Counter[str] = Counter()
    for part in discounts:
        by_discount[part["discount"]] += part["amount"]
    tax_sum, off = sum(t["amount"] for t in taxes), by_discount.total()
    exclusive = sum(t["amount"] for t in taxes if t["tax_behavior"] == "exclusive")
    return {
        "amount": total, "total": total, "total_excluding_tax": total - tax_sum, "total_taxes": list(by_rate.values()),
        "subtotal": total - exclusive + off, "subtotal_excluding_tax": total - tax_sum + off, "discount_amount": off,
        "discount_amounts": [{"amount": amount, "discount": id} for id, amount in by_discount.items()],
    }  # fmt: skip


def _refunds(world: World, invoice: Row, params: Params, amount: int) -> list[Row]:
    found = [{"refund": r["refund"], "amount_refunded": r.get("amount_refunded")
              or world.need("refund", r["refund"], "refunds")["amount"], "type": "refund"}
             for r in params.get("refunds") or ()]  # fmt: skip
    if amount:
        for payment in world.find("invoice_payment", invoice=invoice["id"]):
            intent = world.get("payment_intent", payment.get("_payment"))
            charge = world.get("charge", intent.get("latest_charge")) if intent else None
            if charge and charge["paid"]:
                row = refund(world, charge, amount, {"reason": None})
                return [*found, {"refund": row["id"], "amount_refunded": amount, "type": "refund"}]
        raise StripeError("The invoice has no charge that could be refunded.", param="refund_amount")
    return found


def _reduce(world: World, invoice: Row, pre: int, post: int) -> None:
    """An open invoice owes less; at nothing it is paid, though no cash came in."""
    due = invoice["amount_due"] - pre
    invoice = world.update(invoice, {
        "amount_due": due, "amount_remaining": max(0, due - invoice["amount_paid"]),
        "pre_payment_credit_notes_amount": invoice["pre_payment_credit_notes_amount"] + pre,
        "post_payment_credit_notes_amount": invoice["post_payment_credit_notes_amount"] + post,
    }, "invoice.updated")  # fmt: skip
    if pre and invoice["amount_remaining"] > 0:
        payments.ask_for_rest(world, invoice)
    elif pre:
        payments.mark_paid(world, invoice, amount=0)


@action("POST /v1/credit_notes/{id}", "memo metadata")
def update_note(world: World, params: Params, row: Row) -> Row:
    changes = pick(params, "memo") | {"metadata": merge_metadata(row, params)}
    return world.update(row, changes, "credit_note.updated")


@action("POST /v1/credit_notes/{id}/void")
def void_note(world: World, params: Params, row: Row) -> Row:
    """Takes back a credit on an open invoice: it owes again."""
    invoice = world.need("invoice", row["invoice"])
    if row["status"] == "void" or row["post_payment_amount"] or invoice["status"] != "open":
        raise StripeError("You can only void an issued credit note of an open invoice.", param="id")
    row = world.update(row, {"status": "void", "voided_at": world.now()})
    world.emit("credit_note.voided", row)
    _reduce(world, invoice, -row["pre_payment_amount"], 0)
    return row


@action("GET /v1/credit_notes/{credit_note}/lines", "limit starting_after ending_before")
def list_lines(world: World, params: Params, note: Row) -> Row:
    rows = world.find("credit_note_line_item", _credit_note=note["id"])
    return page_of(rows, world, params, f"/v1/credit_notes/{note['id']}/lines")


@parts("credit_note")
def parts_of_note(world: World, row: Row) -> Row:
    rows = [world.store.table("credit_note_line_item")[i] for i in row["_lines"]]
    return {"lines": page(world, rows, f"/v1/credit_notes/{row['id']}/lines")}
