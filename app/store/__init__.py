"""Every SQL statement, one function each, and the moves of a row guarded inside the statement: no row back, someone was first.

`history` reads through SQLModel; all others are SQL text on asyncpg, for whole batches.
"""
