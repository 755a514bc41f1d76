"""What the sync knows, as pure functions: the world, canonical forms, money, the seven kinds, the planner.

Nothing here does I/O, reads a clock or imports a library that does. The same input gives the same bytes.
"""
