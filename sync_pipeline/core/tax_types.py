"""Which of Stripe's tax id types a registration is, from its country and its form.

The types are those of the `type` parameter of POST /v1/tax_ids, the forms those of Stripe's examples
(docs.stripe.com/billing/customer/tax-ids). Only Stripe says whether a number is valid.
"""

from __future__ import annotations

import re

from sync_pipeline.core.canon import country_code, text
from sync_pipeline.core.salesforce_records import Account

EUROPEAN_UNION = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK".split()
EU_PREFIX = {"GR": "EL"}

ONLY_TYPE = {
    kind[:2].upper(): kind
    for kind in (
        "ad_nrt ae_trn al_tin am_tin ao_tin ar_cuit aw_tin az_tin ba_tin bb_tin bd_bin bf_ifu bh_vat bj_ifu bo_tin "
        "bs_tin bw_vat by_tin cd_nif ci_vat cl_tin cm_niu cn_tin co_nit cr_tin cv_nif do_rcn ec_ruc eg_tin et_tin "
        "fo_vat gb_vat ge_vat gh_tin gi_tin gn_nif hk_br id_npwp il_vat in_gst ke_pin kg_tin kh_tin kr_brn kz_bin "
        "la_tin lk_vat ma_vat me_pib mk_vat mr_nif mu_vat mx_rfc mz_nuit ng_tin np_pan om_vat pe_ruc "
        "ph_tin py_ruc rs_pib sa_vat sm_coe sn_ninea sr_fin sv_nit th_vat tj_tin tr_tin tw_vat tz_vat ua_vat ug_tin "
        "us_ein uy_ruc ve_rif vn_tin za_vat zm_tin zw_tin"
    ).split()
}
"""Where a country has one type, or one that businesses are known by."""

BY_FORM = (
    ("AU", r"\d{9}", "au_acn"),
    ("AU", r"\d{12}", "au_arn"),
    ("AU", r".*", "au_abn"),
    ("BG", r"\d{9}", "bg_uic"),
    ("BR", r"\d{11}", "br_cpf"),
    ("BR", r".*", "br_cnpj"),
    ("CA", r".*RT\d{4}", "ca_gst_hst"),
    ("CA", r".*TQ\d{4}", "ca_qst"),
    ("CA", r"PST\d{8}", "ca_pst_bc"),
    ("CA", r"\d{9}", "ca_bn"),
    ("CH", r"CHE\d{9}", "ch_uid"),
    ("CH", r".*", "ch_vat"),
    ("CZ", r"\d+", "cz_dic"),
    ("DE", r"\d{10,11}", "de_stn"),
    ("ES", r"[A-Z]\d{7}[0-9A-Z]", "es_cif"),
    ("FR", r"\d{9}", "fr_siren"),
    ("FR", r"\d{13}", "fr_spi"),
    ("FR", r"\d{14}", "fr_siret"),
    ("HR", r"\d{11}", "hr_oib"),
    ("HU", r"\d{11}", "hu_tin"),
    ("IS", r"\d{10}", "is_kt"),
    ("IS", r".*", "is_vat"),
    ("IT", r"[A-Z]{6}.*", "it_cf"),
    ("JP", r"T\d{13}", "jp_trn"),
    ("JP", r"\d{13}", "jp_cn"),
    ("JP", r".*", "jp_rn"),
    ("LI", r"CHE.*", "li_uid"),
    ("LI", r".*", "li_vat"),
    ("MD", r"\d{13}", "md_cf"),
    ("MD", r".*", "md_vat"),
    ("MY", r"\d{8}", "my_frp"),
    ("MY", r"[A-Z]\d{14}", "my_sst"),
    ("MY", r"[A-Z]{1,2}\d{9,11}", "my_itn"),
    ("NO", r"\d{7}", "no_voec"),
    ("NO", r".*", "no_vat"),
    ("NZ", r"\d{13}", "nz_bn"),
    ("NZ", r".*", "nz_gst"),
    ("PL", r"\d{10}", "pl_nip"),
    ("PT", r"\d{9}", "pt_nif"),
    ("RO", r"\d{13}", "ro_tin"),
    ("RU", r"\d{9}", "ru_kpp"),
    ("RU", r".*", "ru_inn"),
    ("SG", r"M.*", "sg_gst"),
    ("SG", r".*", "sg_uen"),
    ("SI", r"\d{8}", "si_tin"),
    ("TT", r".*", "tt_vat"),
    ("UZ", r"\d{9}", "uz_tin"),
    ("UZ", r".*", "uz_vat"),
)
"""Where the form of the number tells: the first row that fits, on letters and digits only."""

ONE_STOP_SHOP = "eu_oss_vat"
"""A registration of the Union as such (EU and nine digits); whoever has it is in another country."""

ONLY_BY_HAND = {
    "au_wpn": "nine digits, as an Australian company number has",
    "ca_pst_mb": "seven digits, as one of Saskatchewan has",
    "ca_pst_sk": "seven digits, as one of Manitoba has",
    "ic_nif": "the form of a Spanish one, and the Canary Islands are no country of their own in an address",
    "tt_bir": "Stripe documents no form that tells it from a VAT registration",
}
"""The types that follow from no country and form, each with why: Tax_Registration_Type__c has to say them."""

TYPES = frozenset({"eu_vat", ONE_STOP_SHOP, *ONLY_TYPE.values(), *(kind for _, _, kind in BY_FORM), *ONLY_BY_HAND})
"""Every type that Stripe takes."""


def compact(registration: str | None) -> str:
    """A registration's letters and digits."""
    return "".join(character for character in registration or "" if character.isalnum()).upper()


def tax_type(country: str | None, registration: str) -> str | None:
    """The type of a registration in a country (ISO code); None where nothing tells."""
    said = compact(registration)
    if re.fullmatch(r"EU\d{9}", said):
        return ONE_STOP_SHOP
    if country in EUROPEAN_UNION and said.startswith(EU_PREFIX.get(country, country)):
        return "eu_vat"
    if country == "GB" and said.startswith("XI"):
        return "eu_vat"
    for where, form, kind in BY_FORM:
        if where == country and re.fullmatch(form, said):
            return kind
    return "eu_vat" if country in EUROPEAN_UNION else ONLY_TYPE.get(country or "")


def registration_of(account: Account) -> tuple[str, str] | None:
    """The Account's tax registration as Stripe takes it, type and number; None where there is none of a known type."""
    registration = text(account.tax_registration)
    if registration is None:
        return None
    kind = named_type(account) or tax_type(country_code(account.billing_country), registration)
    return (kind, registration) if kind in TYPES else None


def named_type(account: Account) -> str | None:
    """The type that a person has named, as Stripe writes types; it may be none of them."""
    said = text(account.tax_registration_type)
    return said.lower() if said is not None else None
