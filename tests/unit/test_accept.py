"""When is a repeated id the same event? By its canonical form; and what one batch answers to each request."""

import asyncio
import random
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.accept import Accepted, _Request, canonical, first_of_each_id, judge, judge_all, judge_repeat, parts, prepare
from app.api.schemas import EventBody, read
from app.domain import Channel
from app.store.events import Stored
from tests.support import event

NOON = datetime(2026, 3, 31, 12, 0, tzinfo=UTC)


def payload(**members: Any) -> bytes:
    return canonical(event("e-1", payload=members))


# ---- the same event


def test_a_whole_number_has_one_spelling_however_deep() -> None:
    assert payload(amount=250) == payload(amount=250.0)
    assert payload(zero=0) == payload(zero=-0.0)
    assert payload(deep=[{"amount": 250}]) == payload(deep=[{"amount": 250.0}])
    assert all(payload(amount=10**digits) == payload(amount=1.0 * 10**digits) for digits in range(19))


def test_the_order_of_members_does_not_count() -> None:
    assert payload(a=1, b={"c": 2, "d": 3}) == payload(b={"d": 3, "c": 2}, a=1)


def test_the_order_of_channels_and_a_channel_named_twice_do_not_count() -> None:
    once = event("e-1", channels=(Channel.EMAIL, Channel.SMS))
    twice = event("e-1", channels=(Channel.SMS, Channel.EMAIL, Channel.SMS))
    assert canonical(once) == canonical(twice)


def test_an_instant_may_be_posted_with_any_offset() -> None:
    spellings = ["2026-03-31T12:00:00Z", "2026-03-31T14:00:00+02:00", "2026-03-31t06:30:00.000-05:30"]
    assert len({canonical(posted(timestamp=spelling)) for spelling in spellings}) == 1
    assert len({canonical(posted(sendAt=spelling, expiresAt=spelling)) for spelling in spellings}) == 1


def posted(**members: Any) -> Any:
    body = {"eventId": "e-1", "eventType": "T", "userId": "ann", "payload": {}, "timestamp": "2026-03-31T12:00:00Z", **members}
    return read(EventBody, orjson.dumps(body)).event()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(members=st.dictionaries(st.text(max_size=3), VALUES, max_size=4), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_an_event_in_another_spelling_is_the_same_event(members: dict[str, Any], seed: int) -> None:
    assert canonical(event("e-1", payload=respelled(members, random.Random(seed)))) == canonical(event("e-1", payload=members))


def respelled(value: Any, chance: random.Random) -> Any:
    """The same JSON value: members in another order, some whole numbers with a point."""
    if isinstance(value, dict):
        pairs = [(key, respelled(inner, chance)) for key, inner in value.items()]
        return dict(chance.sample(pairs, len(pairs)))
    if isinstance(value, list):
        return [respelled(inner, chance) for inner in value]
    if isinstance(value, int) and not isinstance(value, bool) and chance.random() < 0.5:
        return float(value)
    return value


# ---- another event


@pytest.mark.parametrize(
    "other",
    [
        {"type": "ORDER_SHIPPED"},
        {"user_id": "bob"},
        {"source": "/shop"},
        {"payload": {"orderAmount": 251}},
        {"payload": {"orderAmount": "250"}},
        {"payload": {"orderamount": 250}},
        {"payload": {"orderAmount": 250, "more": None}},
        {"occurred_at": NOON + timedelta(microseconds=1)},
        {"channels": tuple(Channel)},  # all of them, even of those that are added later: not the same as none named
        {"send_at": NOON},
        {"expires_at": NOON},
    ],
    ids=repr,
)
def test_what_a_client_may_say_differently_is_another_event(other: dict[str, Any]) -> None:
    assert canonical(event("e-1", **other)) != canonical(event("e-1"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (2**53, 2**53 + 1),  # a float would not tell them apart
        (2**63 - 1, 2**63 - 2),
        (1, True),
        (0, False),
        (0, None),
        ("", None),
        ([1, 2], [2, 1]),
        (0.1, 0.1000000000000001),
    ],
)
def test_values_that_differ_are_never_taken_for_one(one: Any, other: Any) -> None:
    assert payload(value=one) != payload(value=other)


def test_text_cannot_move_from_one_member_to_the_next() -> None:
    assert canonical(event("ab", user_id="c")) != canonical(event("a", user_id="bc"))


def test_equal_events_have_equal_hashes_and_keep_their_payload_as_posted() -> None:
    one, other = prepare(event("e-1", payload={"b": 1.0, "a": 1})), prepare(event("e-1", payload={"a": 1.0, "b": 1}))
    assert one.body_hash == other.body_hash
    assert (one.payload_json, other.payload_json) == ('{"b":1.0,"a":1}', '{"a":1.0,"b":1}')


def test_instants_are_kept_in_utc_by_the_way_in() -> None:
    local = NOON.astimezone(timezone(timedelta(hours=2)))
    assert posted(timestamp=local.isoformat()).occurred_at.tzinfo == UTC


# ---- one batch


def test_the_first_event_of_an_id_is_stored_and_the_others_are_compared_with_it() -> None:
    news = [prepare(event(i, **o)) for i, o in (("e-1", {}), ("e-2", {}), ("e-1", {}), ("e-1", {"source": "/shop"}), ("e-2", {}))]
    first = first_of_each_id(news)
    assert [id(new) for new in first.values()] == [id(news[0]), id(news[1]), id(news[3])], "the source is part of its identity"
    stored = {key: Stored(n, NOON, None) for n, key in enumerate(first)}
    new, repeat = Accepted.NEW, Accepted.DUPLICATE
    assert judge_all(news, first, stored) == [new, new, repeat, new, repeat]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([1, 1, 1], [[1, 1, 1]]),
        ([1] * 600, [[1] * 500, [1] * 100]),
        ([499, 1000, 1], [[499, 1000], [1]]),
        ([500, 500], [[500], [500]]),
    ],
    ids=["few", "many", "a large one", "full ones"],
)
async def test_a_transaction_stores_whole_requests_of_about_500_events(sizes: list[int], expected: list[list[int]]) -> None:
    requests = [_Request([MINE] * size, asyncio.get_running_loop().create_future()) for size in sizes]
    made = parts(requests)
    assert [[len(request.news) for request in part] for part in made] == expected
    assert [request for part in made for request in part] == requests


MINE, OTHER = prepare(event("e-1")), prepare(event("e-1", user_id="bob"))


@pytest.mark.parametrize(
    ("stored", "answer"),
    [
        (Stored(7, NOON, None), Accepted.NEW),
        (Stored(7, None, None), Accepted.NEW),  # parked until sendAt
        (Stored(None, None, MINE.body_hash), Accepted.DUPLICATE),
        (Stored(None, None, OTHER.body_hash), Accepted.CONFLICT),
        (Stored(None, None, None), Accepted.REFUSED),
    ],
)
def test_what_the_store_says_is_the_answer(stored: Stored, answer: Accepted) -> None:
    assert judge(MINE, stored) is answer


@pytest.mark.parametrize(
    ("first_of_batch", "its_row", "answer"),
    [
        (MINE, Stored(7, NOON, None), Accepted.DUPLICATE),  # the first was stored just now
        (OTHER, Stored(7, NOON, None), Accepted.CONFLICT),
        (MINE, Stored(None, None, MINE.body_hash), Accepted.DUPLICATE),  # both repeat an older one
        (OTHER, Stored(None, None, MINE.body_hash), Accepted.DUPLICATE),
        (MINE, Stored(None, None, OTHER.body_hash), Accepted.CONFLICT),
        (MINE, Stored(None, None, None), Accepted.REFUSED),
    ],
)
def test_a_repeat_within_a_batch_is_compared_with_what_is_stored(first_of_batch: Any, its_row: Stored, answer: Accepted) -> None:
    assert judge_repeat(MINE, first_of_batch.body_hash, its_row) is answer
