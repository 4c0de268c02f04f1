"""Dead letters, on real servers: replayed, edited, discarded; only by a form of ours, never by a GET, and each is in the log."""

import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest

from app.domain import Channel
from app.process import free_port
from app.resources import Resources
from app.settings import Settings
from app.streams import DEAD, EVENTS, Entry, bury
from tests import support
from tests.integration.test_web import BASE, browse, page

Make = Callable[..., Settings]
SECRET = "a secret of the tests"


@pytest.fixture
async def browser(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async for client in browse(settings):
        yield client


async def token(browser: httpx2.AsyncClient, path: str = "/user?id=x") -> str:
    found = re.search(r'name="token" value="([^"]*)"', await page(browser, path))
    assert found, "the page has no form"
    return found[1]


async def post(browser: httpx2.AsyncClient, path: str, data: dict[str, Any], **headers: str) -> httpx2.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return await browser.post(f"{BASE}/dead-letters{path}", data=data, headers=names)


async def dead_event(resources: Resources, **other: Any) -> int:
    [event_pk] = await support.add_events(resources, support.event(**other))
    await support.change(resources, "event", event_pk, "status = 'FAILED', reason = 'dead_letter', error = 'delivered 8 times'")
    return event_pk


async def dead_notification(resources: Resources, channel: Channel = Channel.SMS, **other: Any) -> int:
    notification = await support.add_notification(resources, channel, **other)
    dead = "status = 'FAILED', reason = 'dead_letter', error = 'delivered 8 times', attempt = 1"
    await support.change(resources, "notification", notification, dead)
    return notification


async def events(browser: httpx2.AsyncClient, **fields: Any) -> httpx2.Response:
    return await post(browser, "/events", {"token": await token(browser), "why": "mended", "do": "replay", **fields})


async def state(resources: Resources, event_pk: int) -> tuple[str, str | None]:
    row = await support.event_row(resources, event_pk)
    return row["status"], row["reason"]


async def actions(resources: Resources) -> list[tuple[Any, ...]]:
    return [tuple(r) for r in await resources.pool.fetch("select who, action, target, count, reason from audit order by id")]


async def test_chosen_events_are_replayed(browser: httpx2.AsyncClient, resources: Resources) -> None:
    first, second, other = [await dead_event(resources) for _ in range(3)]
    answer = await events(browser, id=[first, second], why="the bug is mended")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{BASE}/dead-letters?replayed=2")
    assert "Replayed: 2, on the way again." in (await browser.get(answer.headers["location"])).text
    assert [await state(resources, pk) for pk in (first, second, other)] == [("NEW", None)] * 2 + [("FAILED", "dead_letter")]
    assert await actions(resources) == [("local", "replay events", "2 chosen", 2, "the bug is mended")]
    assert "replay events" in await page(browser, "/audit?who=local")
    again = await events(browser, id=[first])
    assert again.headers["location"].endswith("replayed=0")


async def test_chosen_events_are_discarded(browser: httpx2.AsyncClient, resources: Resources) -> None:
    event_pk = await dead_event(resources)
    await events(browser, id=event_pk, do="discard", why="test data")
    row = await support.event_row(resources, event_pk)
    assert (row["status"], row["reason"]) == ("FAILED", "discarded")
    assert row["error"] == "discarded: test data (it was: delivered 8 times)"
    assert f"Choose event {event_pk}" not in await page(browser, "/dead-letters")


@pytest.mark.parametrize("change", [{"why": " "}, {"id": "seven"}, {"do": "drop"}, {"id": str(2**63)}])
async def test_a_form_that_is_not_whole(browser: httpx2.AsyncClient, resources: Resources, change: dict[str, str]) -> None:
    event_pk = await dead_event(resources)
    answer = await events(browser, **{"id": event_pk, **change})
    assert (answer.status_code, await state(resources, event_pk)) == (400, ("FAILED", "dead_letter"))


async def test_an_edited_event_is_routed_with_what_was_typed(browser: httpx2.AsyncClient, resources: Resources) -> None:
    event_pk = await dead_event(resources, event_id="evt-1", payload={"n": 1, "deep": ["ü"]})
    path = f"/dead-letters/event/{event_pk}"
    shown = await page(browser, path)
    assert "&#34;n&#34;: 1" in shown
    filled = {
        "token": await token(browser, path),
        "why": "a number, not a text",
        "do": "edit",
        "type": "ORDER",
        "payload": '{"n": 2}',
    }
    answer = await post(browser, f"/event/{event_pk}", filled)
    assert answer.headers["location"] == f"{BASE}/dead-letters?edited=1"
    row = await support.event_row(resources, event_pk)
    assert (row["status"], row["type"], row["payload"], row["published_at"]) == ("NEW", "ORDER", '{"n":2}', None)
    detail = json.loads(await resources.pool.fetchval("select detail from audit where action = 'edit and replay'"))
    assert detail == {"before": {"type": "ORDER_PLACED", "payload": {"n": 1, "deep": ["ü"]}, "address": None}}
    assert (await post(browser, f"/event/{event_pk}", filled)).headers["location"].endswith("edited=0"), "it is dead no more"


async def test_the_client_may_still_repeat_an_edited_event(browser: httpx2.AsyncClient, resources: Resources) -> None:
    original = support.event("evt-1")
    [event_pk] = await support.add_events(resources, original)
    before = (await support.event_row(resources, event_pk))["body_hash"]
    await support.change(resources, "event", event_pk, "status = 'FAILED', reason = 'dead_letter'")
    fields = {"token": await token(browser), "why": "x", "do": "edit", "type": "ORDER", "payload": "{}"}
    await post(browser, f"/event/{event_pk}", fields)
    assert (await support.event_row(resources, event_pk))["body_hash"] == before


async def test_a_notification_is_edited_while_no_other_channel_was_tried(
    browser: httpx2.AsyncClient, resources: Resources
) -> None:
    [event_pk] = await support.add_events(resources, support.event(channels=(Channel.SMS, Channel.PUSH)))
    sms, push = sorted(added.id for added in await support.route(resources, [event_pk]))
    dead = "status = 'FAILED', reason = 'dead_letter', attempt = 1, address = '+49 1'"
    await support.change(resources, "notification", sms, dead)
    await support.change(resources, "notification", push, "status = 'CANCELLED', reason = 'cancelled'")
    path = f"/notification/{sms}"
    fields = {
        "token": await token(browser, f"/dead-letters{path}"), "why": "x", "do": "edit", "type": "ORDER", "payload": '{"n": 2}',
        "address": "+49 2",
    }  # fmt: skip
    assert (await post(browser, path, fields)).headers["location"].endswith("edited=1")
    row = await support.notification(resources, sms)
    assert (row["status"], row["address"], row["replays"], row["tries"]) == ("PENDING", "+49 2", 1, 0)
    assert (await support.event_row(resources, event_pk))["payload"] == '{"n":2}'

    await support.change(resources, "notification", sms, dead)
    await support.change(resources, "notification", push, "status = 'SENT', attempt = 1")
    assert "another channel was already tried with it" in await page(browser, f"/dead-letters{path}")
    await post(browser, path, {**fields, "payload": '{"n": 3}', "address": "+49 3"})
    row = await support.notification(resources, sms)
    assert (row["status"], row["address"]) == ("PENDING", "+49 3"), "the address is its own"
    assert (await support.event_row(resources, event_pk))["payload"] == '{"n":2}', "the payload is what the other was sent"


async def test_another_channel_that_was_faster_keeps_the_payload(resources: Resources) -> None:
    """The page was loaded before: the statement looks again. Who waits could be claimed at this moment, with the old payload."""
    from app.store.dead import edit_notification

    [event_pk] = await support.add_events(resources, support.event(channels=(Channel.SMS, Channel.PUSH)))
    sms, push = sorted(added.id for added in await support.route(resources, [event_pk]))
    await support.change(resources, "notification", sms, "status = 'FAILED', reason = 'dead_letter'")
    for state in ("attempt = 0", "status = 'CANCELLED', reason = 'cancelled', attempt = 1"):
        await support.change(resources, "notification", push, state)
        assert await edit_notification(resources.pool, sms, "T", "{}") is None, state
    assert await edit_notification(resources.pool, sms, "T", "{}") is None
    assert (await support.notification(resources, sms))["status"] == "FAILED"
    assert await edit_notification(resources.pool, sms, "T", "{}", content=False) is not None
    assert (await support.event_row(resources, event_pk))["type"] == "ORDER_PLACED"


@pytest.mark.parametrize("kind", ["event", "notification"])
async def test_one_is_replayed_as_it_was_or_discarded(browser: httpx2.AsyncClient, resources: Resources, kind: str) -> None:
    for do, status, reason in (("replay", "NEW" if kind == "event" else "PENDING", None), ("discard", "FAILED", "discarded")):
        number = await (dead_event(resources) if kind == "event" else dead_notification(resources))
        fields = {"token": await token(browser), "why": "so", "do": do, "type": "X", "payload": "{}"}
        answer = await post(browser, f"/{kind}/{number}", fields)
        assert answer.headers["location"] == f"{BASE}/dead-letters?{'replayed' if do == 'replay' else 'discarded'}=1"
        row = await (support.event_row if kind == "event" else support.notification)(resources, number)
        assert (row["status"], row["reason"]) == (status, reason)
        assert (await actions(resources))[-1] == ("local", do, f"{kind} {number}", 1, "so")


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        ("", "no JSON"), ("[1]", "must be a JSON object"), ('{"a": 1e999}', "finite"), ('{"a": "\\u0000"}', "NUL"),
        ('{"a": NaN}', "finite"), ("{" * 5000, "no JSON"), ('{"a":' * 5000 + "1" + "}" * 5000, "nested"),
        ('{"a": ' + "9" * 30 + "}", "64 bits"), ('{"a": ' + "9" * 5000 + "}", "too many digits"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"a": "' + "x" * 262_144 + '"}', "bigger than"), ("\0", "no JSON"),
    ],
)  # fmt: skip
async def test_a_payload_that_cannot_be(browser: httpx2.AsyncClient, resources: Resources, payload: str, says: str) -> None:
    event_pk = await dead_event(resources)
    fields = {"token": await token(browser), "why": "x", "do": "edit", "type": "T", "payload": payload}
    answer = await post(browser, f"/event/{event_pk}", fields)
    assert (answer.status_code, await state(resources, event_pk)) == (422, ("FAILED", "dead_letter"))
    assert says in answer.text
    assert await actions(resources) == []


@pytest.mark.parametrize(
    "change", [{"why": ""}, {"type": ""}, {"type": "x" * 300}, {"type": "a\nb"}, {"do": "drop"}, {"type": "a\0b"}]
)
async def test_other_things_that_cannot_be(browser: httpx2.AsyncClient, resources: Resources, change: dict[str, str]) -> None:
    event_pk = await dead_event(resources)
    fields = {"token": await token(browser), "why": "x", "do": "edit", "type": "T", "payload": "{}"}
    answer = await post(browser, f"/event/{event_pk}", {**fields, **change})
    assert (answer.status_code, await state(resources, event_pk)) == (422, ("FAILED", "dead_letter"))
    assert "Nothing was changed" in answer.text


@pytest.mark.parametrize("path", ["/event/0", "/event/x", f"/event/{'9' * 400}", "/notification/7", "/user/1", "/event/1/2"])
async def test_what_was_never_there(browser: httpx2.AsyncClient, resources: Resources, path: str) -> None:
    await page(browser, f"/dead-letters{path}", status=404)
    await dead_event(resources)
    assert (await post(browser, path, {"token": await token(browser), "why": "x", "do": "replay"})).status_code == 404


async def test_one_that_is_dead_no_more_is_shown_as_such(browser: httpx2.AsyncClient, resources: Resources) -> None:
    [event_pk] = await support.add_events(resources, support.event())
    assert "This is no dead letter (any more)" in await page(browser, f"/dead-letters/event/{event_pk}")


async def dead_ids(resources: Resources) -> list[str]:
    found: Any = await resources.redis.xrange(DEAD)
    return [entry_id.decode() for entry_id, _ in found]


async def test_entries_are_discarded_one_by_one_or_up_to_the_newest_seen(
    browser: httpx2.AsyncClient, resources: Resources
) -> None:
    for number in range(5):
        await bury(resources.redis, EVENTS, Entry(f"{number + 1}-0".encode(), None, 1, (b"garbage", b"x")), "no readable field")
    ids = await dead_ids(resources)
    fields = {"token": await token(browser), "why": "noise"}
    answer = await post(browser, "/entries", {**fields, "entry": [ids[0], ids[4]], "do": "selected", "up_to": ids[3]})
    assert answer.headers["location"].endswith("dropped=2")
    assert await dead_ids(resources) == ids[1:4]
    answer = await post(browser, "/entries", {**fields, "do": "older", "up_to": ids[2]})
    assert answer.headers["location"].endswith("dropped=2")
    assert await dead_ids(resources) == [ids[3]], "what came later stays"
    assert [(a[1], a[4]) for a in await actions(resources)] == [("discard dead entries", "noise")] * 2


@pytest.mark.parametrize(
    "change",
    [
        {"entry": "x"},
        {"entry": "1-0; flushall"},
        {"entry": []},
        {"why": ""},
        {"do": "older", "up_to": "9" * 99},
        {"entry": "²-0"},
    ],
)
async def test_no_entry_is_discarded_by_a_form_that_is_not_whole(browser: httpx2.AsyncClient, change: dict[str, Any]) -> None:
    fields = {"token": await token(browser, "/user?id=x"), "why": "noise", "do": "selected", "entry": "1-0", **change}
    assert (await post(browser, "/entries", fields)).status_code == 400


@pytest.mark.parametrize("change", [{"token": ""}, {"token": "x" * 43}, {}], ids=["no token", "a guessed token", "no cookie"])
async def test_without_our_token_nothing_is_replayed(browser: httpx2.AsyncClient, resources: Resources, change: Any) -> None:
    event_pk = await dead_event(resources)
    filled = {"token": await token(browser), "why": "x", "do": "replay", "id": event_pk}
    if not change:
        browser.cookies.clear()
    answer = await post(browser, "/events", {**filled, **change})
    assert (answer.status_code, await state(resources, event_pk)) == (403, ("FAILED", "dead_letter"))
    assert "nothing was changed" in answer.text
    assert await actions(resources) == []


async def test_read_only(resources: Resources, make_settings: Make) -> None:
    event_pk = await dead_event(resources)
    notification = await dead_notification(resources)
    async for reader in browse(make_settings(dashboard_read_only=True)):
        for path in ("/dead-letters", f"/dead-letters/event/{event_pk}", "/failures", "/user?id=user_123", "/notifications"):
            shown = await page(reader, path)
            assert 'name="token"' not in shown
            assert 'type="checkbox"' not in shown
        for path in ("/events", "/entries", f"/event/{event_pk}", f"/notification/{notification}"):
            answer = await post(reader, path, {"id": event_pk, "why": "x", "do": "replay"})
            assert (answer.status_code, answer.headers["allow"]) == (405, "")
    assert await state(resources, event_pk) == ("FAILED", "dead_letter")


async def test_what_cannot_be_recorded_is_not_done(browser: httpx2.AsyncClient, resources: Resources) -> None:
    event_pk = await dead_event(resources)
    await resources.pool.execute("drop table audit")
    answer = await events(browser, id=event_pk)
    assert (answer.status_code, await state(resources, event_pk)) == (503, ("FAILED", "dead_letter"))
    assert "older Tidings tables" in answer.text or "no Tidings tables yet" in answer.text


@pytest.mark.parametrize(
    "headers", [{"sec_fetch_site": "cross-site"}, {"sec_fetch_site": "same-site"}, {"origin": "http://evil"}]
)
async def test_another_site_replays_nothing(browser: httpx2.AsyncClient, resources: Resources, headers: dict[str, str]) -> None:
    event_pk = await dead_event(resources)
    filled = {"token": await token(browser), "why": "x", "do": "replay", "id": event_pk}
    answer = await post(browser, "/events", filled, **headers)
    assert (answer.status_code, await state(resources, event_pk)) == (403, ("FAILED", "dead_letter"))


async def test_a_get_replays_nothing(browser: httpx2.AsyncClient, resources: Resources) -> None:
    event_pk = await dead_event(resources)
    filled = {"token": await token(browser), "why": "x", "do": "replay", "id": str(event_pk)}
    answer = await browser.get(f"{BASE}/dead-letters/events", params=filled)
    assert (answer.status_code, await state(resources, event_pk)) == (405, ("FAILED", "dead_letter"))


async def test_the_cookie_is_for_this_dashboard_alone(browser: httpx2.AsyncClient) -> None:
    cookie = (await browser.get(f"{BASE}/failures")).headers["set-cookie"]
    assert {"HttpOnly", f"Path={BASE}", "SameSite=lax"} <= set(cookie.split("; "))
    assert "set-cookie" not in (await browser.get(f"{BASE}/dead-letters")).headers, "one token for all pages that are open"


@pytest.mark.parametrize(
    ("content", "status"), [(b"\xff\xfe%zz&=&", 403), (b"a=b&" * 20_000, 413), (b'{"notification": 1}', 403), (b"", 403)]
)
async def test_a_body_of_any_kind_is_no_traceback(browser: httpx2.AsyncClient, content: bytes, status: int) -> None:
    kind = "application/json" if content.startswith(b"{") else "application/x-www-form-urlencoded"
    answer = await browser.post(f"{BASE}/dead-letters/events", content=content, headers={"content-type": kind})
    assert answer.status_code == status


async def test_postgresql_away(resources: Resources, make_settings: Make) -> None:
    event_pk = await dead_event(resources)
    gone = f"postgresql://postgres@127.0.0.1:{free_port(0)}/tidings"
    async for browser in browse(make_settings(dashboard_secret=SECRET)):
        filled = {"token": await token(browser), "why": "x", "do": "replay", "id": event_pk, "entry": "1-0"}
        async for lonely in browse(make_settings(dashboard_secret=SECRET, database_url=gone)):
            lonely.cookies = browser.cookies
            for path in ("/events", "/entries", f"/event/{event_pk}"):
                answer = await post(lonely, path, filled)
                assert answer.status_code == 503, path
                assert "PostgreSQL cannot be reached." in answer.text


async def test_a_name_that_was_made_to_point_here_gets_nothing(browser: httpx2.AsyncClient) -> None:
    assert (await browser.get(f"{BASE}/failures", headers={"host": "evil.example:3000"})).status_code == 400
