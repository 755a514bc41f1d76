"""How fast the sandbox answers over one keep-alive connection, and what a company of N accounts costs to make.

    python benchmarks/sandbox.py [--seconds 3] [--accounts 10000]

The sandbox is one process with one thread. Bars, of one core: 800 reads/s, 400 writes/s, and for 10,000 accounts 90 s
and 1.5 GB. What the process has used of its core is what is held to them, because other programs on the machine change
it least; the wall clock is told beside it. Exit code 1 when a bar is missed.
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
BARS = {"reads": 800, "writes": 400}
BAR_ACCOUNTS, BAR_SECONDS, BAR_MEGABYTES = 10_000, 90, 1536


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


def per_second(call: Callable[[int], object], seconds: float, pid: int) -> tuple[float, float]:
    """Calls in a second of the wall clock, and in a second of the core of that process, after a short warm-up."""
    numbers = itertools.count()
    for _ in range(20):
        call(next(numbers))
    started, used = time.perf_counter(), _cpu_seconds(pid)
    done = 0
    while time.perf_counter() - started < seconds:
        call(next(numbers))
        done += 1
    return done / (time.perf_counter() - started), done / max(_cpu_seconds(pid) - used, 0.01)


def measure_requests(seconds: float) -> bool:
    """Whether every kind of request holds its bar."""
    good = True
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
        for kind, calls in (("reads", reads), ("writes", writes)):
            for name, call in calls.items():
                wall, core = per_second(call, seconds, handle.process.pid)
                good &= core >= BARS[kind]
                sys.stdout.write(
                    f"{name:40} {core:6.0f} {kind}/s of a core (bar {BARS[kind]}), {wall:5.0f} by the clock\n"
                )
    return good


def measure_company(accounts: int) -> bool:
    """Whether a company of that size holds the bars, which grow with a larger one."""
    started = time.perf_counter()
    with start_sandbox("--data", "company", "--accounts", str(accounts)) as handle:
        took = time.perf_counter() - started
        peak = _peak_megabytes(handle.process.pid)
        cpu = _cpu_seconds(handle.process.pid)
    size = max(accounts / BAR_ACCOUNTS, 1)
    sys.stdout.write(
        f"company with {accounts:,} accounts: {took:.1f} s by the clock, {cpu:.1f} s of a core (bar"
        f" {BAR_SECONDS * size:.0f}); {peak:.0f} MB (bar {BAR_MEGABYTES * size:.0f})\n"
    )
    return cpu <= BAR_SECONDS * size and peak <= BAR_MEGABYTES * size


def _cpu_seconds(pid: int) -> float:
    """What the process has used of its core so far, itself and in the kernel."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _peak_megabytes(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each kind of request is made")
    parser.add_argument("--accounts", type=int, default=BAR_ACCOUNTS, help="size of the company; 0 leaves it out")
    options = parser.parse_args()
    held = measure_requests(options.seconds)
    held &= not options.accounts or measure_company(options.accounts)
    sys.stdout.write(f"bars {'held' if held else 'MISSED'}\n")
    sys.exit(0 if held else 1)
