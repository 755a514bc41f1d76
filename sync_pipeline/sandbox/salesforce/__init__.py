"""A local Salesforce: one schema, one query evaluator, one save order, and the objects' own behaviour on top.

Nothing here does I/O: `system.SalesforceSystem` answers calls that the HTTP shell hands to it.
"""
