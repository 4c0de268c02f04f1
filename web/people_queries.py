"""Who was told something lately: the users of the newest notifications. Read only, bounded in rows."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from web.queries import reading

NEWEST_ROWS = 2_000
PEOPLE_SHOWN = 100

PEOPLE = """
select n.user_id, count(*) as told, count(*) filter (where n.final_status in ('FAILED', 'UNKNOWN')) as bad,
  max(n.created_at) as last_at, p.email_opt_in, p.sms_opt_in, p.push_opt_in
from (select id, user_id, final_status, created_at from notification order by id desc limit :newest) as n
left join preference p using (user_id)
group by n.user_id, p.user_id order by max(n.id) desc limit :most
"""


class Person(NamedTuple):
    """One user among the newest notifications. The last three are None where no preference is stored."""

    user_id: str
    told: int
    bad: int
    last_at: datetime
    email: bool | None
    sms: bool | None
    push: bool | None


class People(NamedTuple):
    now: datetime
    people: list[Person]


async def people(engine: AsyncEngine) -> People:
    """Those who were told something last come first."""
    async with reading(engine) as (session, now):
        rows = await session.execute(text(PEOPLE), {"newest": NEWEST_ROWS, "most": PEOPLE_SHOWN})
        return People(now, [Person(*row) for row in rows])
