"""How fast the sandbox answers over one keep-alive connection, and what a company of N accounts costs to make.

    python benchmarks/sandbox.py [--seconds 3] [--accounts 1000]

The sandbox is one process with one thread, so requests per second are per core. Bars: 800 reads/s, 400 writes/s;
for 10,000 accounts 90 s and 1.5 GB.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sync_pipeline_tests.sandbox_process import SandboxHandle, start_sandbox

DATA = "/services/data/v66.0"


class Connection:
    """One keep-alive connection to one of the systems, signed in."""

    def __init__(self, handle: SandboxHandle, side: str) -> None:
        token = handle.ready["stripe_key" if side == "stripe" else "access_token"]
        content = "application/x-www-form-urlencoded" if side == "stripe" else "application/json"
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": content}
        self._http = http.client.HTTPConnection(urlsplit(handle.ready[f"{side}_url"]).netloc, timeout=30)

    def call(self, method: str, path: str, body: str = "") -> dict[str, object]:
        self._http.request(method, path, body or None, self._headers)
        answer = self._http.getresponse()
        raw = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {raw.decode()[:300]}")
        found: dict[str, object] = json.loads(raw) if raw else {}
        return found


def per_second(call: Callable[[int], object], seconds: float) -> float:
    """Calls per second, after a short warm-up."""
    numbers = itertools.count()
    for _ in range(20):
        call(next(numbers))
    started = time.perf_counter()
    done = 0
    while time.perf_counter() - started < seconds:
        call(next(numbers))
        done += 1
    return done / (time.perf_counter() - started)


def measure_requests(seconds: float) -> None:
    with start_sandbox("--data", "story") as handle:
        stripe, salesforce = Connection(handle, "stripe"), Connection(handle, "salesforce")
        customer = stripe.call("POST", "/v1/customers", "name=Bench&email=bench%40example.com")["id"]
        account = salesforce.call("POST", f"{DATA}/sobjects/Account", json.dumps({"Name": "Bench"}))["id"]
        soql = quote("SELECT Id, Name, BillingCountry FROM Account WHERE Name = 'Bench' LIMIT 10")
        lines = quote(
            "SELECT Id, Quantity, UnitPrice, Product2.Name, Opportunity.Account.Name FROM OpportunityLineItem"
        )
        reads: dict[str, Callable[[int], object]] = {
            "Stripe GET /v1/customers/{id}": lambda n: stripe.call("GET", f"/v1/customers/{customer}"),
            "Stripe GET /v1/customers?limit=10": lambda n: stripe.call("GET", "/v1/customers?limit=10"),
            "Salesforce GET sobjects/Account/{id}": lambda n: salesforce.call(
                "GET", f"{DATA}/sobjects/Account/{account}"
            ),
            "Salesforce GET query by name": lambda n: salesforce.call("GET", f"{DATA}/query?q={soql}"),
            "Salesforce GET query of lines": lambda n: salesforce.call("GET", f"{DATA}/query?q={lines}"),
        }
        writes: dict[str, Callable[[int], object]] = {
            "Stripe POST /v1/customers": lambda n: stripe.call("POST", "/v1/customers", f"name=Customer+{n}"),
            "Stripe POST /v1/customers/{id}": lambda n: stripe.call(
                "POST", f"/v1/customers/{customer}", f"metadata[n]={n}"
            ),
            "Salesforce POST sobjects/Account": lambda n: salesforce.call(
                "POST", f"{DATA}/sobjects/Account", json.dumps({"Name": f"Account {n}"})
            ),
            "Salesforce PATCH sobjects/Account/{id}": lambda n: salesforce.call(
                "PATCH", f"{DATA}/sobjects/Account/{account}", json.dumps({"Phone": str(n)})
            ),
        }
        for kind, bar, calls in (("reads", 800, reads), ("writes", 400, writes)):
            for name, call in calls.items():
                sys.stdout.write(f"{name:45} {per_second(call, seconds):8.0f} {kind}/s  (bar {bar})\n")


def measure_company(accounts: int) -> None:
    started = time.perf_counter()
    with start_sandbox("--data", "company", "--accounts", str(accounts)) as handle:
        took = time.perf_counter() - started
        peak = _peak_megabytes(handle.process.pid)
        cpu = _cpu_seconds(handle.process.pid)
        sys.stdout.write(f"company with {accounts} accounts: {took:.1f} s, of it {cpu} s of one core; {peak} MB\n")


def _cpu_seconds(pid: int) -> str:
    """What the process has used so far: on a busy machine the wall time says less."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return "unknown"
    ticks = int(stat.read_text().rpartition(")")[2].split()[11])
    return f"{ticks / os.sysconf('SC_CLK_TCK'):.1f}"


def _peak_megabytes(pid: int) -> str:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return "unknown"
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return f"{int(line.split()[1]) / 1024:.0f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each kind of request is made")
    parser.add_argument("--accounts", type=int, default=1000, help="size of the company; 0 leaves it out")
    options = parser.parse_args()
    measure_requests(options.seconds)
    if options.accounts:
        measure_company(options.accounts)
