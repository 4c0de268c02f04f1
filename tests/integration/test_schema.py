"""The schema may be applied at any time, by anyone, and the check sees what is missing."""

import asyncio

import asyncpg
import pytest

from app import schema
from tests.conftest import Servers


async def test_the_schema_and_the_models_agree(database_url: str) -> None:
    assert await differences(database_url) == []


async def test_apply_twice_changes_nothing(database_url: str) -> None:
    await schema.apply(database_url)
    assert await differences(database_url) == []


async def test_apply_creates_a_missing_database_also_when_several_do_at_once(servers: Servers) -> None:
    url = servers.postgres_url + "made at once"
    await asyncio.gather(*(schema.apply(url) for _ in range(5)))
    assert await differences(url) == []


async def test_apply_takes_the_url_of_sqlalchemy(database_url: str) -> None:
    await schema.apply(database_url.replace("://", "+asyncpg://"))


async def test_check_names_what_is_missing_or_different(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("""
        drop table preference;
        alter table notification drop column error;
        alter table attempt alter column consumer drop not null, alter column receipt type varchar(20);
    """)
    await connection.close()
    assert await differences(database_url) == [
        "column attempt.consumer is nullable and should be not null",
        "column attempt.receipt is character varying(20) and should be text",
        "column notification.error is missing",
        "table preference is missing",
    ]


async def test_apply_mends_what_it_can(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("drop table preference; drop index event_parked")
    await connection.close()
    await schema.apply(database_url)
    assert await differences(database_url) == []


async def test_rows_from_before_the_leading_ones_lead_themselves(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("""
        alter table notification drop column leads, alter column id set increment by 1;
        insert into notification (event_pk, channel, user_id) values (1, 'EMAIL', 'ann'), (1, 'SMS', 'ann');
    """)
    await schema.apply(database_url)
    await schema.apply(database_url)
    await connection.execute(
        "insert into notification (event_pk, channel, user_id) values (2, 'EMAIL', 'ann'), (2, 'SMS', 'ann')"
    )
    assert [tuple(r) for r in await connection.fetch("select id, leads from notification order by id")] == [
        (1, True), (2, True), (10, True), (18, True)
    ]  # fmt: skip
    await connection.close()


async def test_events_from_before_they_were_claimed_are_claimed_by_nobody(database_url: str) -> None:
    """And the room for a claim is left in the pages that are filled from then on."""
    connection = await asyncpg.connect(database_url)
    room = "select reloptions from pg_class where oid = 'event'::regclass"
    of_today = await connection.fetchval(room)
    await connection.execute("""
        alter table event drop column claimed_by, drop column claimed_at, drop column lease_until, drop column first_id;
        alter table event reset (fillfactor);
        insert into event (event_id, type, user_id, payload, occurred_at, body_hash) values ('e', 'T', 'u', '{}', now(), '');
    """)
    assert await differences(database_url) == [
        f"column event.{name} is missing" for name in ("claimed_at", "claimed_by", "first_id", "lease_until")
    ]
    await asyncio.gather(*(schema.apply(database_url) for _ in range(3)))
    await schema.apply(database_url)
    assert await differences(database_url) == []
    assert await connection.fetchval(room) == of_today
    (row,) = await connection.fetch("select status, claimed_by, claimed_at, lease_until, first_id from event")
    assert tuple(row) == ("NEW", None, None, None, None)
    await connection.close()


async def test_apply_takes_away_the_indexes_that_others_took_the_place_of(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("""
        drop index notification_not_sent, event_not_routed;
        create index notification_final on notification (final_status, id) where final_status is not null;
        create index event_final on event (final_status, id) where final_status is not null;
    """)
    await schema.apply(database_url)
    found = {r["indexname"] for r in await connection.fetch("select indexname from pg_indexes where schemaname = 'public'")}
    await connection.close()
    assert {"notification_not_sent", "event_not_routed"} < found
    assert not {"notification_final", "event_final"} & found


async def test_a_statement_that_fails_is_one_line_with_its_place(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "schema_text", lambda: "create table fine (id int);\ncreate table broken (id nonsense);\n")
    with pytest.raises(schema.SchemaError, match=r'^schema\.sql line 2: type "nonsense" does not exist$'):
        await schema.apply(database_url)
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("select to_regclass('fine')") is None, "half of it was applied"
    await connection.close()


async def test_no_server_is_one_line_that_names_the_setting() -> None:
    with pytest.raises(schema.SchemaError, match=r"^PostgreSQL \(setting DATABASE_URL\) cannot be used: .*refused"):
        await schema.apply("postgresql://postgres@127.0.0.1:1/tidings")


async def differences(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        return sorted(await schema.check(connection))
    finally:
        await connection.close()
