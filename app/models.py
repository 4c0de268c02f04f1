"""One SQLModel class per table of schema.sql, for reading and for the schema check. Rows are written by `app/store`."""

from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Boolean, Column, Computed, DateTime, Identity, LargeBinary, Text
from sqlalchemy.dialects.postgresql import JSON, JSONB
from sqlmodel import Field, SQLModel


def _key() -> Any:
    return Field(default=None, sa_column=Column("id", BigInteger, Identity(always=True), primary_key=True))


def _instant(**column: Any) -> Any:
    return Field(default=None, sa_type=DateTime(timezone=True), **column)


def _text(**column: Any) -> Any:
    return Field(default=None, sa_type=Text, **column)


def _computed(sa_type: Any) -> Any:
    return Field(default=None, sa_type=sa_type, sa_column_args=(Computed("", persisted=True),))


class Event(SQLModel, table=True):
    id: int = _key()
    source: str = _text()
    event_id: str = _text()
    type: str = _text()
    user_id: str = _text()
    payload: dict[str, Any] = Field(sa_type=JSON)
    occurred_at: datetime = _instant()
    body_hash: bytes = Field(sa_type=LargeBinary)
    channels: list[str] | None = Field(default=None, sa_type=ARRAY(Text))
    status: str = _text()
    reason: str | None = _text()
    error: str | None = _text()
    decisions: dict[str, Any] | None = Field(default=None, sa_type=JSONB)
    send_at: datetime | None = _instant()
    due_at: datetime = _instant()
    published_at: datetime | None = _instant()
    expires_at: datetime | None = _instant()
    claimed_by: str | None = _text()
    claimed_at: datetime | None = _instant()
    lease_until: datetime | None = _instant()
    first_id: int | None = Field(default=None, sa_type=BigInteger)
    created_at: datetime = _instant()
    updated_at: datetime = _instant()
    done: bool | None = _computed(Boolean)
    final_status: str | None = _computed(Text)


class Notification(SQLModel, table=True):
    id: int = _key()
    event_pk: int = Field(sa_type=BigInteger)
    channel: str = _text()
    user_id: str = _text()
    leads: bool = True
    address: str | None = _text()
    status: str = _text()
    reason: str | None = _text()
    error: str | None = _text()
    attempt: int = 0
    tries: int = 0
    replays: int = 0
    possible_duplicate: bool = False
    claimed_by: str | None = _text()
    claimed_at: datetime | None = _instant()
    lease_until: datetime | None = _instant()
    due_at: datetime = _instant()
    published_at: datetime | None = _instant()
    expires_at: datetime | None = _instant()
    created_at: datetime = _instant()
    updated_at: datetime = _instant()
    done: bool | None = _computed(Boolean)
    final_status: str | None = _computed(Text)


class Attempt(SQLModel, table=True):
    notification_id: int = Field(sa_type=BigInteger, primary_key=True, sa_column_kwargs={"autoincrement": False})
    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    provider: str | None = _text()
    consumer: str = _text()
    started_at: datetime = _instant()
    ended_at: datetime = _instant()
    outcome: str = _text()
    error: str | None = _text()
    receipt: str | None = _text()
    possible_duplicate: bool = False


class Preference(SQLModel, table=True):
    user_id: str = _text(primary_key=True)
    email_opt_in: bool = True
    sms_opt_in: bool = True
    push_opt_in: bool = True
    created_at: datetime = _instant()
    updated_at: datetime = _instant()


class IdempotencyKey(SQLModel, table=True):
    __tablename__ = "idempotency_key"

    scope: str = _text(primary_key=True)
    key: str = _text(primary_key=True)
    body_hash: bytes = Field(sa_type=LargeBinary)
    status: int | None = None
    response: str | None = _text()
    created_at: datetime = _instant()


class Tally(SQLModel, table=True):
    width_s: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    started_at: datetime = Field(sa_type=DateTime(timezone=True), primary_key=True)
    channel: str = _text(primary_key=True)
    kind: str = _text(primary_key=True)
    bin: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    n: int = Field(sa_type=BigInteger)


class Audit(SQLModel, table=True):
    id: int = _key()
    at: datetime = _instant()
    who: str = _text()
    role: str = _text()
    action: str = _text()
    target: str = _text()
    count: int | None = Field(default=None, sa_type=BigInteger)
    reason: str = _text()
    detail: dict[str, Any] | None = Field(default=None, sa_type=JSONB)


class ChannelPause(SQLModel, table=True):
    __tablename__ = "channel_pause"

    channel: str = _text(primary_key=True)
    since: datetime = _instant()
    by: str = _text()
    reason: str = _text()
