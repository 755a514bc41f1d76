"""Run by Alembic, on the connection and inside the transaction that migrations.upgrade has opened."""

from __future__ import annotations

from alembic import context

from sync_pipeline.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite changes a table by building it anew. A batch must repeat `table_kwargs={"sqlite_strict": True}`.
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
