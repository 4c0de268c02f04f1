"""What a person does on the dashboard, in a real browser: watch it move, break it, find, replay, sign in, by keyboard."""

import re
from typing import Any

import pytest
from playwright.async_api import Page, expect

from app.domain import Channel
from app.faults import Fault, Kind, clear_fault, set_fault
from tests.browser.conftest import Another, Visit
from tests.browser.house import House
from tests.browser.test_pages import PHONE, grave, look_at
from tests.conftest import wait_until

pytestmark = pytest.mark.timeout(120)  # the first test waits for all processes to start
# Remembers the streams of events that a page opens, so that a test can ask whether they are open.
SOURCES = """
window.sources = [];
window.EventSource = class extends EventSource { constructor(...args) { super(...args); window.sources.push(this); } };
"""
OPEN = "window.sources.filter((one) => one.readyState !== EventSource.CLOSED).length"
SAME_PAGE = "window.same === 'page'"


async def stay(page: Page) -> None:
    """Marks the page: a load would lose the mark."""
    await page.evaluate("window.same = 'page'")


async def show_as(page: Page, hidden: bool) -> None:
    """What the browser does to a tab in the background, and when it comes back."""
    await page.evaluate(
        "(hidden) => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange')); }",
        hidden,
    )


# ---- it moves


async def test_the_overview_moves_without_a_reload_and_rests_in_a_hidden_tab(visit: Visit, house: House) -> None:
    async with visit("/notifications") as page:
        await page.context.add_init_script(SOURCES)
        await page.goto("/admin/queues")
        await stay(page)
        await house.post("moves-1", user="mover")
        await expect(page.locator("#lately").get_by_text("moves-1").first).to_be_visible()
        await wait_until(lambda: page.evaluate(f"{OPEN} === 1"))
        await show_as(page, hidden=True)
        await wait_until(lambda: page.evaluate(f"{OPEN} === 0"))
        await set_fault(house.redis, Channel.EMAIL, Fault(Kind.SLOW, 0.1))
        await house.post("moves-2", user="mover")
        await house.done("moves-2")
        assert await page.get_by_text("EMAIL is made slow").count() == 0
        await show_as(page, hidden=False)
        await expect(page.locator("#now").get_by_text("EMAIL is made slow")).to_be_visible()
        await clear_fault(house.redis, Channel.EMAIL)
        await expect(page.locator("#now").get_by_text("EMAIL is made slow")).to_have_count(0)
        assert await page.evaluate(f"{SAME_PAGE} && {OPEN} === 1")


async def test_the_mailbox_shows_a_message_at_once(visit: Visit, house: House) -> None:
    async with visit("/mailbox?user=mo") as page:
        await expect(page.get_by_text("Nothing like this was sent")).to_be_visible()
        await stay(page)
        await house.post("mail-1", user="mo", payload={"message": "Your parcel is at the door"})
        await expect(page.locator(".mail .text")).to_have_text("Your parcel is at the door")
        await expect(page.locator(".sms .text")).to_have_text("Your parcel is at the door")
        await expect(page.locator(".push h3")).to_have_text("Order placed")
        assert await page.evaluate(SAME_PAGE)
        await page.locator(".mail").get_by_role("link", name="mail-1").click()
        await expect(page.locator("h1")).to_have_text("mail-1")


async def test_a_page_that_is_paused_stands_still(visit: Visit, house: House) -> None:
    async with visit("/mailbox?user=pia") as page:
        await page.get_by_role("button", name="Pause").click()
        await expect(page.locator("#live")).to_contain_text("Paused")
        await house.post("paused-1", user="pia")
        await house.done("paused-1")
        await expect(page.locator(".mail")).to_have_count(0)
        await page.get_by_role("button", name="Go on").click()
        await expect(page.locator(".mail")).to_have_count(1)


# ---- it is broken on purpose


async def test_a_fault_is_set_seen_everywhere_and_taken_away(visit: Visit, house: House) -> None:
    async with visit() as overview, visit("/faults") as page:
        sms = page.get_by_role("region", name="SMS")
        await sms.get_by_role("button", name="retry after 60 s").click()
        await expect(page.get_by_role("status").filter(has_text="SMS is made busy")).to_be_visible()
        await expect(sms.get_by_role("button", name="retry after 60 s")).to_have_attribute("aria-pressed", "true")
        assert await grave(page) == []
        await expect(overview.get_by_text("SMS is made busy (429, Retry-After 1 min) by the fault panel")).to_be_visible()

        async def refused() -> bool:
            """Has the consumer heard of it? Each fresh SMS is refused from then on."""
            event_id = f"fault-{await house.pool.fetchval('select count(*) from event')}"
            await house.post(event_id, user="fay", channels=["SMS"])
            query = "select a.error from attempt a join notification n on n.id = a.notification_id where n.event_pk = $1"
            pk = await house.event_pk(event_id)
            return "429" in str(await wait_until(lambda: house.pool.fetch(query, pk)))

        await wait_until(refused)
        await expect(sms.locator(".calls a.wait").first).to_be_visible()
        await sms.get_by_role("button", name="No fault any more").click()
        await expect(sms.get_by_text("No fault is set.")).to_be_visible()
        await expect(overview.get_by_text("SMS is made busy")).to_have_count(0)


# ---- it is found


async def test_search_leads_to_an_event_and_to_a_user(visit: Visit, house: House) -> None:
    async with visit("/streams") as page:
        await page.get_by_role("searchbox").fill("hello-1")
        await page.get_by_role("searchbox").press("Enter")
        await expect(page.locator("h1")).to_have_text("hello-1")
        await page.get_by_role("searchbox").fill("user_123")
        await page.get_by_role("button", name="Find").click()
        await expect(page.locator("h1")).to_contain_text("user_123")


async def test_a_filter_narrows_the_list_and_is_taken_back(visit: Visit, house: House) -> None:
    await house.post("filter-1", user="phil")
    await house.done("filter-1")
    async with visit("/notifications") as page:
        await page.get_by_label("User", exact=True).fill("phil")
        await page.locator("select[name=channel]").select_option("SMS")
        await page.get_by_role("button", name="Show").click()
        await expect(page.locator("tbody tr")).to_have_count(1)
        await expect(page.locator("tbody tr")).to_contain_text("filter-1")
        await page.get_by_role("link", name="Clear").click()
        await expect(page.get_by_label("User", exact=True)).to_have_value("")


# ---- it is done again


async def test_a_selection_is_replayed_with_a_reason_which_the_log_keeps(visit: Visit, house: House) -> None:
    await house.post("again-1", user="agnes")
    await house.done("again-1")
    await house.fail("again-1")
    async with visit("/notifications?user=agnes&status=FAILED") as page:
        chosen = page.locator("form.choose")
        await expect(chosen.locator("output")).to_have_text("0 chosen")
        for box in (await chosen.locator("tbody input[name=id]").all())[:2]:
            await box.check()
        await expect(chosen.locator("output")).to_have_text("2 chosen")
        await chosen.locator("button[value=replay-selected]").click()
        await look_at(page, "confirm-light-wide")
        await page.get_by_label("Why").fill("the mailbox is back")
        await page.locator("form.sure button").click()
        await expect(page).to_have_url(re.compile("/jobs/"))
        await expect(page.locator(".badge")).to_contain_text(re.compile("done|finished", re.IGNORECASE))
        await look_at(page, "job-light-wide")
        await house.done("again-1")
        await page.goto("/admin/queues/audit")
        await expect(page.locator("tbody tr").first).to_contain_text("the mailbox is back")
    statuses = "select status from notification where event_pk = $1"
    told = sorted(row["status"] for row in await house.pool.fetch(statuses, await house.event_pk("again-1")))
    assert told == ["FAILED", "SENT", "SENT"]


async def test_all_that_match_are_replayed(visit: Visit, house: House) -> None:
    await house.post("all-1", user="alma")
    await house.done("all-1")
    await house.fail("all-1", error="421 later")
    async with visit("/notifications?user=alma&status=FAILED") as page:
        await page.locator("form.choose button[value=replay-all]").click()
        await page.get_by_label("Why").fill("all of alma's")
        await page.locator("form.sure button").click()
        await expect(page.locator(".badge")).to_contain_text(re.compile("done|finished", re.IGNORECASE))
    await wait_until(lambda: _sent(house, "all-1"))


async def _sent(house: House, event_id: str) -> bool:
    query = "select bool_and(status = 'SENT') from notification where event_pk = $1"
    return bool(await house.pool.fetchval(query, await house.event_pk(event_id)))


async def test_it_works_on_a_phone_without_javascript(visit: Visit, house: House) -> None:
    await house.post("bare-1", user="bea", channels=["EMAIL"])
    await house.done("bare-1")
    await house.fail("bare-1")
    async with visit("/notifications?user=bea&status=FAILED", java_script_enabled=False, **PHONE) as page:
        await page.locator("tbody input[name=id]").check()
        await page.locator("button[value=replay-selected]").click()
        await page.get_by_label("Why").fill("once more")
        await page.locator("form.sure button").click()
        await expect(page.locator("h1")).to_be_visible()
        await wait_until(lambda: _sent(house, "bare-1"))
        await page.goto("/admin/queues/faults")
        push = page.get_by_role("region", name="PUSH")
        await push.get_by_role("button", name="25 %").click()
        await expect(push.get_by_text("Made flaky (25 % of the calls fail)")).to_be_visible()
        await push.get_by_role("button", name="No fault any more").click()
        await expect(push.get_by_text("No fault is set.")).to_be_visible()


async def test_dead_letters_are_edited_discarded_and_cleared(visit: Visit, house: House) -> None:
    for name in ("dead-1", "dead-2"):
        await house.post(name, user="dora", channels=["EMAIL"])
        await house.done(name)
        await house.fail(name, reason="dead_letter", error="delivered 8 times")
    async with visit("/dead-letters") as page:
        await page.locator("tr", has_text="dead-1").get_by_role("link", name=re.compile("edit", re.IGNORECASE)).click()
        await page.get_by_label("Payload").fill('{"message": "mended"}')
        await page.get_by_label("Why").fill("wrong template")
        await look_at(page, "dead-letter-light-wide")
        await page.get_by_role("button", name="Save and replay").click()
        await expect(page.get_by_role("status").first).to_be_visible()
        await wait_until(lambda: _sent(house, "dead-1"))
        await page.goto("/admin/queues/mailbox?user=dora")
        await expect(page.locator(".mail .text")).to_have_text("mended")
        await page.goto("/admin/queues/dead-letters")
        await page.locator("tr", has_text="dead-2").locator("input[type=checkbox]").check()
        await page.locator("form.choose", has_text="dead-2").locator("button[value=discard-selected]").click()
        await page.get_by_label("Why").fill("of no use any more")
        await page.locator("form.sure button").click()
        await expect(page.locator(".badge")).to_contain_text(re.compile("done|finished", re.IGNORECASE))
    query = "select reason from notification where event_pk = $1"
    assert await house.pool.fetchval("select count(*) from audit where reason in ('wrong template', 'of no use any more')") == 2
    assert await house.pool.fetchval(query, await house.event_pk("dead-2")) != "dead_letter"


async def test_a_users_wishes_are_changed_and_count_from_then_on(visit: Visit, house: House) -> None:
    await house.post("wish-1", user="will")
    await house.done("wish-1")
    async with visit("/people") as page:
        await page.get_by_role("link", name="will").click()
        await page.get_by_role("checkbox", name="SMS", exact=True).uncheck()
        await page.get_by_label("Why").fill("asked on the phone")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("status").filter(has_text="Saved")).to_be_visible()
        await expect(page.get_by_role("checkbox", name="SMS", exact=True)).not_to_be_checked()
        await house.post("wish-2", user="will")
        await house.done("wish-2")
        await page.goto(f"/admin/queues/events/{await house.event_pk('wish-2')}")
        await expect(page.get_by_text("not used, the user opted out")).to_be_visible()


async def test_a_channel_is_paused_and_resumed(visit: Visit, house: House) -> None:
    async with visit() as overview, visit("/engine") as page:
        push = page.locator("tr", has=page.get_by_role("link", name="PUSH"))
        await push.get_by_role("button", name="Pause").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(dialog).to_be_hidden()
        await push.get_by_role("button", name="Pause").click()
        await dialog.get_by_label("Why").fill("the provider moves")
        assert await grave(page) == []
        await dialog.get_by_role("button", name="Pause PUSH").click()
        await expect(push).to_contain_text("the provider moves")
        await expect(overview.locator("#now")).to_contain_text(re.compile("PUSH paused .* by local: the provider moves"))

        async def held() -> str | None:
            """Has the consumer heard of it? Then what is posted stays; else it is sent at once."""
            await house.post(f"held-{await house.pool.fetchval('select count(*) from event')}", user="hal", channels=["PUSH"])
            query = "select event_id from event e join notification n on n.event_pk = e.id where n.user_id = 'hal' and not n.done"
            name: str | None = await house.pool.fetchval(f"{query} and n.created_at < now() - interval '1 s' limit 1")
            return name

        name = await wait_until(held, every_s=0.2)
        await page.goto(f"/admin/queues/events/{await house.event_pk(name)}")
        await expect(page.get_by_text("But the channel is paused by local: the provider moves")).to_be_visible()
        await page.goto("/admin/queues/engine")
        await push.get_by_role("button", name="Resume").click()
        await dialog.get_by_role("button", name="Resume PUSH").click()
        await wait_until(lambda: _sent(house, name))


# ---- who may


async def test_read_only_shows_all_and_offers_nothing(visit: Visit, another: Another) -> None:
    async with another(dashboard_read_only=True) as web, visit("/failures", web=web) as page:
        await expect(page.locator("header")).to_contain_text("read-only")
        for path in ("/failures", "/notifications?status=FAILED", "/faults", "/dead-letters", "/user?id=user_123", "/engine"):
            await page.goto(f"/admin/queues{path}")
            assert await page.locator("main form[method=post], main dialog").count() == 0, path
        answer = await page.request.post("/admin/queues/faults/set", form={"channel": "SMS", "fault": "down:0"})
        assert answer.status == 405


@pytest.mark.parametrize(("password", "acts"), [("opensesame", True), ("justlooking", False)])
async def test_sign_in_and_out(visit: Visit, another: Another, password: str, acts: bool) -> None:
    passwords = {"dashboard_password": "opensesame", "dashboard_viewer_password": "justlooking"}
    async with another(**passwords) as web, visit("/faults", web=web) as page:
        await look_at(page, "sign-in-light-wide")
        await page.get_by_label("Your name").fill("ann")
        await page.get_by_label("Password").fill("wrong")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_be_visible()
        assert await grave(page) == []
        await page.get_by_label("Password").fill(password)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.locator("h1")).to_have_text("Fault panel")
        assert bool(await page.locator("main form[method=post]").count()) == acts
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_label("Password")).to_be_visible()
        await page.goto("/admin/queues/faults")
        await expect(page.get_by_label("Password")).to_be_visible()


# ---- by keyboard, and to one's taste


async def test_by_keyboard_alone(visit: Visit, house: House) -> None:
    async with visit("/mailbox") as page:
        await page.keyboard.press("Tab")
        assert await focused(page) == "Skip to content"
        await page.keyboard.press("Enter")
        assert await page.evaluate("document.activeElement.id") == "main"
        await page.goto("/admin/queues/mailbox")
        seen = []
        for _ in range(25):
            await page.keyboard.press("Tab")
            seen.append(await focused(page))
            if seen[-1] == "Streams":
                break
        assert seen[-1] == "Streams", seen
        assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        await page.keyboard.press("Enter")
        await expect(page.locator("h1")).to_have_text("Streams")


async def focused(page: Page) -> str:
    return str(await page.evaluate("document.activeElement.innerText ?? ''")).strip()


async def test_light_or_dark_is_remembered(visit: Visit, house: House) -> None:
    async with visit(color_scheme="light") as page:
        ground = "getComputedStyle(document.body).backgroundColor"
        light, button = await page.evaluate(ground), page.locator("#theme")
        for _ in range(3):
            if await page.evaluate(ground) != light:
                break
            await button.click()
        dark = await page.evaluate(ground)
        assert dark != light
        await page.goto("/admin/queues/streams")
        assert await page.evaluate(ground) == dark


async def test_times_are_in_the_viewers_zone_with_the_instant_on_hover(visit: Visit, house: House) -> None:
    async with visit("/user?id=user_123") as page:
        time: Any = page.locator("main time").first
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d Europe/Berlin\n.*Z", await time.get_attribute("title") or "")
