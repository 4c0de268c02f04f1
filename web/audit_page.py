"""The log of actions as a page: who did what, to what, to how many, and why. Pure."""

from dataclasses import dataclass

import orjson

from app.models import Audit
from web import links, sql, words
from web.audit_queries import AuditFilter, AuditRows
from web.away import Away
from web.parts import Command, Moment, moment

DETAIL_CHARS = 1_000


@dataclass(frozen=True, slots=True)
class ActionLine:
    """One action. `who_link` and `action_link` show only these."""

    at: Moment
    who: str
    who_link: str
    role: str
    action: str
    action_link: str
    target: str
    count: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class AuditPage:
    title: str
    refresh_s: int | None
    who: str
    action: str
    lines: tuple[ActionLine, ...]
    problem: str
    older: str | None
    newest: str | None
    commands: tuple[Command, ...]


def audit_page(wanted: AuditFilter, rows: AuditRows | Away) -> AuditPage:
    """The page, from its rows or from why there are none."""
    read = None if isinstance(rows, Away) else rows
    chosen = {"who": wanted.who, "action": wanted.action}
    older = read.next_before if read else None
    return AuditPage(
        title="Audit",
        refresh_s=None,
        who=wanted.who or "",
        action=wanted.action or "",
        lines=tuple(_line(row, read) for row in read.rows) if read else (),
        problem=rows.sentence if isinstance(rows, Away) else "",
        older=links.audit(**chosen, before=older) if older is not None else None,
        newest=links.audit(**chosen) if wanted.before is not None else None,
        commands=sql.audit(wanted.who, wanted.action),
    )


def _line(row: Audit, read: AuditRows) -> ActionLine:
    return ActionLine(
        at=moment(row.at, read.now),
        who=row.who,
        who_link=links.audit(who=row.who),
        role=row.role,
        action=row.action,
        action_link=links.audit(action=row.action),
        target=row.target,
        count="" if row.count is None else words.number(row.count),
        reason=row.reason,
        detail=_detail(row.detail),
    )


def _detail(detail: dict[str, object] | None) -> str:
    text = orjson.dumps(detail).decode() if detail else ""
    return text if len(text) <= DETAIL_CHARS else f"{text[:DETAIL_CHARS]} …"
