"""A simulated Stripe at API version 2026-10-28.endive: a small machine driven by Stripe's own contract.

Data says what exists (`contract.json.gz`: operations, parameters, shapes, expansions); one generic mechanism each
validates, lists, expands, searches, replays and announces; hand-written modules hold only behaviour.
"""
