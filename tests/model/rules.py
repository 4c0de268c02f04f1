"""The rules of the protocol, each of which a run can do without, and its times, which follow from the product's own settings."""

from app.domain import Channel
from app.settings import load_settings

RULES = {
    "relay": "somebody publishes again what is owed and no stream carries",
    "reclaim": "entries whose idle time passed the window are taken over",
    "fence": "a finish counts only under the attempt number that its claim was given",
    "lease": "nobody claims what is under somebody's live lease",
    "at": "the watermark is the published_at inside the oldest entry, not its Redis id",
    "group_head": "the watermark asks the group (pending or unread); entries that are neither are removed",
    "before": "the relay reads PostgreSQL's clock before it reads Redis, and uses that value, not a later now()",
    "late_add": "an XADD that would come late after its published_at is left to the relay",
    "reidle": "not due yet, or busy: put back with the time that is left, not with a whole window",
    "dead_final": "a dead letter ends its row (event or notification) first",
    "count": "every handled end sets the delivery count to 0: the limit counts deliveries that ended in silence",
    "alone": "an entry delivered more than twice is handled alone; its neighbours go back uncounted",
    "route_once": "notifications and ROUTED are one transaction, guarded by status NEW",
    "judged": "an event is judged as it is routed, too: what was parked, or expired, since the look is passed over",
    "charge_once": "the rate limit remembers which event it charged",
    "tries": "tries (reset by replay, given back by release) apart from attempt (only grows)",
    "resume": "a claim whose answer was lost is resumed by the same consumer while its lease lives",
    "in_hand": "a row is in one consumer's hand once: a second entry of it waits",
    "late_truth": "a late finish or release under the same attempt turns UNKNOWN into what really happened",
    "replaced": "a late truth about an attempt that was replaced is told in that attempt's row",
    "hold": "PostgreSQL away: the call is repeated, and what is in hand is kept",
    "calm": "for a moment after PostgreSQL was away nobody applies the crash rule",
    "ambiguous": "time limit or lost reply is outcome unknown: the channel's crash policy decides",
    "fresh": "no send under a lease that could end in mid-send",
    "release": "a claim that is no longer fresh is given back: nothing was sent",
    "expiry": "what expired is neither claimed nor repeated by the crash rule",
    "claimed": "who routes, defers or ends an event leaves alone what somebody claimed to send it at once",
    "own": "a claim of an event whose answer was lost is found again by who asked",
    "kept": "the entry of a claimed event stays pending until its notifications are written",
    "snapshot": "what ends while an event is being written does not count as written with it",
    "waits": "and is recorded once that was answered: until then there may be no row",
    "passed": "all ends of an event that was passed over as it was to be written are recorded one by one",
    "taken_over": "what another has claimed begins as claimed where its event is taken over, and not as new: it may be sent",
    "ids": "and with the ids that they have for who claimed it",
    "dead_claimed": "a dead letter that is claimed is taken over as well, before it would end",
    "event_lease": "the relay does not publish an event under a live lease: it is being sent",
    "parked": "what is written or taken over under its lease is parked: it is owed when that is over, whatever is on its stream",
    "mine": "what came into the hand another way, while who routed it stood still, is not begun once more",
    "on_stream": "a retry of what is on no stream goes there as soon as it is recorded",
    "let_go": "and leaves the hand first, or its entry would be one of a row in hand",
    "dated": "and that record says when it was published: the relay need not",
    "due_now": "what is given back is due now, not when its lease would have ended",
    "asked": "what a read or a reclaim under way may bring has its slots, and is claimed by nobody who routes",
    "step_back": "Redis' clock stepped back: one round takes back everything pending",
}
ALL = frozenset(RULES)

CHANNELS = (Channel.EMAIL, Channel.SMS)
WAITS_S = (0, 3, 9, 45)  # the last is parked
SETTINGS = load_settings(
    _env_file=None,
    reclaim_after_s=20,
    redis_timeout_s=1,
    provider_timeout_s=None,
    max_deliveries=5,
    retry_jitter=0.2,
    email_waits_s=WAITS_S,
    sms_waits_s=WAITS_S,
    email_crash_policy="at_least_once",
    sms_crash_policy="at_most_once",
    rate_limit_per_user=3,
    rate_limit_window_s=20,
)
POLICIES = {channel: SETTINGS.channel_policy(channel) for channel in CHANNELS}
RECLAIM_AFTER_S = SETTINGS.reclaim_after_s

ANSWER_S = (0.0, 0.0, 0.0, SETTINGS.redis_timeout_s / 2)  # what an answer of Redis takes: others act meanwhile
LINGER_S = 2.0  # an event is written by then, whatever calls are under way
FIRST_ATTEMPT = 1
SLOTS = 3  # entries in one consumer's hand
FAULTS_UNTIL_S = 120.0
SLOW_S = 15 * RECLAIM_AFTER_S  # two poison entries, one after the other
QUIET_S = 3 * SLOW_S
