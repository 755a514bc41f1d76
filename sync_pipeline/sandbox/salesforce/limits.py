"""The daily allowance of API requests, over a rolling 24 hours."""

from __future__ import annotations

from sync_pipeline.sandbox.clock import Clock
from sync_pipeline.sandbox.salesforce.errors import SalesforceError
from sync_pipeline.sandbox.store import Store

_TABLE = "_usage"
_HOURS = 24


class Limits:
    """Counts requests by hour."""

    def __init__(self, store: Store, clock: Clock, allowed: int) -> None:
        self._store = store
        self._clock = clock
        self.allowed = allowed

    def used(self) -> int:
        oldest = self._hour() - _HOURS + 1
        return sum(row["n"] for row in self._store.table(_TABLE).values() if row["hour"] >= oldest)

    def use_one(self) -> None:
        """Counts one request. Raises SalesforceError when none is left."""
        if self.used() >= self.allowed:
            raise SalesforceError("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", status=403)
        self.use(1)

    def use(self, requests: int) -> None:
        """Counts requests of anybody's programs."""
        hour = self._hour()
        for key, row in list(self._store.table(_TABLE).items()):
            if row["hour"] <= hour - _HOURS:
                self._store.delete(_TABLE, key)
        now = self._store.get(_TABLE, str(hour)) or {"hour": hour, "n": 0}
        self._store.put(_TABLE, str(hour), {"hour": hour, "n": now["n"] + requests})

    def header(self) -> str:
        return f"api-usage={self.used()}/{self.allowed}"

    def report(self) -> dict[str, dict[str, int]]:
        """The body of GET limits."""
        full = {
            "DailyBulkApiBatches": 15000,
            "DailyBulkV2QueryJobs": 10000,
            "DailyBulkV2QueryFileStorageMB": 976562,
            "DailyDeliveredPlatformEvents": 10000,
            "DailyStreamingApiEvents": 10000,
            "DailyWorkflowEmails": 75,
            "DataStorageMB": 5120,
            "FileStorageMB": 1024,
            "HourlyAsyncReportRuns": 1200,
            "SingleEmail": 5000,
        }
        requests = {"Max": self.allowed, "Remaining": self.allowed - self.used()}
        return {"DailyApiRequests": requests} | {n: {"Max": m, "Remaining": m} for n, m in full.items()}

    def _hour(self) -> int:
        return self._clock.now() // 3600
