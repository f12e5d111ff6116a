"""The environment that Alembic runs migrations in, on the connection that `npas_bench.database.opening` gives it."""

from __future__ import annotations

from alembic import context

from npas_bench.database.schema import VERSION_TABLE, Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    # SQLite can alter a table only by copying it.
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
