"""The statements of accept: store events, and tell a repeated one from a reused id."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import asyncpg

from app.domain import Event
from app.store.batch import all_or_each
from app.store.hot_route import CASE

if TYPE_CHECKING:
    from app.store.batch import Fetching


Key: TypeAlias = tuple[str, str]  # source and event_id

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class NewEvent(NamedTuple):
    """An event as it is stored: `payload_json` is its payload as JSON text, `body_hash` the hash of its canonical form."""

    event: Event
    payload_json: str
    body_hash: bytes


class Stored(NamedTuple):
    """What became of one event. `row_id` and `published_at` are set where it was added; `published_at` None: parked until sendAt.

    `case` is that of hot_route.py; None where it may expire. Where it was not added, `body_hash` is that of the event which
    already has the id; None: PostgreSQL refused the event.
    """

    row_id: int | None
    published_at: datetime | None
    body_hash: bytes | None
    case: int | None = None


# Columns come joined, which costs asyncpg and PostgreSQL less than arrays do: no text here holds SEPARATOR, since ids hold no
# control characters and JSON escapes them; hashes have 32 bytes each. What is null for all, and source '', comes as null.
# `due_at` in the future means parked (published_at null): the relay publishes it when due. It comes back as a number, which costs
# asyncpg a tenth of what a timestamptz does, and all rows have the same. Which case each is (hot_route.py) comes back too, but of
# what may expire: that is looked at when its turn comes, since what is over must cost its user no token.
SEPARATOR = "\x1f"
_INSERT = f"""
insert into event as e
  (source, event_id, type, user_id, payload, occurred_at, body_hash, channels, send_at, due_at, published_at, expires_at)
select coalesce(source, ''), event_id, type, user_id, payload::json, occurred_at,
       substring($7::bytea from 32 * n::int - 31 for 32), string_to_array(channels, ','), send_at,
       coalesce(send_at, now()), case when send_at > now() then null else now() end, expires_at
from {{}} as u(source, event_id, type, user_id, payload, occurred_at, channels, send_at, expires_at, n)
on conflict (source, event_id) do nothing
returning id, date_part('epoch', published_at), case when expires_at is null then {CASE} end
"""  # noqa: S608 (nothing is written into it but what hot_route.py holds)
INSERT = _INSERT.format("""
  unnest(string_to_array($1, E'\\x1f'), string_to_array($2, E'\\x1f'), string_to_array($3, E'\\x1f'),
         string_to_array($4, E'\\x1f'), string_to_array($5, E'\\x1f'), $6::timestamptz[], $8::text[],
         $9::timestamptz[], $10::timestamptz[]) with ordinality
""")
# For one by itself: an array of one makes it a tenth slower.
INSERT_ONE = _INSERT.format(
    "(select $1::text, $2::text, $3::text, $4::text, $5::text, $6::timestamptz, $8::text, $9::timestamptz, $10::timestamptz, 1)"
)

# A statement of its own: the rows that INSERT ran into were committed after its snapshot was taken.
SAME_IDS = """
select e.source, e.event_id, e.id, e.body_hash from unnest($1::text[], $2::text[]) as u(source, event_id)
join event e on e.source = any(array[u.source]) and e.event_id = any(array[u.event_id])
"""


async def insert_events(hot: "Fetching", events: Sequence[NewEvent]) -> list[Stored]:
    """Store a batch, committed on return; one answer per event, in order. Ids within the batch must differ.

    Raises batch.AWAY errors where PostgreSQL is away; then events may or may not have been stored.
    """

    async def run(part: Sequence[NewEvent]) -> list[Stored]:
        return await _insert(hot, part)

    keys = [id_of(new) for new in events]
    order = sorted(range(len(keys)), key=keys.__getitem__)  # two batches with the same ids lock them in the same order
    stored = await all_or_each([events[at] for at in order], run, _refused)
    return [one for _, one in sorted(zip(order, stored, strict=True), key=itemgetter(0))]


def id_of(new: NewEvent) -> Key:
    """By which an event is known: ids are their source's own."""
    return new.event.source, new.event.event_id


async def _insert(hot: "Fetching", events: Sequence[NewEvent]) -> list[Stored]:
    rows = await (hot.fetch(INSERT, *_columns(events)) if len(events) > 1 else hot.fetch(INSERT_ONE, *_values(*events[0])))
    added = {row_id: Stored(row_id, _instant(published_s), None, case) for row_id, published_s, case in rows}
    if len(added) == len(events):  # as a rule all are new, and come back in their order
        return [*added.values()]
    known = await _known(hot, list(map(id_of, events)))
    return [_told(known.get(id_of(new)), added) for new in events]


def _told(known: tuple[int, bytes] | None, added: Mapping[int, Stored]) -> Stored:
    if known is None:
        return Stored(None, None, None)
    row_id, body_hash = known
    return added.get(row_id) or Stored(None, None, body_hash)


@lru_cache(8)
def _instant(epoch_s: float | None) -> datetime | None:
    """Exact until 2255: microseconds since 1970 fit in a float's 53 bits."""
    return None if epoch_s is None else EPOCH + timedelta(microseconds=round(epoch_s * 1e6))


def _columns(events: Sequence[NewEvent]) -> list[object]:
    happened, payloads, hashes = zip(*events, strict=True)
    ids, types, users, _, occurred, sources, channels, send, expire = zip(*happened, strict=True)
    asked = [None if chosen is None else ",".join(chosen) for chosen in channels] if any(channels) else None
    texts = [_joined(column) for column in (ids, types, users, payloads)]
    source = _joined(sources) if any(sources) else None
    return [source, *texts, occurred, b"".join(hashes), asked, send if any(send) else None, expire if any(expire) else None]


def _values(event: Event, payload_json: str, body_hash: bytes) -> tuple[object, ...]:
    """The same of one event by itself."""
    return (
        event.source, event.event_id, event.type, event.user_id, payload_json, event.occurred_at, body_hash,
        None if event.channels is None else ",".join(event.channels), event.send_at, event.expires_at,
    )  # fmt: skip


def _joined(column: Sequence[str]) -> str:
    text = SEPARATOR.join(column)
    assert text.count(SEPARATOR) == len(column) - 1  # or values would move to other rows
    return text


async def _known(hot: "Fetching", keys: Sequence[Key]) -> dict[Key, tuple[int, bytes]]:
    """Row and hash by id."""
    rows = await hot.fetch(SAME_IDS, [source for source, _ in keys], [event_id for _, event_id in keys])
    return {(source, event_id): (row_id, body_hash) for source, event_id, row_id, body_hash in rows}


def _refused(_event: NewEvent, _error: asyncpg.PostgresError) -> list[Stored]:
    return [Stored(None, None, None)]
