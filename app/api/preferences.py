"""/api/preferences: what a user wants on which channel. Each change is one statement, so that none is lost to another."""

from functools import partial
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.api.problem import invalid
from app.api.schemas import PreferencesBody, PreferencesPatch, read
from app.api.wire import JSON, json_answer, path_id, read_json_body
from app.store.preferences import StoredPreference, get_preference, merge_preference, put_preference

if TYPE_CHECKING:
    from app.store.batch import Pool

PATH = "/api/preferences/{user_id:path}"
MERGE_PATCH = "application/merge-patch+json"


def routes(pool: "Pool") -> list[Route]:
    return [
        Route(PATH, partial(read_preferences, pool), name="get_preferences"),
        Route(PATH, partial(replace_preferences, pool), methods=["PUT"], name="put_preferences"),
        Route(PATH, partial(patch_preferences, pool), methods=["PATCH"], name="patch_preferences"),
    ]


async def read_preferences(pool: "Pool", request: Request) -> Response:
    """GET: what is stored, or the defaults with null times."""
    user_id = path_id(request, "user_id")
    return _answer(user_id, await get_preference(pool, user_id))


async def replace_preferences(pool: "Pool", request: Request) -> Response:
    """PUT: what the body leaves out becomes true."""
    user_id = path_id(request, "user_id")
    body = read(PreferencesBody, await read_json_body(request.scope, request.receive))
    _check_user(user_id, body)
    return _answer(user_id, await put_preference(pool, user_id, body.email_opt_in, body.sms_opt_in, body.push_opt_in))


async def patch_preferences(pool: "Pool", request: Request) -> Response:
    """PATCH: what the body leaves out stays; null means true again (RFC 7396)."""
    user_id = path_id(request, "user_id")
    body = read(PreferencesPatch, await read_json_body(request.scope, request.receive, (MERGE_PATCH, JSON)))
    _check_user(user_id, body)
    return _answer(user_id, await merge_preference(pool, user_id, **body.changes()))


def _check_user(user_id: str, body: PreferencesBody | PreferencesPatch) -> None:
    if body.user_id not in (None, user_id):
        raise invalid([{"detail": "userId must be the one in the path; it may be left out.", "pointer": "#/userId"}])


def _answer(user_id: str, stored: StoredPreference | None) -> Response:
    return json_answer(
        {
            "userId": user_id,
            "emailOptIn": stored.email_opt_in if stored else True,
            "smsOptIn": stored.sms_opt_in if stored else True,
            "pushOptIn": stored.push_opt_in if stored else True,
            "createdAt": stored.created_at if stored else None,
            "updatedAt": stored.updated_at if stored else None,
        }
    )
