"""Why a payment was declined, in words for the person who has to act, and whether Stripe will try it again.

The codes are Stripe's decline codes of cards (docs.stripe.com/declines/codes), its failure codes of bank debits
(docs.stripe.com/payments/bank-debits) and the reasons of its own blocks. Words say what to tell the customer; a card
that was reported lost or stolen is told to nobody but us.
"""

from __future__ import annotations

_DECLINED = "the bank declined without a reason"
_BANK = "the customer has to speak to the bank"
IN_PLAIN_WORDS = {
    "account_closed": "the bank account is closed",
    "approve_with_id": "the bank could not authorise the payment",
    "authentication_not_handled": "the customer has to confirm the payment",
    "authentication_required": "the customer has to confirm the payment",
    "bank_account_declined": "the bank account cannot be debited",
    "bank_account_restricted": "the bank account cannot be debited",
    "bank_account_unusable": "the bank account cannot be debited",
    "bank_ownership_changed": "the bank account has moved to another bank",
    "call_issuer": f"the bank declined; {_BANK}",
    "card_declined": _DECLINED,
    "card_not_supported": "the card does not allow this kind of purchase",
    "card_velocity_exceeded": "the card's limit is exceeded",
    "charge_exceeds_source_limit": "the limit of the payment method is exceeded",
    "currency_not_supported": "the card does not support the currency",
    "debit_authorization_not_match": "the debit does not match the customer's mandate",
    "debit_disputed": "the customer disputed an earlier debit",
    "debit_not_authorized": "the customer did not authorise the debit",
    "do_not_honor": _DECLINED,
    "do_not_try_again": f"the bank declined for good; {_BANK}",
    "duplicate_transaction": "the same amount was charged to the card a moment before",
    "elevated_risk_level": "Stripe took the payment for risky",
    "expired_card": "the card has expired",
    "fraudulent": "the bank suspects fraud",
    "generic_decline": _DECLINED,
    "highest_risk_level": "Stripe blocked the payment as too risky",
    "incorrect_address": "the billing address is not the card's",
    "incorrect_cvc": "the security code is wrong",
    "incorrect_number": "the card number is wrong",
    "incorrect_pin": "the PIN is wrong",
    "incorrect_zip": "the postal code is not the card's",
    "insufficient_funds": "there are insufficient funds",
    "invalid_account": "the card or its account is not valid",
    "invalid_amount": "the bank does not allow the amount",
    "invalid_cvc": "the security code is wrong",
    "invalid_expiry_month": "the card's expiry month is wrong",
    "invalid_expiry_year": "the card's expiry year is wrong",
    "invalid_mandate": "the mandate for the debit is not valid",
    "invalid_number": "the card number is wrong",
    "invalid_pin": "the PIN is wrong",
    "issuer_not_available": "the bank could not be reached",
    "lost_card": "the card was reported lost (do not tell the customer why)",
    "merchant_blacklist": "the payment is on our own block list",
    "mobile_device_authentication_required": "the customer has to confirm the payment on the phone",
    "network_timeout": "the bank could not be reached",
    "new_account_information_available": f"the card is not valid any more; {_BANK}",
    "no_account": "there is no such bank account",
    "no_action_taken": f"the bank declined; {_BANK}",
    "not_permitted": f"the bank does not permit the payment; {_BANK}",
    "offline_pin_required": "the card asks for its PIN",
    "online_or_offline_pin_required": "the card asks for its PIN",
    "partner_high_risk": "Stripe's partner took the payment for too risky",
    "payment_intent_authentication_failure": "the customer did not confirm the payment",
    "payment_intent_payment_attempt_failed": "the payment did not go through",
    "pickup_card": "the card was reported lost or stolen (do not tell the customer why)",
    "pin_try_exceeded": "the PIN was wrong too often",
    "previously_declined_do_not_retry": "Stripe blocked it, because the bank has refused the card for good",
    "processing_error": "the bank could not process it",
    "reenter_transaction": "the bank could not process it for a reason that it did not give",
    "refer_to_customer": "the customer stopped the debit at the bank",
    "requested_block_on_incorrect_cvc": "our rules blocked it, because the security code is wrong",
    "restricted_card": "the card cannot be used for this payment",
    "revocation_of_all_authorizations": "the customer stopped all recurring payments at the bank",
    "revocation_of_authorization": "the customer stopped this recurring payment at the bank",
    "rule": "one of our own rules blocked it",
    "security_violation": f"the bank declined; {_BANK}",
    "service_not_allowed": f"the bank declined; {_BANK}",
    "stolen_card": "the card was reported stolen (do not tell the customer why)",
    "stop_payment_order": "the customer stopped the payment at the bank",
    "testmode_decline": "a test card was used",
    "transaction_not_allowed": f"the bank does not allow the payment; {_BANK}",
    "try_again_later": _DECLINED,
    "withdrawal_count_limit_exceeded": "the card's limit is exceeded",
}
HARD = frozenset({
    "authentication_required",
    "do_not_try_again",
    "highest_risk_level",
    "incorrect_number",
    "lost_card",
    "pickup_card",
    "previously_declined_do_not_retry",
    "revocation_of_all_authorizations",
    "revocation_of_authorization",
    "stolen_card",
    "transaction_not_allowed",
})  # fmt: skip
"""Declines after which Stripe goes on scheduling retries but makes none until there is a new payment method
(docs.stripe.com/billing/revenue-recovery/smart-retries)."""


def in_plain_words(code: str | None) -> str:
    """A code that this version does not know is shown as it is."""
    return IN_PLAIN_WORDS.get(code or "", code or "no reason was given")


def is_hard(code: str | None, advice: str | None) -> bool:
    """Only a new payment method, or the customer's own confirmation, can help."""
    return code in HARD or advice == "do_not_try_again"
