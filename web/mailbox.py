"""The mailbox for development: what the simulated providers "sent", as a person would see it. Records by pure functions."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from app.addresses import api_url, curl_command, sample_event
from app.domain import Channel
from app.settings import SIMULATED, Settings
from web import links, sql
from web.away import Away
from web.fault_words import Faults, fault_sentences
from web.letter import clip, letter
from web.listing import Choice
from web.mailbox_queries import LOOKED_AT, PAYLOAD_CHARS, WAITING_ROWS, MailFilter, MailRows, Sent
from web.parts import Command, Moment, moment
from web.words import duration, number, plural

REFRESH_S = 2


@dataclass(frozen=True, slots=True)
class Mail:
    """One message that was "sent". `twice`: why the person may have it twice; empty: surely once."""

    id: int
    user: str
    user_link: str
    to: str
    when: Moment
    subject: str
    text: str
    push: str
    sms: str
    story_link: str
    event_id: str
    how: str
    twice: str


@dataclass(frozen=True, slots=True)
class Mailbox:
    """What was sent, per channel, the latest first. `curl` is the line to try where there is nothing yet.

    `all_links` None: one channel alone is shown, page by page.
    """

    title: str
    refresh_s: int | None
    user: str
    channels: tuple[Choice, ...]
    filtered: bool
    mails: tuple[Mail, ...]
    texts: tuple[Mail, ...]
    pushes: tuple[Mail, ...]
    waiting: str
    waiting_link: str
    faults: tuple[str, ...]
    notes: tuple[str, ...]
    problem: str
    curl: str
    all_links: tuple[str, str, str] | None
    older: str | None
    newest: str | None
    commands: tuple[Command, ...]


def mailbox(settings: Settings, wanted: MailFilter, rows: MailRows | Away, faults: Faults | Away, now: datetime) -> Mailbox:
    """`now` counts where PostgreSQL did not answer."""
    answered = None if isinstance(rows, Away) else rows
    at = answered.now if answered else now
    sent = sorted(answered.sent, key=lambda s: s.ended_at, reverse=True) if answered else []
    chosen = {"user": wanted.user, "channel": wanted.channel}
    older = answered.next_before if answered else None
    return Mailbox(
        title="Mailbox",
        refresh_s=REFRESH_S if wanted.before is None else None,
        user=wanted.user or "",
        channels=tuple(Choice(c, c == wanted.channel) for c in Channel),
        filtered=wanted.user is not None or wanted.channel is not None,
        mails=_of(sent, Channel.EMAIL, at),
        texts=_of(sent, Channel.SMS, at),
        pushes=_of(sent, Channel.PUSH, at),
        waiting=waiting_words(answered.waiting) if answered else "",
        waiting_link=links.notifications(status="PENDING"),
        faults=() if isinstance(faults, Away) else tuple(fault_sentences(faults, at)),
        notes=tuple(_notes(settings, older is not None and not sent)),
        problem=rows.sentence if isinstance(rows, Away) else "",
        curl=curl_command(api_url(settings), sample_event(f"try-{at:%H%M%S}", wanted.user or "user_123", "ORDER_PLACED", at)),
        all_links=None if wanted.channel else _all_links(wanted),
        older=links.mailbox(**chosen, before=older) if older is not None else None,
        newest=links.mailbox(**chosen) if wanted.before is not None else None,
        commands=sql.mailbox(),
    )


def waiting_words(waiting: dict[str, int]) -> str:
    """What is not sent yet, in a sentence; empty where there is nothing."""
    parts = [f"{number(n)}{' or more' if n >= WAITING_ROWS else ''} {channel}" for channel, n in sorted(waiting.items())]
    return f"On the way, or waiting for another try: {', '.join(parts)}." if parts else ""


def mail(sent: Sent, now: datetime) -> Mail:
    """One message as a person would see it."""
    cut = len(sent.payload) > PAYLOAD_CHARS
    told = letter(sent.event_type, sent.payload[:PAYLOAD_CHARS], cut)
    return Mail(
        id=sent.id,
        user=clip(sent.user_id, 80),
        user_link=links.user(sent.user_id),
        to=clip(sent.address or sent.user_id, 120),
        when=moment(sent.ended_at, now),
        subject=told.subject,
        text=told.text,
        push=told.push,
        sms=told.sms,
        story_link=links.story(sent.event_pk),
        event_id=clip(sent.event_id, 80),
        how=_how(sent),
        twice="Sent again after a try of which nobody knows whether it arrived" if sent.possible_duplicate else "",
    )


def _all_links(wanted: MailFilter) -> tuple[str, str, str]:
    """To all mails, all SMS, all push messages."""
    email, sms, push = (links.mailbox(user=wanted.user, channel=channel) for channel in Channel)
    return email, sms, push


def _of(sent: list[Sent], channel: Channel, now: datetime) -> tuple[Mail, ...]:
    return tuple(mail(s, now) for s in sent if s.channel == channel)


def _how(sent: Sent) -> str:
    took = duration((sent.ended_at - sent.started_at).total_seconds())
    return f"took {took}" if sent.attempt == 1 else f"attempt {sent.attempt}, took {took}"


def _notes(settings: Settings, only_looked: bool) -> Iterator[str]:
    real = [channel for channel in Channel if settings.channel_policy(channel).provider != SIMULATED]
    if real:
        names = " and ".join(real)
        yield f"{names}: sent for real, by the address in {', '.join(f'{c}_PROVIDER' for c in real)}, so not shown here."
    if only_looked:
        yield f"Nothing among the {plural(LOOKED_AT, 'notification')} looked at for this page; the link below goes on."
