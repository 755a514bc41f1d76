"""A local Salesforce and a local Stripe over real HTTP, with one virtual clock and faults on demand.

This room imports nothing from the rest of the product, and the rest imports nothing from it:
the pipeline meets it only over HTTP, as it meets the real systems.
"""
