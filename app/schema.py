"""The tables: puts schema.sql into a database, and tells how a live one differs from the models."""

import importlib.resources
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import asyncpg

LOCK = 7_416_201  # of pg_advisory_xact_lock: one application of the schema at a time
LOCK_TIMEOUT = "15s"  # a long transaction on a table must not make all its writers queue behind us for longer

LIVE_COLUMNS = """
select c.relname as table, a.attname as column, format_type(a.atttypid, a.atttypmod) as type, a.attnotnull as required
from pg_class c join pg_attribute a on a.attrelid = c.oid
where c.oid = any (select to_regclass(quote_ident(name)) from unnest($1::text[]) as name) and a.attnum > 0 and not a.attisdropped
"""


class SchemaError(Exception):
    """The schema cannot be applied. The message is one line."""


class Fetches(Protocol):
    """An asyncpg connection or pool."""

    async def fetch(self, query: str, *args: Any) -> list[Any]: ...


def schema_text() -> str:
    """schema.sql: beside this file in a wheel, at the top in a checkout."""
    packaged = importlib.resources.files("app") / "schema.sql"
    if packaged.is_file():
        return packaged.read_text()
    return (Path(__file__).resolve().parent.parent / "schema.sql").read_text()


async def apply(database_url: str) -> None:
    """Bring the tables to schema.sql; create the database where it is missing. May run at any time, repeatedly and at once.

    All or nothing: one transaction. Raises SchemaError.
    """
    connection = await _connect_or_create(_plain(database_url))
    try:
        await _run(connection, schema_text())
    except (OSError, asyncpg.InterfaceError) as error:
        raise SchemaError(f"PostgreSQL (setting DATABASE_URL) went away: {_first_line(error)}") from None
    finally:
        await connection.close()


async def check(connection: Fetches) -> list[str]:
    """What the models of app/models.py want and the live tables lack, one sentence each; empty where they agree."""
    wanted = model_columns()
    rows = await connection.fetch(LIVE_COLUMNS, list(wanted))
    live: dict[str, dict[str, tuple[str, bool]]] = {}
    for row in rows:
        live.setdefault(row["table"], {})[row["column"]] = (row["type"], row["required"])
    return differences(wanted, live)


async def check_url(database_url: str) -> list[str]:
    """`check` on a connection of its own. Raises SchemaError where there is no database to ask."""
    try:
        connection = await _connect(_plain(database_url))
    except asyncpg.InvalidCatalogNameError as error:
        raise SchemaError(f"{_first_line(error)}: `tidings schema apply` creates it") from None
    try:
        return await check(connection)
    finally:
        await connection.close()


def model_columns() -> dict[str, dict[str, tuple[str, bool]]]:
    """Per table and column of the models: PostgreSQL's name of the type, and whether it is `not null`."""
    from sqlalchemy.dialects.postgresql.asyncpg import dialect

    from app.models import Event

    postgres = dialect()  # type: ignore[no-untyped-call]
    return {
        table.name: {c.name: (c.type.compile(postgres).lower(), not c.nullable) for c in table.columns}
        for table in Event.metadata.sorted_tables
    }


def differences(wanted: dict[str, dict[str, tuple[str, bool]]], live: dict[str, dict[str, tuple[str, bool]]]) -> list[str]:
    """Pure: one sentence per table or column of `wanted` that is not so in `live`."""
    found = []
    for table, columns in wanted.items():
        if table not in live:
            found.append(f"table {table} is missing")
            continue
        for name, (kind, required) in columns.items():
            found += _column_differences(f"column {table}.{name}", kind, required, live[table].get(name))
    return found


def _column_differences(what: str, kind: str, required: bool, live: tuple[str, bool] | None) -> list[str]:
    if live is None:
        return [f"{what} is missing"]
    words = {True: "not null", False: "nullable"}
    found = [f"{what} is {live[0]} and should be {kind}"] if live[0] != kind else []
    return found + ([f"{what} is {words[live[1]]} and should be {words[required]}"] if live[1] != required else [])


async def _run(connection: "asyncpg.Connection[asyncpg.Record]", text: str) -> None:
    try:
        async with connection.transaction():
            await connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
            await connection.execute("select pg_advisory_xact_lock($1)", LOCK)
            await connection.execute(text)
    except asyncpg.PostgresError as error:
        position = int(getattr(error, "position", None) or 0)
        where = f" line {text.count(chr(10), 0, position) + 1}" if position else ""
        raise SchemaError(f"schema.sql{where}: {_first_line(error)}") from None


async def _connect_or_create(url: str) -> "asyncpg.Connection[asyncpg.Record]":
    try:
        return await _connect(url)
    except asyncpg.InvalidCatalogNameError:
        await _create_database(url)
        return await _connect(url)


async def _connect(url: str, **options: Any) -> "asyncpg.Connection[asyncpg.Record]":
    try:
        return await asyncpg.connect(url, timeout=10, **options)
    except asyncpg.InvalidCatalogNameError:
        raise
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, TimeoutError) as error:
        raise SchemaError(f"PostgreSQL (setting DATABASE_URL) cannot be used: {_first_line(error)}") from None


async def _create_database(url: str) -> None:
    name = unquote(urlsplit(url).path.lstrip("/"))
    if not name:
        raise SchemaError("setting DATABASE_URL: names no database")
    connection = await _connect(url, database="postgres")
    try:
        await connection.execute('create database "{}"'.format(name.replace('"', '""')))
    except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
        pass  # another process was faster
    except asyncpg.PostgresError as error:
        raise SchemaError(f"database {name} does not exist and cannot be created: {_first_line(error)}") from None
    finally:
        await connection.close()


def _plain(url: str) -> str:
    return url.replace("+asyncpg://", "://", 1)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
