"""The SQL engine, its migrations and its one writer; knows no domain."""
