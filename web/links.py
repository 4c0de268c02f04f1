"""The dashboard's addresses, and the Redis commands behind its numbers. Pure."""

import shlex
from collections.abc import Mapping
from urllib.parse import urlencode

from app.addresses import DASHBOARD_PATH
from app.streams import GROUP, fault_key

BASE = DASHBOARD_PATH
STREAMS = f"{BASE}/streams"
LIVE = f"{BASE}/live"
RATES = f"{BASE}/rates"
SEARCH = f"{BASE}/search"
NOTIFICATIONS = f"{BASE}/notifications"
ACT = f"{NOTIFICATIONS}/act"
JOBS = f"{BASE}/jobs"
USER = f"{BASE}/user"
PREFERENCES = f"{USER}/preferences"
PEOPLE = f"{BASE}/people"
RETRIES = f"{BASE}/retries"
FAILURES = f"{BASE}/failures"
DEAD_LETTERS = f"{BASE}/dead-letters"
DEAD_EVENTS = f"{DEAD_LETTERS}/events"
DEAD_ENTRIES = f"{DEAD_LETTERS}/entries"
CONSISTENCY = f"{BASE}/consistency"
AUDIT = f"{BASE}/audit"
ENGINE = f"{BASE}/engine"
PAUSE = f"{ENGINE}/pause"
RESUME = f"{ENGINE}/resume"
SIGN_IN = f"{BASE}/sign-in"
SIGN_OUT = f"{BASE}/sign-out"
MAILBOX = f"{BASE}/mailbox"
FAULTS = f"{BASE}/faults"
FAULT = f"{FAULTS}/set"
STATIC = "/static"
PATH_MAX = 2_000  # characters of a page to go back to
# The navigation: groups of pages. The page whose title (or `section`, where its record has one) is a name is the current one.
PAGES = (
    (
        "Now",
        (("Overview", BASE), ("Streams", STREAMS)),
    ),
    (
        "Messages",
        (
            ("Notifications", NOTIFICATIONS),
            ("Failures", FAILURES),
            ("Retries", RETRIES),
            ("Dead letters", DEAD_LETTERS),
            ("People", PEOPLE),
        ),
    ),
    (
        "System",
        (
            ("Does it add up?", CONSISTENCY),
            ("Engine", ENGINE),
            ("Audit", AUDIT),
        ),
    ),
    (
        "Development",
        (("Mailbox", MAILBOX), ("Fault panel", FAULTS)),
    ),
)


def overview(**wanted: object) -> str:
    """The overview with charts of a range."""
    return _with_query(BASE, wanted)


def stream(key: str, **wanted: object) -> str:
    """One stream, by the last part of its key."""
    return _with_query(f"{STREAMS}/{key.rpartition(':')[2]}", wanted)


def search(text: str) -> str:
    """To what has this id."""
    return _with_query(SEARCH, {"q": text})


def story(event_pk: int) -> str:
    """The story of one event, by its row's id."""
    return f"{BASE}/events/{event_pk}"


def notifications(**wanted: object) -> str:
    """The list with the filters that are set; the others are left out."""
    return _with_query(NOTIFICATIONS, wanted)


def act(do: str, **wanted: object) -> str:
    """The page that asks before something is done to what is filtered; `do` as in web/acts.py."""
    return _with_query(ACT, {"do": do, **wanted})


def job(job_id: str) -> str:
    """How far one action on many rows has come."""
    return f"{JOBS}/{job_id}"


def user(user_id: str, **more: object) -> str:
    """One user's page."""
    return _with_query(USER, {"id": user_id, **more})


def failures(**wanted: object) -> str:
    """The failures with the filters that are set."""
    return _with_query(FAILURES, wanted)


def dead_letters(**wanted: object) -> str:
    return _with_query(DEAD_LETTERS, wanted)


def sign_in(back: str) -> str:
    """The sign-in page, and where to go from there."""
    return _with_query(SIGN_IN, {"next": own_path(back)})


def own_path(path: str) -> str:
    """A page of the dashboard; the overview, where `path` is no such page (another site's, say)."""
    inside = path == BASE or path.startswith((f"{BASE}/", f"{BASE}?"))
    plain = path.isprintable() and "\\" not in path and len(path) <= PATH_MAX
    return path if inside and plain and not path.startswith((SIGN_IN, SIGN_OUT)) else BASE


def engine(**wanted: object) -> str:
    """Settings and engine, with what a click did."""
    return _with_query(ENGINE, wanted)


def audit(**wanted: object) -> str:
    """The log of actions with the filters that are set."""
    return _with_query(AUDIT, wanted)


def mailbox(**wanted: object) -> str:
    """What the simulated providers sent, with the filters that are set."""
    return _with_query(MAILBOX, wanted)


def faults(**told: object) -> str:
    """The fault panel, with what just happened."""
    return _with_query(FAULTS, told)


def fault_key_quoted(channel: str) -> str:
    """The key of a channel's fault, for a shell."""
    return shlex.quote(fault_key(channel))


def dead_letter(kind: str, number: int) -> str:
    """One dead event or notification, to edit."""
    return f"{DEAD_LETTERS}/{kind}/{number}"


def length_command(cli: str, stream: str) -> str:
    """`cli` is what reaches the server: redis-cli with its options."""
    return f"{cli} XLEN {shlex.quote(stream)}"


def group_command(cli: str, stream: str) -> str:
    """Lag, pending and more of the group."""
    return f"{cli} XINFO GROUPS {shlex.quote(stream)}"


def consumers_command(cli: str, stream: str) -> str:
    """Name, pending and idle time of each consumer."""
    return f"{cli} XINFO CONSUMERS {shlex.quote(stream)} {GROUP}"


def oldest_command(cli: str, stream: str) -> str:
    """The oldest entry; its id starts with the millisecond it was added, to be held against TIME."""
    return f"{cli} XRANGE {shlex.quote(stream)} - + COUNT 1"


def unread_command(cli: str, stream: str) -> str:
    """The first entry that nobody has read: after the group's last-delivered-id."""
    return f"{cli} XRANGE {shlex.quote(stream)} '(LAST-DELIVERED-ID' + COUNT 1"


def pending_command(cli: str, stream: str, most: int) -> str:
    """The oldest pending entries, each with its consumer, idle time in ms and deliveries."""
    return f"{cli} XPENDING {shlex.quote(stream)} {GROUP} - + {most}"


def entries_command(cli: str, stream: str, most: int = 25) -> str:
    return f"{cli} XRANGE {shlex.quote(stream)} - + COUNT {most}"


def _with_query(path: str, wanted: Mapping[str, object]) -> str:
    query = urlencode({name: str(value) for name, value in wanted.items() if value not in (None, "")})
    return f"{path}?{query}" if query else path
