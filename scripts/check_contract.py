"""Hold recorded Stripe traffic against Stripe's own contract.

    check_contract.py [--contract FOLDER] RECORDING...

A recording is a file written by `sync-pipeline sandbox --traffic FILE` (with its FILE.webhooks.jsonl beside it), or a
folder of them. The contract folder holds the published OpenAPI document and the checker that reads it; it is not part
of this repository, so where it is absent nothing is checked, the fact is printed and the exit code is 0.

Exit code 1 is a violation outside the allow-list, 2 recordings without any Stripe traffic or a checker that
did not run.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

DEFAULT_CONTRACT = Path(__file__).resolve().parents[2] / "shared" / "contract"
WEBHOOKS = ".webhooks.jsonl"
SALESFORCE = ".salesforce.jsonl"
SANDBOX_UNSUPPORTED = 501

# A property of invoices that Stripe's document requires and its own library does not know.
STRIPE_DISAGREES_WITH_ITSELF = re.compile(r".*\.amount_paid_off_stripe")
# The document still has the anchor of an update as a string; the library has the hash of this version.
OLD_ANCHOR = "want string, got hash"
# The tests send bad requests on purpose; what the server refused is held only to the shape of the refusal.
REFUSED = re.compile(r" \(server said \d+\)")


def allowed(violation: dict[str, Any]) -> bool:
    """Whether the contract itself is at fault, or the server already said so."""
    if violation["side"] == "request":
        old = violation["at"] == "billing_cycle_anchor" and violation["note"] == OLD_ANCHOR
        return old or REFUSED.search(violation["op"]) is not None
    return violation["code"] == "missing-prop" and STRIPE_DISAGREES_WITH_ITSELF.fullmatch(violation["at"]) is not None


def recordings(paths: Iterable[Path]) -> Iterator[Path]:
    """Every recorded file that speaks of Stripe: exchanges and webhooks, not Salesforce's half."""
    for path in paths:
        found = sorted(path.iterdir()) if path.is_dir() else [path, Path(f"{path}{WEBHOOKS}")]
        yield from (file for file in found if file.is_file() and not file.name.endswith(SALESFORCE))


def merge(files: Iterable[Path], exchanges: Path, webhooks: Path) -> Counter[str]:
    """Write the lines of `files` into two files, and count them.

    Left out are the half line that a killed process leaves, and 501: there the sandbox says that it speaks for nobody.
    """
    counts: Counter[str] = Counter()
    with exchanges.open("w", encoding="utf-8") as to_exchanges, webhooks.open("w", encoding="utf-8") as to_webhooks:
        for file in files:
            lines = file.read_text(encoding="utf-8").split("\n")
            whole = [line for line in lines[:-1] if json.loads(line).get("status") != SANDBOX_UNSUPPORTED]
            if file.name.endswith(WEBHOOKS):
                kind, out = "webhooks", to_webhooks
            else:
                kind, out = "exchanges", to_exchanges
            out.writelines(f"{line}\n" for line in whole)
            counts[kind] += len(whole)
    return counts


def violations(contract: Path, exchanges: Path, webhooks: Path, work: Path) -> list[dict[str, Any]]:
    """Run the contract's own checker and return what it found."""
    (packed,) = contract.glob("stripe-*.openapi.json.gz")
    spec, report = work / "spec.json", work / "report.json"
    with gzip.open(packed) as source, spec.open("wb") as target:
        shutil.copyfileobj(source, target)
    checker = [sys.executable, str(contract / "stripe_contract_check.py"), "--spec", str(spec), str(exchanges)]
    done = subprocess.run(
        [*checker, "--webhooks", str(webhooks), "--json", str(report)], capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1) or not report.exists():
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        sys.exit(2)
    found: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))
    return found


def main() -> int:
    """Check the recordings named on the command line; see the module's docstring for the exit codes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "recordings", nargs="+", type=Path, metavar="RECORDING", help="a traffic file, or a folder of them"
    )
    parser.add_argument(
        "--contract", type=Path, default=DEFAULT_CONTRACT, help="the folder with Stripe's OpenAPI document"
    )
    options = parser.parse_args()
    if not options.contract.is_dir():
        print(f"Stripe's contract is not at {options.contract}: nothing checked")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        exchanges, webhooks = work / "exchanges.jsonl", work / "webhooks.jsonl"
        counts = merge(recordings(options.recordings), exchanges, webhooks)
        if not counts["exchanges"]:
            print("error: no Stripe exchange in these recordings; were they made with --traffic?", file=sys.stderr)
            return 2
        found = violations(options.contract, exchanges, webhooks, work)
    forbidden = [violation for violation in found if not allowed(violation)]
    kinds = Counter((v["side"], v["op"], re.sub(r"\[\d+\]", "[]", v["at"]), v["code"], v["note"]) for v in forbidden)
    for (side, operation, at, code, note), times in kinds.most_common():
        print(f"{times:5d}  {side:8s} {operation}  {at}  {code} {note}")
    print(
        f"{counts['exchanges']} exchanges and {counts['webhooks']} webhooks against {options.contract.name}:"
        f" {len(forbidden)} violations of {len(kinds)} kinds, {len(found) - len(forbidden)} allowed"
    )
    return 1 if forbidden else 0


if __name__ == "__main__":
    sys.exit(main())
