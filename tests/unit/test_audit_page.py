"""The log of actions, with ready-made data."""

from typing import Any

import pytest

from app.models import Audit
from tests.unit.ready_made import HOSTILE, NOW, ago
from tests.unit.test_pages import NO_POSTGRESQL, render
from web.audit import parse_audit
from web.audit_page import audit_page
from web.audit_queries import AuditFilter, AuditRows


def row(**other: Any) -> Audit:
    """Ann replayed 1,234 notifications a minute ago."""
    known = {
        "id": 9, "at": ago(60), "who": "ann", "role": "operator", "action": "replay", "target": "FAILED EMAIL",
        "count": 1234, "reason": "the provider is back", "detail": {"ratePerS": 100},
    }  # fmt: skip
    return Audit(**{**known, **other})


def test_who_what_why() -> None:
    document = render(audit_page(AuditFilter(), AuditRows(NOW, [row()], next_before=9)))
    assert "1 min ago" in document.text
    assert 'ann operator replay FAILED EMAIL {"ratePerS":100} 1,234 the provider is back' in document.text
    links = document.attributes("a", "href")
    assert {"/admin/queues/audit?who=ann", "/admin/queues/audit?action=replay", "/admin/queues/audit?before=9"} <= set(links)


def test_nothing_was_done() -> None:
    assert "Nobody has changed anything by hand yet." in render(audit_page(AuditFilter(), AuditRows(NOW, []))).text
    assert "Nothing was done that fits." in render(audit_page(AuditFilter(who="ann"), AuditRows(NOW, []))).text


def test_postgresql_away() -> None:
    assert "PostgreSQL cannot be reached." in render(audit_page(AuditFilter(), NO_POSTGRESQL)).text


def test_hostile_text_is_shown_and_never_markup() -> None:
    text = dict.fromkeys(("who", "role", "action", "target", "reason"), HOSTILE)
    document = render(audit_page(AuditFilter(HOSTILE, HOSTILE), AuditRows(NOW, [row(**text, detail={HOSTILE: HOSTILE * 99})])))
    assert all(src.startswith("/static/") for src in document.attributes("script", "src"))
    assert document.text.count("<script>alert(1)</script>") >= 6
    assert f"who = '{HOSTILE.replace(chr(39), chr(39) * 2)}'" in document.text
    assert len(document.text) < 5_000


@pytest.mark.parametrize("asked", [{}, {"who": " ", "before": "x"}, {"before": "-1", "action": ""}, {"before": str(2**70)}])
def test_what_cannot_be_understood_is_not_asked(asked: dict[str, str]) -> None:
    assert parse_audit(asked) == AuditFilter()
