"""How one user's notifications are found, newest first: along those that lead, one of each event, or among what was not SENT."""

from sqlalchemy import BigInteger, Integer, TextualSelect, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.domain import Status

ID_MAX = 2**63 - 1

# Event by event (`offset 0`): joined at once, PostgreSQL might read all notifications to find those of one user. The ids of an
# event follow each other, so this is the order of ids.
ALONG = """
select its.id, its.attempt from notification leader cross join lateral (
  select n.id, n.attempt from notification n
  where n.event_pk = leader.event_pk and (n.id = leader.id or not n.leads) and n.id < :before{more} offset 0
) as its
where leader.user_id = :user and leader.leads and leader.id < :before
order by leader.id desc, its.id desc limit :most
"""
NOT_SENT = """
select n.id, n.attempt from notification n where n.user_id = :user and n.id < :before{more} order by n.id desc limit :most
"""
UNFINISHED = """
select n.id, n.attempt from (select id, attempt, user_id, channel, status from notification where not done offset 0) as n
where n.user_id = :user and n.id < :before{more} order by n.id desc limit :most
"""
# No index has the unfinished of a user. Both are counted up to a limit, the second one only where the first is exceeded.
SHORTER_BY_THE_UNFINISHED = """
select (select count(*) from (select from notification where user_id = :user and leads limit 1001) as many) > 1000
  and (select count(*) from (select from notification where not done limit 20001) as few) <= 20000
"""


def along(user_id: str, before_id: int | None, most: int, more: str = "", **bound: str) -> TextualSelect:
    """`id` and `attempt` of the newest `most`, of those below `before_id`, where given, for which `more` holds."""
    return _query(ALONG, user_id, before_id, most, more, bound)


async def newest(
    session: AsyncSession, user_id: str, status: str | None, channel: str | None, before_id: int | None, most: int
) -> TextualSelect:
    """The same, of one status or channel where given: the statement that finds them quickest."""
    more = "" if channel is None else " and n.channel = :channel"
    bound = {} if channel is None else {"channel": channel}
    if status is None:
        return along(user_id, before_id, most, more, **bound)
    if not Status(status).final:
        more, bound = f"{more} and n.status = :status", {**bound, "status": status}
        shorter = await session.scalar(text(SHORTER_BY_THE_UNFINISHED), {"user": user_id})
        return _query(UNFINISHED if shorter else ALONG, user_id, before_id, most, more, bound)
    more = f"{more} and n.final_status = '{Status(status)}'"
    return _query(ALONG if status == Status.SENT else NOT_SENT, user_id, before_id, most, more, bound)


def _query(statement: str, user_id: str, before_id: int | None, most: int, more: str, bound: dict[str, str]) -> TextualSelect:
    before = ID_MAX if before_id is None else before_id
    values = text(statement.format(more=more)).bindparams(user=user_id, before=before, most=most, **bound)
    return values.columns(id=BigInteger, attempt=Integer)
