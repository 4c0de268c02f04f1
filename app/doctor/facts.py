"""What doctor knows about the world at one moment. Records only: gathered by gather.py, judged by the files beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from app.domain import Channel
from app.pauses import Pause
from app.store.hold import Hold
from app.stream_stats import StreamStats


class Cause(StrEnum):
    """Why a server gave no answer."""

    URL = "url"  # its address cannot be understood
    REFUSED = "refused"  # nobody listens there, or it hung up
    LOGIN = "login"  # it does not let us in
    NO_DATABASE = "no database"
    LATE = "late"


@dataclass(frozen=True, slots=True)
class Away:
    """A server that gave no answer. `says` is its own word, without passwords."""

    cause: Cause
    says: str


@dataclass(frozen=True, slots=True)
class Clock:
    """How far a server's clock is ahead of this host's, give or take `within_s` (half the time that asking took)."""

    ahead_s: float
    within_s: float


@dataclass(frozen=True, slots=True)
class PostgresFacts:
    """`version` as in server_version_num. `read_only_by`: where a session's read-only default comes from (pg_settings.source),
    None: it may write. `denied`: tables that this role may not change. `differences`: what app.schema.check found.
    """

    version: int
    database: str
    role: str
    standby: bool
    read_only_by: str | None
    denied: tuple[str, ...]
    differences: tuple[str, ...]
    clock: Clock
    url: str  # for a shell: quoted, or "$DATABASE_URL" where it holds a password
    holds: Mapping[Channel, Hold] = field(default_factory=dict)  # channels that are paused by hand


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """`name` is Valkey or Redis, `version` its own. Memory in bytes, `memory_max` 0: no limit.

    `save`: the points at which it saves a snapshot, "" never, None: it does not tell.
    """

    name: str
    version: tuple[int, ...]
    replica: bool
    eviction: str
    memory: int
    memory_max: int
    append_only: bool
    save: str | None
    last_write_ok: bool
    clock: Clock


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """`types` by key as Redis' TYPE says it: stream, none, or what should not be there.

    `stats` None: cannot be read beside a key of the wrong type. `pending_idle_s`: the longest idle time among the oldest
    pending entries of a stream. `pauses`: channels whose provider does not answer, as app/pauses.py tells them.
    """

    types: Mapping[str, str]
    stats: list[StreamStats] | None
    pending_idle_s: Mapping[str, float]
    pauses: Mapping[Channel, Sequence[Pause]] = field(default_factory=dict)


class PortState(StrEnum):
    OURS = "ours"
    FREE = "free"
    TAKEN = "taken"  # something else answers, or is bound there
    UNUSABLE = "unusable"  # the system does not let us listen


@dataclass(frozen=True, slots=True)
class PortFacts:
    """The port of one part. `setting` names it, `command` starts it; `other_port` is free; `problem` is the system's word."""

    part: str
    setting: str
    command: str
    url: str
    port: int
    state: PortState
    problem: str | None
    other_port: int


@dataclass(frozen=True, slots=True)
class Facts:
    postgres: PostgresFacts | Away
    redis: RedisFacts | Away
    streams: StreamFacts | Away
    ports: tuple[PortFacts, ...]
