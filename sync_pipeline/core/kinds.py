"""The kinds of field rules: what a difference between source and target means.

Each kind is a pure decision over canonical values. `base` is the value on which both sides last agreed; it
is what tells a human's edit of the target from a change of the source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

Decision = Literal["agree", "write", "keep", "foreign"]

LATCH_ORDER = {None: 0, "Pending": 1, "Activated": 2}


def mirror(source: Any, target: Any, base: Any | None) -> Decision:
    """The target follows the source. Where only the target moved since they agreed, somebody edited it."""
    if source == target:
        return "agree"
    return "foreign" if base is not None and base == source else "write"


def latch(source: Any, target: Any, base: Any | None) -> Decision:
    """Goes forward only: a later stage is written, an earlier one never."""
    if source == target:
        return "agree"
    return "write" if LATCH_ORDER.get(source, 0) > LATCH_ORDER.get(target, 0) else "keep"


def earliest(source: Any, target: Any, base: Any | None) -> Decision:
    """Keeps the smallest value ever seen."""
    if source == target:
        return "agree"
    return "write" if source is not None and (target is None or source < target) else "keep"


MergeDecision = Literal["agree", "write_left", "write_right", "conflict"]


def merge3(left: Any, right: Any, base: Any | None) -> MergeDecision:
    """Which side a two-way field is written to. `write_left` means that the right side moved.

    Both moved, or nothing is known of a common past: a conflict, which the owner of the field wins.
    """
    if left == right:
        return "agree"
    if base is not None and left == base:
        return "write_left"
    if base is not None and right == base:
        return "write_right"
    return "conflict"


KINDS: Mapping[str, Callable[[Any, Any, Any | None], Decision]] = {
    "mirror": mirror,
    "fold": mirror,
    "latch": latch,
    "min": earliest,
}
