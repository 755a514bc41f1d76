"""The operations on the lines of a draft: list, add, change, remove."""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.billing import add_invoice_item_line
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.invoice_items import change_item, put_item, remove_item, require_draft
from sync_pipeline.sandbox.stripe.invoices import lines_of, sum_up
from sync_pipeline.sandbox.stripe.listing import page_of
from sync_pipeline.sandbox.stripe.operations import action, merge_metadata, operation
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.world import World

_LINE = "amount description discountable discounts metadata period price_data pricing quantity tax_rates"
_LINES = " ".join(f"lines.{name}" for name in _LINE.split())


def _finish(world: World, invoice: Row, params: Params) -> Row:
    invoice = sum_up(world, world.need("invoice", invoice["id"]))
    metadata = merge_metadata(invoice, {"metadata": params["invoice_metadata"]} if "invoice_metadata" in params else {})
    return world.update(invoice, {"metadata": metadata})


@action("GET /v1/invoices/{invoice}/lines", "limit starting_after ending_before")
def list_lines(world: World, params: Params, invoice: Row) -> Row:
    return page_of(lines_of(world, invoice["id"]), world, params, f"/v1/invoices/{invoice['id']}/lines")


@action("POST /v1/invoices/{invoice}/add_lines", f"invoice_metadata lines.invoice_item {_LINES}")
def add_lines(world: World, params: Params, invoice: Row) -> Row:
    require_draft(invoice)
    customer = world.need("customer", invoice["customer"])
    with world.watching("invoice", invoice["id"], "invoice.updated"):
        for i, entry in enumerate(params["lines"]):
            if entry.get("invoice_item"):
                item = world.need("invoiceitem", entry["invoice_item"], f"lines[{i}][invoice_item]")
                if "invoice" in item:
                    raise StripeError("The invoice item is already on an invoice.", param=f"lines[{i}][invoice_item]")
            else:
                item = put_item(world, customer, {"currency": invoice["currency"], **entry}, None, None, f"lines[{i}]")
            add_invoice_item_line(world, invoice, item)
        return _finish(world, invoice, params)


def _item_of(world: World, invoice: Row, line_id: str, param: str) -> Row:
    """The invoice item behind a line. Lines for a period of a subscription have none and cannot be edited."""
    line = world.get("line_item", line_id)
    if line is None or line["invoice"] != invoice["id"]:
        raise errors.missing("line item", line_id, param)
    details = line["parent"][line["parent"]["type"]]
    if not details.get("invoice_item"):
        raise errors.unsupported("changing the line of a subscription period", param)
    return world.need("invoiceitem", details["invoice_item"])


@action("POST /v1/invoices/{invoice}/update_lines", f"invoice_metadata lines.id {_LINES}")
def update_lines(world: World, params: Params, invoice: Row) -> Row:
    require_draft(invoice)
    with world.watching("invoice", invoice["id"], "invoice.updated"):
        for i, entry in enumerate(params["lines"]):
            change_item(world, _item_of(world, invoice, entry["id"], f"lines[{i}][id]"), entry)
        return _finish(world, invoice, params)


@operation("POST /v1/invoices/{invoice}/lines/{line_item_id}", _LINE)
def update_line(world: World, params: Params, args: list[str]) -> Row:
    invoice = world.need("invoice", args[0], "invoice", 404)
    require_draft(invoice)
    change_item(world, _item_of(world, invoice, args[1], "line_item_id"), params)
    return world.need("line_item", args[1])


@action("POST /v1/invoices/{invoice}/remove_lines", "invoice_metadata lines.id lines.behavior")
def remove_lines(world: World, params: Params, invoice: Row) -> Row:
    """`delete` does away with the invoice item, `unassign` leaves it pending."""
    require_draft(invoice)
    with world.watching("invoice", invoice["id"], "invoice.updated"):
        for i, entry in enumerate(params["lines"]):
            item = _item_of(world, invoice, entry["id"], f"lines[{i}][id]")
            if entry["behavior"] == "unassign":
                world.delete(world.need("line_item", entry["id"]))
                world.update(item, {"invoice": None, "_line": None})
            else:
                remove_item(world, item)
        return _finish(world, invoice, params)
