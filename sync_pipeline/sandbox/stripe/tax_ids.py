"""Tax registrations of customers: format at once, verification later."""

from __future__ import annotations

import re

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.listing import need_below
from sync_pipeline.sandbox.stripe.operations import action, operation
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.world import World, timer

MAX_PER_CUSTOMER = 5
_EU = (
    "ATU\\d{8}|BE[01]\\d{9}|BG\\d{9,10}|CY\\d{8}[A-Z]|CZ\\d{8,10}|DE\\d{9}|DK\\d{8}|EE\\d{9}|EL\\d{9}"
    "|ES[A-Z0-9]\\d{7}[A-Z0-9]|FI\\d{8}|FR[A-Z0-9]{2}\\d{9}|HR\\d{11}|HU\\d{8}|IE\\d[A-Z0-9+*]\\d{5}[A-Z]{1,2}"
    "|IT\\d{11}|LT(\\d{9}|\\d{12})|LU\\d{8}|LV\\d{11}|MT\\d{8}|NL\\d{9}B\\d{2}|PL\\d{10}|PT\\d{9}|RO\\d{2,10}"
    "|SE\\d{12}|SI\\d{8}|SK\\d{10}|XI(\\d{9}|\\d{12}|GD\\d{3}|HA\\d{3})"
)
_FORMATS = {
    "eu_vat": _EU, "gb_vat": r"GB(\d{9}|\d{12}|GD\d{3}|HA\d{3})", "us_ein": r"\d{2}-?\d{7}", "au_abn": r"\d{11}",
    "ch_vat": r"CHE-?\d{3}\.?\d{3}\.?\d{3} ?(MWST|TVA|IVA)", "no_vat": r"\d{9}MVA", "nz_gst": r"\d{8,9}",
    "in_gst": r"\d{2}[A-Z]{5}\d{4}[A-Z]\d[A-Z0-9]{2}", "ca_bn": r"\d{9}", "ca_gst_hst": r"\d{9}RT\d{4}",
    "jp_cn": r"\d{13}", "jp_trn": r"T\d{13}", "sg_uen": r"[0-9A-Z]{9,10}", "sg_gst": r"M\d{8}[A-Z]|[A-Z0-9]{9,10}",
    "br_cnpj": r"\d{2}\.?\d{3}\.?\d{3}/?\d{4}-?\d{2}", "mx_rfc": r"[A-ZÑ&]{3,4}\d{6}[A-Z0-9]{3}", "ae_trn": r"\d{15}",
    "za_vat": r"4\d{9}", "kr_brn": r"\d{3}-?\d{2}-?\d{5}", "is_vat": r"\d{5,6}", "li_uid": r"CHE\d{9}",
    "eu_oss_vat": r"EU\d{9}",
}  # fmt: skip
_VERIFIED = ("eu_vat", "gb_vat", "au_abn")


@action("POST /v1/customers/{customer}/tax_ids", "type value")
def create_for_customer(world: World, params: Params, customer: Row) -> Row:
    return create_tax_id(world, customer, params, "value")


@operation("POST /v1/tax_ids", "type value owner.type owner.customer")
def create_top_level(world: World, params: Params, args: list[str]) -> Row:
    owner = params.get("owner") or {}
    if owner.get("type") != "customer":
        raise errors.unsupported("tax ids that belong to the account", "owner[type]")
    if not owner.get("customer"):
        raise errors.required("owner[customer]")
    return create_tax_id(world, world.need("customer", owner["customer"], "owner[customer]"), params, "value")


def create_tax_id(world: World, customer: Row, params: Params, param: str) -> Row:
    kind, value = params["type"], params["value"]
    if not re.fullmatch(
        _FORMATS.get(kind, r"\S.*"), value.strip().upper().replace(" ", "") if kind != "ch_vat" else value
    ):
        raise StripeError(f"Invalid value for {kind}.", code="tax_id_invalid", param=param)
    if len(world.find("tax_id", customer=customer["id"])) >= MAX_PER_CUSTOMER:
        raise StripeError(f"A customer can have at most {MAX_PER_CUSTOMER} tax ids.", param=param)
    country = value[:2].upper() if kind == "eu_vat" else kind[:2].upper()
    country = {"EL": "GR", "XI": "GB", "UN": None, "EU": None}.get(country, country)
    verified = kind in _VERIFIED
    row = world.create("tax_id", {
        "country": country, "customer": customer["id"], "owner": {"type": "customer", "customer": customer["id"]},
        "type": kind, "value": value,
        "verification": {"status": "pending" if verified else "unavailable"},
    }, event="customer.tax_id.created")  # fmt: skip
    if verified:
        world.set_timer("verify_tax_id", row["id"], world.now() + world.settings.tax_id_verification)
    return row


@timer("verify_tax_id")
def verify(world: World, id: str) -> None:
    """The register answers, unless the customer was deleted meanwhile. Values made of zeros are not known to it."""
    row = world.get("tax_id", id)
    owner = world.get("customer", row["customer"]) if row is not None else None
    if row is None or owner is None:
        return
    known = bool(re.search(r"[1-9]", row["value"]))
    verification = {"status": "verified", "verified_name": owner.get("name")} if known else {"status": "unverified"}
    world.update(row, {"verification": verification}, "customer.tax_id.updated")


@operation("DELETE /v1/customers/{customer}/tax_ids/{id}")
def delete_for_customer(world: World, params: Params, args: list[str]) -> Row:
    return world.delete(need_below(world, "tax_id", "customer", args, "id"), "customer.tax_id.deleted")


@action("DELETE /v1/tax_ids/{id}")
def delete_top_level(world: World, params: Params, row: Row) -> Row:
    return world.delete(row, "customer.tax_id.deleted")
