"""What people do in Salesforce: sales at the deals, customer success at the accounts, an administrator at the org.

Fields go by their API names; a field may also be given as the id of another record: {id of: Account Contoso}.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from sync_pipeline.demo.play import Play
from sync_pipeline.demo.records import Record, Unclear, id_of, only, records, sobject, split
from sync_pipeline.demo.verbs import verb

DEAL = "Opportunity"
SUCCESS = "User Casey Success"
OPEN_DEAL = {"StageName": "Negotiation/Review", "Type": "New Business"}
CLOSES_IN = timedelta(days=7)


@verb("sales closes the deal")
def close(play: Play, deal: str | None = None) -> None:
    """The Opportunity becomes Closed Won; `deal` names which, where there are several."""
    _edit(play, play.only(f"{DEAL} {deal or ''}"), DEAL, {"StageName": "Closed Won"})


@verb("sales edits")
def edit(play: Play, records: dict[str, Any]) -> None:
    for key, fields in records.items():
        _edit(play, play.only(key), key, fields)


@verb("customer success edits")
def edit_as_success(play: Play, records: dict[str, Any]) -> None:
    for key, fields in records.items():
        _edit(play, play.only(key), key, fields, user=id_of(play.only(SUCCESS)))


@verb("sales creates")
def create(play: Play, records: dict[str, Any]) -> None:
    """Each by kind and name, with its fields."""
    for key, fields in records.items():
        kind, name = split(key)
        _create(play, kind, {"Name": name, **fields} if name else fields)


@verb("sales opens a deal")
def open_deal(play: Play, name: str, account: str, lines: list[Any], fields: dict[str, Any]) -> None:
    """An Opportunity with lines: each a `product`, `quantity` and `price`, a new product also with its `family`."""
    closes = (play.now() + CLOSES_IN).date().isoformat()
    buyer, book = id_of(play.only(f"Account {account}")), id_of(play.only("Pricebook2"))
    told = {"Name": name, "AccountId": buyer, "Pricebook2Id": book, "CloseDate": closes}
    deal = _create(play, DEAL, OPEN_DEAL | told | fields)
    for line in lines:
        _add_line(play, deal, line)


@verb("sales adds a line")
def add_line(
    play: Play,
    product: str,
    quantity: Decimal,
    price: Decimal,
    family: str = "",
    deal: str = "",
    renewal: bool = False,
    fields: dict[str, Any] | None = None,
) -> None:
    """To the deal that is named, where there are several, or to the renewal."""
    line = {"product": product, "quantity": quantity, "price": price, "family": family, "fields": fields or {}}
    _add_line(play, id_of(play.only(f"{'Renewal' if renewal else DEAL} {deal}")), line)


@verb("sales deletes")
def delete(play: Play, record: str) -> None:
    _person(play, split(record)[0], id=id_of(play.only(record)), delete=True)


@verb("sales restores from the recycle bin")
def restore(play: Play, record: str) -> None:
    _person(play, split(record)[0], id=id_of(only(play.truth, record, deleted=True)), undelete=True)


@verb("sales merges")
def merge(play: Play, account: str, into: str) -> None:
    pair = {"loser": id_of(play.only(f"Account {account}")), "winner": id_of(play.only(f"Account {into}"))}
    _person(play, "Account", merge=pair)


def _edit(play: Play, record: Record, key: str, fields: Mapping[str, Any], **how: Any) -> None:
    _person(play, split(key)[0], id=id_of(record), fields=_wire(play, fields), **how)


def _create(play: Play, kind: str, fields: Mapping[str, Any]) -> str:
    return str(_person(play, kind, fields=_wire(play, fields))["Id"])


def _person(play: Play, kind: str, **what: Any) -> Any:
    return play.control("POST", "/humans", {"system": "salesforce", "object": sobject(kind), **what})["result"]


def _wire(play: Play, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Field values as JSON has them."""
    return {name: _value(play, value) for name, value in fields.items()}


def _value(play: Play, value: Any) -> Any:
    if isinstance(value, Mapping):
        return id_of(play.only(str(value["id of"])))
    return float(value) if isinstance(value, Decimal) else value


def _add_line(play: Play, deal: str, line: Mapping[str, Any]) -> None:
    currency = _currency(play, deal)
    entry = _price_book_entry(play, line["product"], line.get("family") or "Platform", line["price"], currency)
    sold = {"Quantity": line["quantity"], "UnitPrice": line["price"], **line.get("fields", {})}
    _create(play, "Line", {"OpportunityId": deal, "PricebookEntryId": entry, **sold})


def _currency(play: Play, deal: str) -> str | None:
    (found,) = [each for each in play.truth["salesforce"][DEAL] if each["Id"] == deal]
    currency: str | None = found.get("CurrencyIsoCode")
    return currency


def _price_book_entry(play: Play, product: str, family: str, price: Any, currency: str | None) -> str:
    """The product's entry in the standard price book; product and entry are made where they are not there."""
    held = records(play.truth, f"Product2 {product}")
    if len(held) > 1:
        raise Unclear(f"there are {len(held)} products {product!r}")
    code = {"ProductCode": product.upper().replace(" ", "-"), "IsActive": True}
    made = id_of(held[0]) if held else _create(play, "Product2", {"Name": product, "Family": family, **code})
    entries = play.truth["salesforce"].get("PricebookEntry", [])
    for entry in entries:
        if entry["Product2Id"] == made and entry.get("CurrencyIsoCode") == currency:
            return str(entry["Id"])
    listed = {"Pricebook2Id": id_of(play.only("Pricebook2")), "Product2Id": made, "UnitPrice": price, "IsActive": True}
    return _create(play, "PricebookEntry", listed | ({"CurrencyIsoCode": currency} if currency else {}))
