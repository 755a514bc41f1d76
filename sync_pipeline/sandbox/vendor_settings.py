"""How the Salesforce org and the Stripe account are set up, where not as by default: the file of `--settings`.

    {"salesforce": {"multi_currency": true}, "stripe": {"retry_days": [1, 3], "final_action": "unpaid"}}

Which settings there are, and what they mean, is said by the two settings classes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sync_pipeline.sandbox.options import SandboxError
from sync_pipeline.sandbox.salesforce.settings import SalesforceSettings
from sync_pipeline.sandbox.stripe.settings import StripeSettings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class VendorSettings:
    salesforce: SalesforceSettings
    stripe: StripeSettings


def read_settings(path: Path | None) -> VendorSettings:
    """What the file says, defaults where it is silent or absent. Raises SandboxError naming the setting."""
    if path is None:
        return VendorSettings(SalesforceSettings(), StripeSettings())
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SandboxError(f"--settings {path}: {error.strerror}. Name a JSON file that can be read.") from None
    except ValueError as error:
        raise SandboxError(f"--settings {path}: not JSON ({error}).") from None
    if not isinstance(said, dict) or said.keys() - {"salesforce", "stripe"}:
        raise SandboxError(f'--settings {path}: must be {{"salesforce": {{...}}, "stripe": {{...}}}}.')
    return VendorSettings(
        _read(path, "salesforce", SalesforceSettings(), said.get("salesforce", {})),
        _read(path, "stripe", StripeSettings(), said.get("stripe", {})),
    )


def amended(current: T, side: str, said: Any) -> T:
    """The settings with some of them changed. Raises ValueError naming the setting that is wrong."""
    known = [each.name for each in fields(current)]  # type: ignore[arg-type]
    for name in said if isinstance(said, dict) else ():
        if name not in known:
            raise ValueError(f"{side}.{name} is not a setting; there are {', '.join(known)}")
    try:
        fresh = msgspec.convert(said, type(current), dec_hook=lambda kind, value: kind(value))
    except msgspec.ValidationError as error:
        raise ValueError(f"{side}: {error}") from None
    return replace(current, **{name: getattr(fresh, name) for name in said})  # type: ignore[type-var]


def _read(path: Path, side: str, settings: T, said: Any) -> T:
    try:
        return amended(settings, side, said)
    except ValueError as error:
        raise SandboxError(f"--settings {path}: {error}.") from None
