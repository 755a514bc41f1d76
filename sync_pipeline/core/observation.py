"""What one look at a system can tell: a value is there, it is proved absent, or we do not know.

Only a present value or a proof may cause a create, a clear or a cancel; ignorance never does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Present(Generic[T]):
    value: T


@dataclass(frozen=True, slots=True)
class Absent:
    """`proof` says how it is known: a 404 by id, a deleted marker, or a complete strongly consistent list."""

    proof: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """`why` says what kept us from knowing: an error, a field that is hidden, a read that was not made."""

    why: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands in a list in the place of a record that has a shape which this version cannot read.

    `owner` is what such records are looked up by: an Account, a customer, a subscription; None where that cannot be
    told either. `why` names the record, never a value.
    """

    id: str
    owner: str | None
    why: str


Observation = Present[T] | Absent | Unknown
