"""The results database: SQLAlchemy schema, Alembic migrations, and the only code that reads or writes it."""
