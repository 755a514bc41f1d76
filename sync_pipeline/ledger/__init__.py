"""The ledger: the durable state of the sync engine, on SQLite or Postgres, through SQLAlchemy Core.

It stores and guards; it decides nothing. What to write to Salesforce or Stripe is the planner's
business (core), when to look again is the engine's. Every function takes an open Connection first, so
that the engine puts several of them into one transaction. No function here reads a clock: times come
in as integer microseconds since the epoch, UTC. Names that end in `_wall` are process time (leases,
heartbeats, deadlines); all others are business time, the clock of the systems that are kept in step.
"""
