"""The other first step: one message on one channel, as its caller chose. Stored, committed, put on that channel's stream.

No preference and no limit per user is asked. On the stream it is a notification like any other; where Redis is away the relay
publishes it later.
"""

import asyncio
import hashlib
import time
from datetime import datetime
from typing import NamedTuple
from uuid import uuid4

import orjson
import structlog
from redis.exceptions import RedisError

from app import streams
from app.accept import WAIT_FOR_XADD_S
from app.domain import Channel, Outgoing, Status
from app.resources import Resources
from app.settings import Settings
from app.store.direct import TYPE, DirectRow, NewDirect, insert_direct
from app.store.idempotency import Key, keep_answer, take_key
from app.tally import Kind
from app.trouble import Trouble

log = structlog.get_logger()
not_published = Trouble(log, "notifications are published again")

ACCEPTED = 202
CONNECTION_WITHIN_S = 5
SHOWN_AS_FAILED = frozenset({Status.FAILED, Status.UNKNOWN, Status.CANCELLED})


class KeyReused(Exception):
    """The idempotency key belongs to a request with another body."""


class Direct(NamedTuple):
    """What a caller wants to be sent, validated."""

    user_id: str
    channel: Channel
    address: str
    message: str


class Answer(NamedTuple):
    """The answer to one request. `replayed`: it is the one that the first request with this key got."""

    status: int
    body: str
    replayed: bool


async def accept_direct(resources: Resources, direct: Direct, scope: str, key: str | None) -> Answer:
    """Committed on return, and on the stream where Redis answers in time. `key` None: no request is a repetition.

    Raises KeyReused, and store.batch.AWAY errors where PostgreSQL is away: then it may or may not have been stored.
    """
    started = time.monotonic()
    new = NewDirect(f"direct-{uuid4()}", direct.user_id, direct.channel, direct.address, direct.message, body_hash(direct))
    known = None if key is None else Key(scope, key, new.body_hash)
    async with resources.pool.acquire(timeout=CONNECTION_WITHIN_S) as connection, connection.transaction():
        kept = None if known is None else await take_key(connection, known)
        if kept is not None:
            if kept.body_hash != new.body_hash:
                raise KeyReused
            return Answer(kept.status, kept.response, True)
        row, published_at = await insert_direct(connection, new)
        body = shown_json(row, resources.settings)
        if known is not None:
            await keep_answer(connection, known, ACCEPTED, body)
    resources.tally.count(Kind.ACCEPTED)
    resources.tally.count(Kind.ACCEPTED, direct.channel)
    log.info("direct notification accepted", notification_id=row.id, channel=direct.channel.value, user_id=direct.user_id)
    await _publish(resources, new, row.id, published_at, started)
    return Answer(ACCEPTED, body, False)


async def _publish(resources: Resources, new: NewDirect, row_id: int, published_at: datetime, started: float) -> None:
    """Not later than `publish_within_s` after the transaction began, and for a second at most: the rest is the relay's."""
    left_s = started + resources.settings.publish_within_s - time.monotonic()
    entry = Outgoing(row_id, new.event_id, new.user_id, TYPE, published_at)
    if left_s <= 0:
        return
    try:
        async with asyncio.timeout(min(WAIT_FOR_XADD_S, left_s)):
            await streams.publish(resources.redis, streams.channel_stream(new.channel), [entry])
    except (RedisError, OSError, TimeoutError) as error:
        not_published.say("notifications left to the relay: Redis is away", error, notification_id=row_id)
    else:
        not_published.over()


def body_hash(direct: Direct) -> bytes:
    """By which a repetition is known: the validated request, however its JSON was spelled."""
    return hashlib.sha256(orjson.dumps(tuple(direct))).digest()


def shown(row: DirectRow, settings: Settings) -> dict[str, object]:
    """A direct notification as clients see it: PENDING, PROCESSING, SENT or FAILED, nothing else."""
    failed = row.status in SHOWN_AS_FAILED
    return {
        "id": row.id,
        "user_id": row.user_id,
        "type": row.channel,
        "message": row.message,
        "status": Status.FAILED if failed else row.status,
        "retry_count": max(0, row.attempt - 1),
        "max_retries": settings.channel_policy(row.channel).max_tries - 1,
        "error": ": ".join(part for part in (row.reason, row.error) if part) if failed else row.error,
        "created_at": row.created_at,
    }


def shown_json(row: DirectRow, settings: Settings) -> str:
    """`shown` as JSON text, instants in UTC with a Z."""
    return orjson.dumps(shown(row, settings), option=orjson.OPT_UTC_Z).decode()
