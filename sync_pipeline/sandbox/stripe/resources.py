"""The table of Stripe objects that the sandbox keeps: where they live, how they are listed, found and searched.

Data only. A list filter not named here compares the field of its own name; one that needs judgement is a
function in `listing`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resource:
    """`path`: collection path (None: reached only through its parent). `filters`: list parameters that compare a
    field. `search`: field -> kind (token, string, number) of the search language."""

    shape: str
    prefix: str
    noun: str
    path: str | None = None
    filters: tuple[str, ...] = ()
    search: tuple[tuple[str, str], ...] = ()
    shows_clock: bool = False
    has_livemode: bool = True
    undated: bool = False
    deleted_visible: bool = False
    search_stale: bool = False  # search also shows the object as it was before the latest changes


_SEARCH_COMMON = (("created", "number"), ("metadata", "metadata"))

RESOURCES: dict[str, Resource] = {
    "customer": Resource(
        "customer", "cus_", "customer", "/v1/customers", ("email",),
        (*_SEARCH_COMMON, ("email", "string"), ("name", "string"), ("phone", "string")),
        shows_clock=True, deleted_visible=True, search_stale=True,
    ),
    "tax_id": Resource("tax_id", "txi_", "tax_id", "/v1/tax_ids"),
    "customer_balance_transaction": Resource("customer_balance_transaction", "cbtxn_", "customer balance transaction"),
    "product": Resource(
        "product", "prod_", "product", "/v1/products", ("active", "shippable", "url", "type"),
        (*_SEARCH_COMMON, ("active", "token"), ("description", "string"), ("name", "string"), ("shippable", "token"),
         ("url", "string")), search_stale=True,
    ),
    "price": Resource(
        "price", "price_", "price", "/v1/prices", ("active", "currency", "product", "type"),
        (*_SEARCH_COMMON, ("active", "token"), ("currency", "token"), ("lookup_key", "string"), ("product", "token"),
         ("type", "token")), search_stale=True,
    ),
    "coupon": Resource("coupon", "", "coupon", "/v1/coupons"),
    "promotion_code": Resource(
        "promotion_code", "promo_", "promotion code", "/v1/promotion_codes", ("active", "code", "customer"),
    ),
    "discount": Resource("discount", "di_", "discount", has_livemode=False, undated=True),
    "tax_rate": Resource("tax_rate", "txr_", "tax rate", "/v1/tax_rates", ("active", "inclusive")),
    "payment_method": Resource("payment_method", "pm_", "PaymentMethod", "/v1/payment_methods", ("type", "customer")),
    "setup_intent": Resource(
        "setup_intent", "seti_", "setupintent", "/v1/setup_intents", ("customer", "payment_method"),
    ),
    "subscription": Resource(
        "subscription", "sub_", "subscription", "/v1/subscriptions", ("customer", "collection_method"),
        (*_SEARCH_COMMON, ("status", "token"), ("canceled_at", "number")), shows_clock=True, search_stale=True,
    ),
    "subscription_item": Resource(
        "subscription_item", "si_", "subscription_item", "/v1/subscription_items", ("subscription",),
        has_livemode=False,
    ),
    "subscription_schedule": Resource(
        "subscription_schedule", "sub_sched_", "subscription_schedule", "/v1/subscription_schedules", ("customer",),
        shows_clock=True,
    ),
    "invoice": Resource(
        "invoice", "in_", "invoice", "/v1/invoices", ("status", "customer", "collection_method"),
        (*_SEARCH_COMMON, ("currency", "token"), ("customer", "token"), ("number", "string"), ("status", "token"),
         ("subscription", "token"), ("total", "number"), ("last_finalization_error_code", "string"),
         ("receipt_number", "string")),
        shows_clock=True,
    ),
    "line_item": Resource("line_item", "il_", "line item", undated=True),
    "invoiceitem": Resource("invoiceitem", "ii_", "invoiceitem", "/v1/invoiceitems", ("customer", "invoice"),
                            shows_clock=True, undated=True),
    "invoice_payment": Resource(
        "invoice_payment", "inpay_", "invoice_payment", "/v1/invoice_payments", ("invoice", "status"),
    ),
    "credit_note": Resource("credit_note", "cn_", "credit note", "/v1/credit_notes", ("customer", "invoice")),
    "credit_note_line_item": Resource("credit_note_line_item", "cnli_", "credit note line item", undated=True),
    "payment_intent": Resource(
        "payment_intent", "pi_", "payment_intent", "/v1/payment_intents", ("customer",),
        (*_SEARCH_COMMON, ("amount", "number"), ("currency", "token"), ("customer", "token"), ("status", "token")),
    ),
    "charge": Resource(
        "charge", "ch_", "charge", "/v1/charges", ("customer", "payment_intent", "transfer_group"),
        (*_SEARCH_COMMON, ("amount", "number"), ("currency", "token"), ("customer", "token"), ("status", "token"),
         ("disputed", "token"), ("refunded", "token")),
    ),
    "payment_record": Resource("payment_record", "pr_", "payment record", "/v1/payment_records"),
    "refund": Resource(
        "refund", "re_", "refund", "/v1/refunds", ("charge", "payment_intent"), has_livemode=False,
    ),
    "dispute": Resource("dispute", "dp_", "dispute", "/v1/disputes", ("charge", "payment_intent")),
    "balance_transaction": Resource(
        "balance_transaction", "txn_", "balance transaction", "/v1/balance_transactions",
        ("currency", "source", "type"), has_livemode=False,
    ),
    "event": Resource("event", "evt_", "event", "/v1/events", ("type",)),
    "webhook_endpoint": Resource("webhook_endpoint", "we_", "webhook endpoint", "/v1/webhook_endpoints"),
    "v2.core.event_destination": Resource("v2.core.event_destination", "ed_test_", "event destination"),
    "test_helpers.test_clock": Resource(
        "test_helpers.test_clock", "clock_", "test clock", "/v1/test_helpers/test_clocks",
    ),
    "payout": Resource("payout", "po_", "payout", "/v1/payouts", ("status", "destination")),
    "transfer": Resource("transfer", "tr_", "transfer", "/v1/transfers", ("destination", "transfer_group")),
    "checkout.session": Resource(
        "checkout.session", "cs_test_", "checkout.session", "/v1/checkout/sessions",
        ("customer", "subscription", "payment_intent", "status"),
    ),
}  # fmt: skip

# Fields whose equality is looked up, not scanned for.
INDEXED: dict[str, tuple[str, ...]] = {
    "customer": ("email", "_clock"),
    "tax_id": ("customer",),
    "customer_balance_transaction": ("customer",),
    "price": ("lookup_key", "product"),
    "discount": ("customer", "subscription"),
    "payment_method": ("customer",),
    "setup_intent": ("customer",),
    "subscription": ("customer", "_clock"),
    "subscription_item": ("subscription",),
    "subscription_schedule": ("customer", "subscription"),
    "invoice": ("customer", "_subscription"),
    "line_item": ("invoice",),
    "invoiceitem": ("customer", "invoice"),
    "invoice_payment": ("invoice", "_payment"),
    "credit_note": ("invoice", "customer"),
    "credit_note_line_item": ("_credit_note",),
    "payment_intent": ("customer",),
    "charge": ("customer", "payment_intent"),
    "refund": ("charge", "payment_intent"),
    "dispute": ("charge", "payment_intent"),
    "balance_transaction": ("source",),
    "event": ("type",),
    "promotion_code": ("code", "coupon"),
}
