"""Second entries of what is on a stream already: a repeated XADD, a failover."""

from app import streams
from app.domain import Channel, Outgoing
from app.resources import Resources
from app.streams import EVENTS, channel_stream


async def double(resources: Resources) -> None:
    """A second entry of every unfinished notification, as a repeated XADD leaves it."""
    await _publish_again(
        resources,
        "select n.id, channel, n.published_at, event_id, e.user_id, type from notification n join event e on e.id = event_pk "
        "where not n.done and n.published_at is not null",
    )


async def double_events(resources: Resources) -> None:
    """A second entry of every event that is not routed, or has unfinished notifications, as after a failover."""
    await _publish_again(
        resources,
        "select id, null as channel, published_at, event_id, user_id, type from event where published_at is not null and "
        "(not done or id in (select event_pk from notification where not done))",
    )


async def _publish_again(resources: Resources, select: str) -> None:
    for r in await resources.pool.fetch(select):
        out = Outgoing(r["id"], r["event_id"], r["user_id"], r["type"], r["published_at"])
        stream = EVENTS if r["channel"] is None else channel_stream(Channel(r["channel"]))
        await streams.publish(resources.redis, stream, [out])
