"""The words of the domain: which channels an event takes, and where a status may go."""

import pytest

from app.domain import EVENT_MOVES, MOVES, Channel, Decision, DecisionReason, EventStatus, Preference, Status, decide_channels

EMAIL, SMS, PUSH = Channel
NOBODY_ASKED = None
NOTHING_STORED = None
QUIET = Preference(email=False, sms=False, push=False)
YES, IN = Decision(True, DecisionReason.DEFAULT), Decision(True, DecisionReason.OPTED_IN)
OUT, UNASKED = Decision(False, DecisionReason.OPTED_OUT), Decision(False, DecisionReason.NOT_REQUESTED)


@pytest.mark.parametrize(
    ("asked", "preference", "email", "sms", "push"),
    [
        (NOBODY_ASKED, NOTHING_STORED, YES, YES, YES),
        (NOBODY_ASKED, Preference(), IN, IN, IN),
        (NOBODY_ASKED, Preference(sms=False), IN, OUT, IN),
        (NOBODY_ASKED, QUIET, OUT, OUT, OUT),
        ((SMS,), NOTHING_STORED, UNASKED, YES, UNASKED),
        ((SMS, PUSH), Preference(push=False), UNASKED, IN, OUT),
        ((EMAIL,), QUIET, OUT, UNASKED, UNASKED),  # the user has the last word
        ((), NOTHING_STORED, UNASKED, UNASKED, UNASKED),
    ],
)
def test_a_channel_is_used_if_it_was_asked_for_and_the_user_wants_it(
    asked: tuple[Channel, ...] | None, preference: Preference | None, email: Decision, sms: Decision, push: Decision
) -> None:
    assert decide_channels(asked, preference) == {EMAIL: email, SMS: sms, PUSH: push}


def test_a_final_status_is_one_that_only_an_operator_or_a_late_truth_can_leave() -> None:
    assert {status for status in Status if status.final} == {Status.SENT, Status.FAILED, Status.UNKNOWN, Status.CANCELLED}
    by_machine = {now for was in (Status.PENDING, Status.PROCESSING) for now in MOVES[was]}
    assert by_machine == set(Status), "everything can be reached from the start"


def test_what_was_sent_or_cancelled_stays_so() -> None:
    assert [status for status, nexts in MOVES.items() if not nexts] == [Status.SENT, Status.CANCELLED]
    assert [status for status, nexts in EVENT_MOVES.items() if not nexts] == [EventStatus.ROUTED, EventStatus.CANCELLED]


def test_every_status_has_its_moves() -> None:
    assert set(MOVES) == set(Status)
    assert set(EVENT_MOVES) == set(EventStatus)


def test_only_a_claim_leads_to_processing() -> None:
    """The first claim from PENDING, a crash claim from PROCESSING itself: nothing that ended is sent without going back first."""
    assert {was for was, nexts in MOVES.items() if Status.PROCESSING in nexts} == {Status.PENDING, Status.PROCESSING}
