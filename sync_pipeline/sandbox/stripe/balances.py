"""The two ledgers of money: what a customer is owed or owes (balance), and what moved in Stripe's account."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.listing import need_below
from sync_pipeline.sandbox.stripe.money import check_currency, decimal_places, round_half_up
from sync_pipeline.sandbox.stripe.operations import action, merge_metadata, operation, pick
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.pictures import finish
from sync_pipeline.sandbox.stripe.world import World


def adjust_balance(
    world: World, customer: Row, amount: int, type: str, *, currency: str | None = None, event: bool = True,
    **details: object,
) -> tuple[Row, Row]:  # fmt: skip
    """Add to a customer's balance (minor units; negative is credit). Returns the customer and the transaction."""
    currency = currency or customer.get("currency") or world.settings.default_currency
    changes = {"balance": customer["balance"] + amount, "currency": customer.get("currency") or currency}
    customer = world.update(customer, changes, "customer.updated" if event else None)
    transaction = world.create("customer_balance_transaction", {
        "amount": amount, "currency": currency, "customer": customer["id"], "ending_balance": customer["balance"],
        "type": type, "metadata": {}, **details,
    })  # fmt: skip
    return customer, transaction


@action("POST /v1/customers/{customer}/balance_transactions", "amount currency description metadata")
def create_customer_transaction(world: World, params: Params, customer: Row) -> Row:
    currency = check_currency(params["currency"])
    if customer.get("currency") not in (None, currency):
        raise errors.StripeError(
            f"The customer's balance is kept in {customer['currency']}; {currency} cannot be added to it.",
            param="currency",
        )  # fmt: skip
    _, row = adjust_balance(
        world, customer, params["amount"], "adjustment", currency=currency,
        description=params.get("description"), metadata=merge_metadata(None, params),
    )  # fmt: skip
    return row


@operation("POST /v1/customers/{customer}/balance_transactions/{transaction}", "description metadata")
def update_customer_transaction(world: World, params: Params, args: list[str]) -> Row:
    row = need_below(world, "customer_balance_transaction", "customer", args, "transaction")
    return world.update(row, pick(params, "description") | {"metadata": merge_metadata(row, params)})


def settled(world: World, amount: int, currency: str) -> tuple[int, str, str | None]:
    """(amount, currency, exchange rate) as the account keeps it. Raises StripeError for money without a rate."""
    own = world.settings.settle_in
    if own in (None, currency):
        return amount, currency, None
    rate = world.settings.exchange_rates.get(currency)
    if rate is None:
        raise errors.unsupported(f"settlement of {currency} without an exchange rate in the settings", "currency")
    shift = Fraction(10) ** (decimal_places(own) - decimal_places(currency))
    return round_half_up(amount * Fraction(rate) * shift), own, rate


def move_money(world: World, source: Row, type: str, amount: int, *, fee: int = 0, category: str | None = None) -> Row:
    """A line of the account's ledger. `amount` is signed and in the currency of `source`, `fee` in that of the ledger;
    it can be paid out some days later."""
    amount, currency, rate = settled(world, amount, source["currency"])
    details = [{"amount": fee, "currency": currency, "description": "Stripe processing fees",
                "type": "stripe_fee", "application": None}] if fee else []  # fmt: skip
    return world.create("balance_transaction", {
        "amount": amount, "available_on": world.now() + world.settings.payout_delay, "balance_type": "payments",
        "currency": currency, "exchange_rate": float(rate) if rate else None,
        "fee": fee, "fee_details": details, "net": amount - fee,
        "reporting_category": category or type, "source": source["id"], "type": type,
    })  # fmt: skip


@finish("balance_transaction")
def become_available(world: World, shown: Row) -> None:
    shown["status"] = "available" if shown["available_on"] <= world.now() else "pending"


def processing_fee(world: World, charge: Row) -> int:
    """Of what is settled, in the ledger's currency."""
    amount, _, _ = settled(world, charge["amount_captured"], charge["currency"])
    return round_half_up(Fraction(world.settings.fee_percent) * amount / 100) + world.settings.fee_fixed_minor


@operation("GET /v1/balance")
def get_balance(world: World, params: Params, args: list[str]) -> Row:
    """Sums of the ledger by currency: available once its day has come, pending before."""
    sums: dict[str, Counter[str]] = {"available": Counter(), "pending": Counter()}
    for row in world.store.table("balance_transaction").values():
        state = "available" if row["available_on"] <= world.now() else "pending"
        sums[state][row["currency"]] += row["net"]
        sums["pending" if state == "available" else "available"][row["currency"]] += 0
    default = world.settings.default_currency
    shown = {
        state: [{"amount": amount, "currency": currency, "source_types": {"card": amount}}
                for currency, amount in sorted((counts or Counter({default: 0})).items())]
        for state, counts in sums.items()
    }  # fmt: skip
    return {"object": "balance", "livemode": False, **shown}
