"""Does it add up? Each thing is broken for real, and the sentence that says so is looked for; under load nothing is found."""

import asyncio
import shlex
import time
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import pytest

from app import streams
from app.accept import Acceptor
from app.consistency import Facts, check, compare, judge
from app.consistency.carried import groups
from app.consistency.confirm import confirm
from app.consistency.look import Patience
from app.doctor.finding import Finding, Level
from app.domain import Channel, Outgoing
from app.pauses import Pause, tell_pause
from app.resources import Resources, open_engine
from app.settings import Settings
from app.store import consistency as store
from app.store.history import user_notifications
from app.store.hold import hold
from app.streams import EVENTS, GROUP, WORK_STREAMS, breaker_key, channel_stream
from consumers.channel_limit import ChannelLimit
from tests import support
from tests.integration.consuming import consuming

MAIL, SMS = channel_stream(Channel.EMAIL), channel_stream(Channel.SMS)
LONG_AGO = "interval '10 minutes'"
Make = Callable[..., Settings]
Wait = Callable[..., Awaitable[Any]]


async def facts_of(resources: Resources, limit_s: float = 10) -> Facts:
    return await check(resources.settings, resources.redis, limit_s)


async def found(resources: Resources) -> list[Finding]:
    return judge(resources.settings, await facts_of(resources))


async def troubles(resources: Resources) -> list[str]:
    """The lines of what does not add up."""
    return [f.line() for f in await found(resources) if f.level is not Level.OK]


async def trouble(resources: Resources) -> str:
    [line] = await troubles(resources)
    return line


async def publish_mail(resources: Resources, ids: list[int]) -> list[bytes]:
    """An entry for each row, as its router adds it; the ids of the entries on the stream."""
    rows = await resources.pool.fetch("select id, published_at from notification where id = any($1) order by id", ids)
    await streams.publish(resources.redis, MAIL, [Outgoing(r["id"], "evt", "user", "TYPE", r["published_at"]) for r in rows])
    found: Any = await resources.redis.xrange(MAIL)
    return [entry for entry, _ in found]


async def carried_mails(resources: Resources, number: int, age: str = "interval '0'") -> tuple[list[int], list[bytes]]:
    """Mails that are owed, published so long ago, and on their stream; the ids of rows and entries."""
    ids = await support.add_notifications(resources, number)
    await support.change(resources, "notification", ids, f"published_at = now() - {age}, due_at = now() - {age}")
    await streams.create_group(resources.redis, MAIL)
    return ids, await publish_mail(resources, ids)


async def read_mails(resources: Resources, number: int, consumer: str = "gone") -> None:
    await streams.read(resources.redis, MAIL, consumer, number, None)


async def test_an_empty_house_adds_up(resources: Resources) -> None:
    lines = {f.what: f.line() for f in await found(resources)}
    assert list(lines) == ["check events", "check email", "check sms", "check push", "check history", "check keys"]
    assert lines["check email"] == "ok    check email  — 0 owed, 0 entries carried"


async def test_after_work_it_adds_up_and_nobody_had_to_look_twice(resources: Resources, wait_until: Wait) -> None:
    async with consuming(resources), Acceptor(resources).running() as acceptor:
        await asyncio.gather(*(acceptor.accept(support.event(user_id=f"user_{n}")) for n in range(50)))
        await wait_until(lambda: sent(resources, 150))
    assert await troubles(resources) == []


async def sent(resources: Resources, number: int) -> bool:
    return bool(await resources.pool.fetchval("select count(*) = $1 from notification where status = 'SENT'", number))


async def test_under_load_nothing_is_found(make_settings: Make, resources: Resources) -> None:
    """Twenty checks and more while 100 events come in, and deliveries fail, are retried, and run into the rate limit."""
    settings = make_settings(simulated_email_failure_rate=0.3, simulated_push_latency_ms=50, email_waits_s="0,0.2,0.5,3")
    loaded = Resources(settings, resources.pool, resources.hot, resources.redis, resources.reader)
    stopping, posted, lines = asyncio.Event(), 0, list[str]()

    async def load() -> None:
        nonlocal posted
        async with Acceptor(loaded).running() as acceptor:
            while not stopping.is_set():
                await asyncio.gather(*(acceptor.accept(support.event(user_id=f"user_{posted % 300}_{n}")) for n in range(10)))
                posted += 10
                await asyncio.sleep(0.05)

    async with consuming(loaded):
        loading = asyncio.ensure_future(load())
        for checks in count(1):
            lines += await troubles(loaded)
            if checks >= 20 and posted >= 100:
                break
        stopping.set()
        await loading
    assert lines == []


async def test_a_stream_that_was_deleted_is_owed_and_no_relay_runs(resources: Resources) -> None:
    await carried_mails(resources, 3, LONG_AGO)
    await resources.redis.delete(MAIL)
    line = await trouble(resources)
    assert line.startswith("FAIL  check email  — 3 notifications are owed and on no stream (such as ")
    assert line.endswith("does no relay run?; mend: tidings consumers --channels EMAIL")


async def test_right_after_a_flush_the_relay_still_has_time(resources: Resources) -> None:
    await carried_mails(resources, 3, "interval '1.5 s'")
    await resources.redis.delete(MAIL)
    line = await trouble(resources)
    assert line.startswith("warn")
    assert "the relay publishes again" in line


async def test_after_a_flush_with_a_relay_at_work_all_is_well_again(resources: Resources) -> None:
    await carried_mails(resources, 3, LONG_AGO)
    await resources.redis.flushall()
    async with consuming(resources):
        assert await troubles(resources) == []


MEANWHILE = {
    "published again": "published_at = now()",
    "ended": "status = 'CANCELLED', reason = 'cancelled'",
    "parked": "published_at = null",
    "claimed": "status = 'PROCESSING', claimed_by = 'me', claimed_at = now(), lease_until = now() + interval '1 s'",
    "put off": "due_at = now() + interval '1 s'",
}


@pytest.mark.parametrize("moved", MEANWHILE)
async def test_a_row_that_moved_between_the_two_looks_is_no_trouble(moved: str, resources: Resources) -> None:
    ids, _ = await carried_mails(resources, 1, LONG_AGO)
    await resources.redis.delete(MAIL)
    patience, redis = Patience.of(resources.settings), resources.redis
    async with resources.pool.acquire() as pooled:
        connection: Any = pooled
        now, at = await store.clock(connection), await groups(redis)
        look = await compare.first_look(connection, redis, MAIL, now, at[MAIL], patience, time.monotonic() + 5)
        assert (await confirm(connection, redis, look, at[MAIL], patience)).lost.ids == (str(ids[0]),)
        await support.change(resources, "notification", ids, MEANWHILE[moved])
        assert not (await confirm(connection, redis, look, at[MAIL], patience)).lost


async def test_one_entry_cut_out_of_the_middle_comes_after_the_older_ones(resources: Resources) -> None:
    ids, entries = await carried_mails(resources, 3, "interval '1.5 s'")
    await resources.redis.xdel(MAIL, entries[1])
    line = await trouble(resources)
    assert f"1 notification is owed and on no stream (such as {ids[1]})" in line
    assert "what is due, once the older entries are done" in line


async def test_entries_that_were_trimmed_while_pending(resources: Resources) -> None:
    await carried_mails(resources, 3)
    await read_mails(resources, 3)
    await resources.redis.xtrim(MAIL, maxlen=0, approximate=False)
    line = await trouble(resources)
    assert line.startswith("warn  check email  — 3 pending entries have lost the content")


async def test_an_entry_by_hand_whose_row_nobody_knows(resources: Resources) -> None:
    await resources.redis.xadd(EVENTS, {"event": 4711})
    await resources.redis.xadd(EVENTS, {"hello": "world"})
    lines = await troubles(resources)
    assert "2 entries have no row" in lines[0]
    assert "tidings redis XRANGE 'tidings:{0}:events'" in lines[0]


async def test_an_entry_by_hand_of_a_final_row_is_harmless(resources: Resources) -> None:
    ids, _ = await carried_mails(resources, 2)
    await support.change(resources, "notification", ids[0], "status = 'CANCELLED', reason = 'cancelled'")
    await support.change(resources, "notification", ids[1], "published_at = null, due_at = now() + interval '1 hour'")
    assert await troubles(resources) == []
    assert any("final (1) or parked (1): harmless" in f.says for f in await found(resources))


async def test_a_row_with_two_entries_is_harmless(resources: Resources) -> None:
    ids, _ = await carried_mails(resources, 2)
    await publish_mail(resources, ids[:1])
    assert await troubles(resources) == []
    assert any("1 entry belongs to a row that has another one: harmless" in f.says for f in await found(resources))


async def test_entries_that_their_group_forgot(resources: Resources) -> None:
    await carried_mails(resources, 2)
    await read_mails(resources, 2)
    await resources.redis.xgroup_delconsumer(MAIL, GROUP, "gone")
    line = await trouble(resources)
    assert "2 entries are neither pending nor unread (XGROUP DELCONSUMER?)" in line


async def test_a_lease_that_is_over_and_no_consumer(resources: Resources) -> None:
    ids, _ = await carried_mails(resources, 1)
    await read_mails(resources, 1)
    claimed = "status = 'PROCESSING', attempt = 1, tries = 1, claimed_by = 'gone', claimed_at = now()"
    await support.change(resources, "notification", ids, f"{claimed}, lease_until = now() - {LONG_AGO}")
    line = await trouble(resources)
    assert line.startswith("FAIL  check email  — 1 notification is in mid-send with a consumer that is gone")
    assert "the lease is over for up to 60" in line
    assert line.endswith("mend: tidings consumers --channels EMAIL")


async def sent_at_once(resources: Resources, lease: str) -> int:
    """An event that was published long ago and is claimed; its lease is over at now() and so much."""
    [event_pk] = await support.add_events(resources, support.event())
    await support.change(resources, "event", event_pk, f"published_at = now() - {LONG_AGO}, due_at = now() - {LONG_AGO}")
    claimed = "claimed_by = 'gone', claimed_at = now(), updated_at = now(), first_id = 8"
    decided = """decisions = '{"EMAIL": {"use": true, "reason": "default"}}'"""
    await support.change(resources, "event", event_pk, f"{claimed}, {decided}, lease_until = now() + interval '{lease}'")
    return event_pk


async def test_an_event_that_is_sent_at_once_is_no_trouble_though_its_entry_was_lost(resources: Resources) -> None:
    await sent_at_once(resources, "1 min")
    assert await troubles(resources) == []
    assert any("1 owed (1 published, 0 parked; 1 in mid-send)" in f.says for f in await found(resources))


async def test_once_its_lease_is_over_the_relay_publishes_it_again(resources: Resources) -> None:
    event_pk = await sent_at_once(resources, "-0.5 s")
    line = await trouble(resources)
    assert line.startswith(f"warn  check events  — 1 event is owed and on no stream (such as {event_pk})")
    assert "the relay publishes again" in line


async def test_an_event_that_nobody_takes_over(resources: Resources) -> None:
    await sent_at_once(resources, "-10 min")
    line = await trouble(resources)
    assert line.startswith("FAIL  check events  — 1 event is in mid-send with a consumer that is gone")
    assert line.endswith("and nobody takes over; mend: tidings consumers")


async def test_an_event_that_was_claimed_between_the_two_looks_is_no_trouble(resources: Resources) -> None:
    [event_pk] = await support.add_events(resources, support.event())
    await support.change(resources, "event", event_pk, f"published_at = now() - {LONG_AGO}, due_at = now() - {LONG_AGO}")
    patience, redis = Patience.of(resources.settings), resources.redis
    async with resources.pool.acquire() as pooled:
        connection: Any = pooled
        now, at = await store.clock(connection), await groups(redis)
        look = await compare.first_look(connection, redis, EVENTS, now, at[EVENTS], patience, time.monotonic() + 5)
        assert (await confirm(connection, redis, look, at[EVENTS], patience)).lost.ids == (str(event_pk),)
        await support.change(resources, "event", event_pk, "claimed_by = 'me', lease_until = now() + interval '1 min'")
        assert not (await confirm(connection, redis, look, at[EVENTS], patience)).lost


async def test_pending_entries_of_a_consumer_that_is_gone(resources: Resources) -> None:
    _, [entry] = await carried_mails(resources, 1)
    await read_mails(resources, 1)
    await resources.redis.xclaim(MAIL, GROUP, "gone", 0, [entry], idle=90_000, retrycount=5, justid=True)
    idle, silent = await troubles(resources)
    assert idle.startswith("FAIL  check email  — pending entries of gone are untouched for up to 9")
    assert "1 entry was delivered up to 5 times without an end" in silent


async def test_parked_and_due_and_nobody_publishes(resources: Resources) -> None:
    ids = await support.add_notifications(resources, 2)
    await support.change(resources, "notification", ids, f"published_at = null, due_at = now() - {LONG_AGO}")
    await support.change(resources, "notification", ids[1], "due_at = now() + interval '1 hour'")
    assert "FAIL  check email  — 1 notification is parked (such as" in await trouble(resources)


async def test_unread_for_long_and_nobody_reads_on(resources: Resources) -> None:
    await carried_mails(resources, 2, LONG_AGO)
    assert "2 notifications are due for up to 60" in await trouble(resources)


async def test_while_its_channel_is_paused_what_waits_is_no_trouble(resources: Resources) -> None:
    _, [entry, _] = await carried_mails(resources, 2, LONG_AGO)
    await read_mails(resources, 1)
    await resources.redis.xclaim(MAIL, GROUP, "gone", 0, [entry], idle=90_000, justid=True)
    assert len(await troubles(resources)) == 2
    await tell_pause(resources.redis, Channel.EMAIL, Pause("somebody", "answered 401", 1, 1, 4))
    assert await troubles(resources) == []
    await resources.redis.delete(breaker_key(Channel.EMAIL))
    assert len(await troubles(resources)) == 2
    await hold(resources.pool, Channel.EMAIL, "ann", "maintenance")
    assert await troubles(resources) == []


async def test_a_notification_that_was_deleted(settings: Settings, resources: Resources) -> None:
    [event_pk] = await support.add_events(resources, support.event())
    added = await support.route(resources, [event_pk])
    await support.change(resources, "notification", [a.id for a in added], "status = 'CANCELLED', reason = 'cancelled'")
    await resources.pool.execute("delete from notification where channel = 'SMS'")
    [finding] = [f for f in await found(resources) if f.level is not Level.OK]
    assert f"as SMS of event row {event_pk}" in finding.says
    await resources.pool.execute(sql_of(finding))
    owed = await resources.pool.fetchrow("select * from notification where channel = 'SMS'")
    assert owed is not None
    assert (owed["status"], owed["published_at"], owed["user_id"]) == ("PENDING", None, "user_123")
    async with open_engine(settings, "test") as engine:
        lines = await user_notifications(engine, "user_123", None, None, None, 3)
    assert {line.channel for line in lines} == set(Channel), "each is once in its user's history"


def sql_of(finding: Finding) -> str:
    """What the command that mends hands to psql, as a shell reads it."""
    assert finding.mend is not None
    psql, _, option, sql = shlex.split(finding.mend)
    assert (psql, option) == ("psql", "-c")
    return sql


async def test_notifications_whose_event_is_gone(resources: Resources) -> None:
    ids = await support.add_notifications(resources, 2)
    await support.change(resources, "notification", ids[:1], "status = 'SENT', attempt = 0")
    await resources.pool.execute("insert into attempt select $1, 1, 'p', 'c', now(), now(), 'sent'", ids[0])
    await resources.pool.execute("delete from event")
    await resources.pool.execute("update notification set attempt = 1 where id = $1", ids[0])
    unfinished, final = await troubles(resources)
    assert f"1 unfinished notification without the event ({ids[1]})" in unfinished
    assert f"/api/notifications/{ids[1]}/cancel" in unfinished
    assert final.startswith("warn  check history  — 1 finished notification without the event")


async def test_attempts_that_contradict_their_notification(resources: Resources) -> None:
    ids = await support.add_notifications(resources, 2)
    await support.change(resources, "notification", ids, "status = 'SENT', attempt = 1")
    await resources.pool.execute("insert into attempt select $1, 2, 'p', 'c', now(), now(), 'sent'", ids[0])
    too_far, unproved = await troubles(resources)
    assert f"1 notification with attempts above its own count of attempts ({ids[0]})" in too_far
    assert f"1 notification SENT without an attempt that was sent ({ids[1]})" in unproved


async def test_a_rate_limit_key_that_never_expires(resources: Resources) -> None:
    key = streams.bucket_key("user_1")
    await resources.redis.zadd(key, {"full_at": 1})
    await ChannelLimit(resources.redis, Channel.SMS, 10).allowed(1)
    line = await trouble(resources)
    assert f"1 rate limit key without expiry, such as {key}" in line
    await resources.redis.delete(key)


async def test_what_lies_beyond_the_oldest_entries_of_a_big_stream_is_not_judged(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "ENTRIES_MAX", 1000)
    near, far = await support.add_notifications(resources, 2)
    await support.change(resources, "notification", [near, far], "published_at = now() - interval '1.5 s'")
    await streams.create_group(resources.redis, MAIL)
    await streams.publish(resources.redis, MAIL, [Outgoing(near, "e", "u", "T", support.NOON)] * 1000)
    await publish_mail(resources, [far])
    assert await troubles(resources) == []
    assert any("only the oldest 1,000 were compared" in f.says for f in await found(resources))


async def test_a_check_that_is_out_of_time_says_so_and_suspects_nothing(resources: Resources) -> None:
    await carried_mails(resources, 3, LONG_AGO)
    await resources.redis.delete(MAIL)
    facts = await facts_of(resources, limit_s=-1)
    assert facts.cut
    assert [f for f in judge(resources.settings, facts) if f.level is not Level.OK] == []


async def test_nothing_is_changed_by_looking(resources: Resources) -> None:
    await carried_mails(resources, 2)
    await read_mails(resources, 2)
    await resources.redis.xgroup_delconsumer(MAIL, GROUP, "gone")
    before = [await resources.redis.xrange(stream) for stream in WORK_STREAMS]
    await found(resources)
    assert [await resources.redis.xrange(stream) for stream in WORK_STREAMS] == before
