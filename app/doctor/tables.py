"""Judges what differs between the live tables and schema.sql, and finds the command that mends it. Pure."""

import re
from collections.abc import Sequence

from app.doctor.finding import Finding, fail, ok

MISSING = re.compile(r"column (\w+)\.(\w+) is missing")
DIFFERENT = re.compile(r"column (\w+)\.(\w+) is .+ and should be (.+)")
NULLS = {"not null": "set not null", "nullable": "drop not null"}


def tables(differences: Sequence[str], schema_sql: str, url: str) -> Finding:
    """`differences` as app.schema.check tells them; `url` is the database, for a shell."""
    if not differences:
        return ok("tables", "as schema.sql says")
    statements = [statement for difference in differences if (statement := _statement(difference, schema_sql))]
    mend = f"psql {url} -c '{'; '.join(statements)}'" if statements else "tidings schema apply"
    return fail("tables", "; ".join(differences), mend)


def _statement(difference: str, schema_sql: str) -> str | None:
    """SQL for what `tidings schema apply` leaves as it is: columns that somebody dropped or changed. None: it does the rest."""
    if found := MISSING.fullmatch(difference):
        table, column = found.groups()
        if re.search(rf"add column if not exists {column}\b", schema_sql):
            return None
        return f"alter table {table} add column {column} {_definition(table, column, schema_sql)}"
    if found := DIFFERENT.fullmatch(difference):
        table, column, wanted = found.groups()
        return f"alter table {table} alter column {column} {NULLS.get(wanted, f'type {wanted}')}"
    return None


def _definition(table: str, column: str, schema_sql: str) -> str:
    """What follows the column's name in schema.sql, in quotes that may stand between single quotes in a shell."""
    body = re.search(rf"create table if not exists {table} \((.*?)\n\)", schema_sql, re.DOTALL)
    line = re.search(rf"^ +{column} +(.+?),?(?: *--.*)?$", body[1], re.MULTILINE) if body else None
    return (line[1] if line else "text").replace("'", "'\\''")
