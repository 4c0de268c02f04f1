"""What a person would read of an event, as a mail, a push message and an SMS."""

import json
from typing import Any

import pytest

from web.letter import SHORT_MAX, TEXT_MAX, Letter, clip, letter, phrase


def written(event_type: str, payload: Any) -> Letter:
    return letter(event_type, json.dumps(payload))


def test_an_event_becomes_its_facts() -> None:
    assert written("ORDER_PLACED", {"orderAmount": 250, "items": ["Laptop", "Mouse"], "gift": False, "note": None}) == Letter(
        "Order placed",
        "Order placed.\n\nOrder amount: 250\nItems: Laptop, Mouse\nGift: no\nNote: none",
        "Order amount 250, items Laptop, Mouse, gift no, note none",
        "Order placed: order amount 250, items Laptop, Mouse, gift no, note none",
    )


def test_a_message_is_what_was_written() -> None:
    assert written("DIRECT", {"message": "Hello Ann,\nyour parcel is here."}) == Letter(
        "Direct", "Hello Ann,\nyour parcel is here.", "Hello Ann, your parcel is here.", "Hello Ann, your parcel is here."
    )


def test_subject_and_text_may_come_with_the_event() -> None:
    told = written("x.y", {"subject": "Your invoice", "body": "It is due.", "total": {"EUR": 9.5}})
    assert (told.subject, told.text, told.sms) == ("Your invoice", 'It is due.\n\nTotal: {"EUR": 9.5}', "It is due.")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ORDER_PLACED", "Order placed"),
        ("orderPlaced", "Order placed"),
        ("com.example/order-placed", "Com example order placed"),
        ("__", ""),
        ("漢字", "漢字"),
    ],
)
def test_a_name_as_words(name: str, words: str) -> None:
    assert phrase(name) == words


@pytest.mark.parametrize("payload", ["{}", "[]", "", "{", "7", '"x"', "[" * 100_000])
def test_whatever_the_payload_is_there_is_a_letter(payload: str) -> None:
    assert letter("PING", payload) == Letter("Ping", "Ping.", "", "Ping")


def test_a_payload_that_was_cut_is_shown_as_it_is() -> None:
    assert letter("REPORT", '{"rows": [1, 2', cut=True).text == 'Report.\n\n{"rows": [1, 2'


def test_much_is_clipped() -> None:
    told = written("T" * 255, {"message": "M" * 200_000, **{f"fact{n}": "x" * 999 for n in range(500)}})
    assert len(told.subject) <= 160
    assert len(told.text) == TEXT_MAX
    assert max(len(told.sms), len(told.push)) == SHORT_MAX
    assert "and 488 more facts" in written("x", {f"fact{n}": n for n in range(500)}).text


def test_what_turns_text_around_is_made_visible() -> None:
    assert clip("a\u202eb\u0000c", 10) == "a\N{REPLACEMENT CHARACTER}b\u0000c"
