"""Keeps Salesforce (the pipeline of record) and Stripe (the billing platform) telling the same story."""
