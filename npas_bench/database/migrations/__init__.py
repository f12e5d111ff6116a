"""Alembic migrations of the results database, from its first schema on."""
