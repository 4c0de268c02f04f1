"""The route of the log of actions."""

from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from web import links
from web.audit_page import audit_page
from web.audit_queries import AuditFilter, audit_log
from web.away import POSTGRESQL, ask, status_of
from web.filters import row_id, stored_text
from web.render import respond


def routes(engine: AsyncEngine) -> list[Route]:
    async def audit(request: Request) -> Response:
        wanted = parse_audit(request.query_params)
        rows = await ask(POSTGRESQL, audit_log(engine, wanted))
        return respond(audit_page(wanted, rows), status_of(rows))

    return [Route(links.AUDIT, audit)]


def parse_audit(asked: Mapping[str, str]) -> AuditFilter:
    """From a query string. What cannot be understood counts as not asked."""
    return AuditFilter(
        who=stored_text(asked.get("who", "")).strip() or None,
        action=stored_text(asked.get("action", "")).strip() or None,
        before=row_id(asked.get("before", "")),
    )
