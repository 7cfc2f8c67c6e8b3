"""The schema, version by version. Alembic reads the files; nothing imports them."""
