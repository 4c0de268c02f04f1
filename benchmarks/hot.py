"""Which updates stay on their page and touch no index (HOT), as PostgreSQL counts them: of what is sent at once, and of what goes
over the streams.

There a consumer killed while every notification is at its provider shows what routing and claims did; one that finishes shows it
all.
"""

from benchmarks.measure import until
from benchmarks.servers import Place, Servers, fresh_place
from benchmarks.tidings import Tidings

SLOW = {f"simulated_{channel}_latency_ms": 60_000 for channel in ("email", "sms", "push")}
ROOM = {f"{channel}_concurrency": 10_000 for channel in ("email", "sms", "push")}
# What a limit counts is never sent at once.
OVER_STREAMS = {f"{channel}_max_per_s": 1_000_000 for channel in ("email", "sms", "push")}
UPDATES = "select relname, n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where n_tup_upd > 0"

Updates = dict[str, tuple[int, int]]  # table -> updates, and how many of them were HOT


async def hot_updates(servers: Servers, events: int) -> dict[str, float]:
    """Updates per event, and the share of them that is HOT, of: event at once; event, notification (claim, then finish)."""
    at_once = await _updates(servers, Tidings(settings=ROOM), events, "SENT")
    begun = await _updates(
        servers, Tidings(settings={**SLOW, **ROOM, **OVER_STREAMS, "provider_timeout_s": 25}), events, "PROCESSING"
    )
    ended = await _updates(servers, Tidings(settings={**ROOM, **OVER_STREAMS}), events, "SENT")
    claims, all_of_them = begun.get("notification", (0, 0)), ended.get("notification", (0, 0))
    finishes = (all_of_them[0] - claims[0], all_of_them[1] - claims[1])
    steps = {"at once": at_once.get("event", (0, 0)), "routing": ended.get("event", (0, 0)), "claim": claims, "finish": finishes}
    return {
        name: value
        for step, (updates, hot) in steps.items()
        for name, value in ((f"{step} updates", updates / events), (f"{step} HOT", hot / updates if updates else 0.0))
    }


async def _updates(servers: Servers, tidings: Tidings, events: int, status: str) -> Updates:
    """Once every notification has this status, and the sessions that did it have ended and told their counts."""
    count = f"select count(*) = {3 * events} from notification where status = '{status}'"  # noqa: S608
    async with fresh_place(servers, tidings.template) as place:
        await tidings.store(place, events)
        with tidings.workers(place, 1):
            await until(lambda: tidings.ready(place, 1), "no consumer")
            await tidings.release(place, range(1, events + 1))
            await until(lambda: place.database.fetchval(count), f"not all are {status}")
        await until(lambda: _alone(place), "sessions do not end")
        rows = await place.database.fetch(UPDATES)
        return {row["relname"]: (row["n_tup_upd"], row["n_tup_hot_upd"]) for row in rows}


async def _alone(place: Place) -> bool:
    sessions = "select count(*) from pg_stat_activity where datname = current_database() and backend_type = 'client backend'"
    return bool(await place.database.fetchval(sessions) == 1)
