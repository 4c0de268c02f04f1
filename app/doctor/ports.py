"""Asks the two ports of this host: does Tidings answer there, something else, or nobody?"""

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

from app.addresses import DASHBOARD_PATH, api_url, http_url
from app.doctor.facts import PortFacts, PortState
from app.process import free_port, port_problem
from app.settings import Settings

ANSWER_MAX = 65_536  # bytes


def is_api(answer: bytes) -> bool:
    """Is this what GET /healthz of the API says?"""
    return answer.startswith(b"HTTP/1.1 200") and answer.endswith(b'{"status":"ok"}')


def is_dashboard(answer: bytes) -> bool:
    """Is this what GET / of the dashboard says: go to its page?"""
    return b"\r\nlocation: " + DASHBOARD_PATH.encode() in answer.partition(b"\r\n\r\n")[0].lower()


async def ports(settings: Settings, limit_s: float) -> tuple[PortFacts, ...]:
    """The API's, then the dashboard's."""
    api = _port("API", settings.api_host, settings.api_port, api_url(settings), "/healthz", is_api, limit_s)
    url = http_url(settings.dashboard_host, settings.dashboard_port)
    web = _port("dashboard", settings.dashboard_host, settings.dashboard_port, url, "/", is_dashboard, limit_s)
    return tuple(await asyncio.gather(api, web))


async def _port(part: str, host: str, port: int, url: str, path: str, ours: Callable[[bytes], bool], limit_s: float) -> PortFacts:
    answer = await _get(url, path, limit_s)
    problem = None
    if answer is not None:
        state = PortState.OURS if ours(answer) else PortState.TAKEN
    else:
        problem = port_problem(host, port)
        taken = problem is not None and "in use" in problem
        state = PortState.FREE if problem is None else PortState.TAKEN if taken else PortState.UNUSABLE
    command = {"API": "tidings api", "dashboard": "tidings web"}[part]
    return PortFacts(part, f"{part.upper()}_PORT", command, url, port, state, problem, _other(port))


async def _get(url: str, path: str, limit_s: float) -> bytes | None:
    """The raw answer, empty where none comes in time; None where nobody takes the connection."""
    address, until = urlsplit(url), asyncio.get_running_loop().time() + limit_s
    try:
        async with asyncio.timeout_at(until):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
    except (OSError, UnicodeError):  # TimeoutError is one
        return None
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nhost: {address.netloc}\r\nconnection: close\r\n\r\n".encode())
        async with asyncio.timeout_at(until):
            return await _read_all(reader)
    except OSError:
        return b""
    finally:
        writer.transport.abort()


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    answer = b""
    while len(answer) < ANSWER_MAX and (part := await reader.read(ANSWER_MAX)):
        answer += part
    return answer


def _other(port: int) -> int:
    """A free one, the next where there is one."""
    try:
        return free_port(port + 1)
    except OSError:
        return free_port(0)
