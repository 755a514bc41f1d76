"""The account itself: who this Stripe belongs to."""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.operations import operation
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.world import World


@operation("GET /v1/account")
def get_account(world: World, params: Params, args: list[str]) -> Row:
    settings = world.settings
    account: Row = world.contract.fill("account")({
        "id": world.account_id, "object": "account", "business_profile": {"name": settings.business_name},
        "business_type": "company", "capabilities": {"card_payments": "active", "transfers": "active"},
        "charges_enabled": True, "country": settings.country, "default_currency": settings.default_currency,
        "details_submitted": True, "email": "billing@example.com", "metadata": {}, "payouts_enabled": True,
        "settings": {
            "branding": {}, "card_payments": {}, "dashboard": {"display_name": settings.business_name,
                                                               "timezone": "Etc/UTC"},
            "payments": {},
        },
        "type": "standard",
    })  # fmt: skip
    return account


@operation("GET /v1/accounts/{account}")
def get_account_by_id(world: World, params: Params, args: list[str]) -> Row:
    if args[0] != world.account_id:
        raise errors.missing("account", args[0], "account", status=404)
    return get_account(world, params, args)
