"""The published tables are tested on SQLite and on a private Postgres."""

from __future__ import annotations

from sync_pipeline_tests.databases import database_kind, ledger, ledger_url, postgres_ledger_url, sqlite_ledger

__all__ = ["database_kind", "ledger", "ledger_url", "postgres_ledger_url", "sqlite_ledger"]
