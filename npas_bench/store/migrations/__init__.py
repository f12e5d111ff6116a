"""Alembic migrations of the results store, from its first schema on."""
