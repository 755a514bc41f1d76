"""OpportunityLineItem and the price books: which product, at what price, and what the total then is."""

from __future__ import annotations

from sync_pipeline.sandbox.salesforce.errors import SalesforceError
from sync_pipeline.sandbox.salesforce.opportunity import roll_up
from sync_pipeline.sandbox.salesforce.saving import Actor, NoBehaviour, Saver
from sync_pipeline.sandbox.salesforce.values import decimal_of, double_of
from sync_pipeline.sandbox.store import Row


def _integrity(message: str, *fields: str) -> SalesforceError:
    return SalesforceError("FIELD_INTEGRITY_EXCEPTION", f"field integrity exception: {message}", list(fields))


class OpportunityLineItem(NoBehaviour):
    def prepare(self, saver: Saver, old: Row | None, new: Row, given: set[str]) -> None:
        if decimal_of(new["Quantity"]) == 0:
            raise _integrity("Quantity (must not be zero)", "Quantity")
        if old is None:
            self._take_product(saver, new)
            if new.get("UnitPrice") is None and new.get("TotalPrice") is None:
                message = "Required fields are missing: [UnitPrice]"
                raise SalesforceError("REQUIRED_FIELD_MISSING", message, ["UnitPrice"])
        self._price(old, new, {n for n in given if new.get(n) is not None or n == "Discount"})

    def saved(self, saver: Saver, old: Row | None, new: Row, actor: Actor) -> None:
        book = self._entry(saver, new)["Pricebook2Id"]
        opportunity = saver.db.by_id(new["OpportunityId"]) or {}
        changes = {} if opportunity.get("Pricebook2Id") else {"Pricebook2Id": book}
        roll_up(saver, new["OpportunityId"], actor, changes)

    def removed(self, saver: Saver, row: Row, actor: Actor) -> None:
        roll_up(saver, row["OpportunityId"], actor, {})

    def _entry(self, saver: Saver, line: Row) -> Row:
        return saver.db.by_id(line["PricebookEntryId"]) or {}

    def _take_product(self, saver: Saver, new: Row) -> None:
        """Checks that the price book entry fits the opportunity, and copies what the line shows of the product."""
        entry, opportunity = self._entry(saver, new), saver.db.by_id(new["OpportunityId"]) or {}
        book = saver.db.by_id(entry["Pricebook2Id"]) or {}
        if not entry["IsActive"]:
            raise _integrity("PricebookEntryId (pricebook entry is inactive)", "PricebookEntryId")
        if not opportunity.get("Pricebook2Id") and not book.get("IsActive"):
            raise _integrity("PricebookEntryId (pricebook is inactive)", "PricebookEntryId")
        if opportunity.get("Pricebook2Id") not in (None, entry["Pricebook2Id"]):
            raise _integrity(
                "PricebookEntryId (pricebook entry is in a different pricebook than the one assigned to "
                "the opportunity)",
                "PricebookEntryId",
            )
        if entry.get("CurrencyIsoCode") != opportunity.get("CurrencyIsoCode"):
            raise _integrity(
                "PricebookEntryId (pricebook entry currency code does not match opportunity currency code)",
                "PricebookEntryId",
            )
        product = saver.db.by_id(entry["Product2Id"]) or {}
        new |= {
            "Product2Id": entry["Product2Id"],
            "ProductCode": product.get("ProductCode"),
            "Name": f"{opportunity.get('Name')} {product.get('Name')}"[:376],
            "ListPrice": entry["UnitPrice"],
        }
        if "CurrencyIsoCode" in opportunity:
            new["CurrencyIsoCode"] = opportunity["CurrencyIsoCode"]

    def _price(self, old: Row | None, new: Row, given: set[str]) -> None:
        """Of unit price and total price, the one that was not sent follows from the other.

        Quantity alone keeps the total and changes the unit price; Discount alone keeps the unit price.
        """
        if {"UnitPrice", "TotalPrice"} <= given:
            raise _integrity("You can't specify both UnitPrice and TotalPrice", "UnitPrice", "TotalPrice")
        changed = {n for n in given if old is None or new.get(n) != old.get(n)}
        priced = {"UnitPrice", "TotalPrice"} & given
        if old is not None and {"Quantity", "Discount"} <= changed and not priced:
            raise _integrity("specify UnitPrice or TotalPrice when you change both Discount and Quantity", "Quantity")
        quantity = decimal_of(new["Quantity"])
        share = 1 - decimal_of(new.get("Discount")) / 100
        if "TotalPrice" in given or (not priced and "Quantity" in changed and old is not None):
            if share == 0:
                raise _integrity("UnitPrice cannot be derived with a discount of 100 percent", "Discount")
            new["UnitPrice"] = double_of(decimal_of(new["TotalPrice"]) / (quantity * share))
        else:
            new["TotalPrice"] = double_of(decimal_of(new["UnitPrice"]) * share * quantity)
        new["Subtotal"] = double_of(decimal_of(new["UnitPrice"]) * quantity)


class PricebookEntry(NoBehaviour):
    def prepare(self, saver: Saver, old: Row | None, new: Row, given: set[str]) -> None:
        standard = self._standard_entry(saver, new)
        book = saver.db.by_id(new["Pricebook2Id"]) or {}
        if old is None:
            if not book.get("IsStandard") and standard is None:
                message = "No standard price defined for this product"
                raise SalesforceError("STANDARD_PRICE_NOT_DEFINED", message, [])
            if any(e["Pricebook2Id"] == new["Pricebook2Id"] for e in self._entries(saver, new)):
                message = "This price definition already exists in this price book"
                raise SalesforceError("DUPLICATE_VALUE", message, [])
        if new["UseStandardPrice"]:
            if "UnitPrice" in given:
                raise _integrity("UnitPrice (must not be given with UseStandardPrice)", "UnitPrice")
            new["UnitPrice"] = standard["UnitPrice"] if standard else new.get("UnitPrice")
        if new.get("UnitPrice") is None:
            message = "Required fields are missing: [UnitPrice]"
            raise SalesforceError("REQUIRED_FIELD_MISSING", message, ["UnitPrice"])
        product = saver.db.by_id(new["Product2Id"]) or {}
        new |= {"Name": product.get("Name"), "ProductCode": product.get("ProductCode")}

    def _entries(self, saver: Saver, like: Row) -> list[Row]:
        """Entries of the same product in the same currency."""
        o = saver.db.schema.objects["PricebookEntry"]
        rows = saver.db.where(o, o.fields["Product2Id"], like["Product2Id"])
        return [r for r in rows if r.get("CurrencyIsoCode") == like.get("CurrencyIsoCode") and r["Id"] != like["Id"]]

    def _standard_entry(self, saver: Saver, like: Row) -> Row | None:
        return next(
            (e for e in self._entries(saver, like) if (saver.db.by_id(e["Pricebook2Id"]) or {}).get("IsStandard")), None
        )


class Product2(NoBehaviour):
    def saved(self, saver: Saver, old: Row | None, new: Row, actor: Actor) -> None:
        """Entries show their product's name and code."""
        shown = ("Name", "ProductCode")
        if old is None or all(old.get(n) == new.get(n) for n in shown):
            return
        entries = saver.db.schema.objects["PricebookEntry"]
        for entry in saver.db.where(entries, entries.fields["Product2Id"], new["Id"]):
            saver.stamp(entries, entry, {n: new.get(n) for n in shown}, actor)

    def check_removal(self, saver: Saver, row: Row) -> None:
        lines = saver.db.schema.objects["OpportunityLineItem"]
        if saver.db.where(lines, lines.fields["Product2Id"], row["Id"]):
            message = "Your attempt to delete this product could not be completed because it is on opportunities"
            raise SalesforceError("DELETE_FAILED", message, [])
