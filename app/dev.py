"""`tidings dev`: everything in one terminal, and nothing left when it ends.

Servers that are named in the environment or in `.env` are used; the others are started here. Then the schema, the API, the
dashboard and the consumers, looked after until Ctrl-C.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from app import addresses, folder, local, logs, schema
from app.health import status_of
from app.process import port_problem
from app.settings import Settings, load_settings
from app.streams import EVENTS
from app.supervise import LOOK_EVERY_S, Child, look_after, python_child, stop

READY_WITHIN_S = 60
ASK_EVERY_S = 0.1  # whether they are ready
STOP_HTTP_WITHIN_S = 10
DRAIN_WITHIN_S = 35  # consumers give up by themselves after 30 s
STOP_SERVERS_WITHIN_S = 20


class DevError(Exception):
    """It cannot run here. The message is one line."""


@dataclass(slots=True)
class Stop:
    """How often we were asked to stop: once is a request, twice an order, three times leaves the servers no time either."""

    asked: int = 0

    def listen(self) -> None:
        signal.signal(signal.SIGINT, self._note)  # also where a shell started us with `&` and SIGINT ignored
        signal.signal(signal.SIGTERM, self._note)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            signal.signal(signal.SIGHUP, self._note)

    def _note(self, _number: int, _frame: object) -> None:
        self.asked += 1


@dataclass(slots=True)
class House:
    """What runs, in the order in which it is stopped."""

    settings: Settings
    front: list[Child] = field(default_factory=list)  # API and dashboard
    consumers: list[Child] = field(default_factory=list)
    servers: list[Child] = field(default_factory=list)

    @property
    def all(self) -> list[Child]:
        return [*self.servers, *self.front, *self.consumers]


def run() -> None:
    """Run until asked to stop. Raises DevError, FolderError, LocalError, SchemaError, SettingsError or GaveUp, all stopped."""
    wish = Stop()
    wish.listen()
    settings = load_settings(_env_file=".env")  # not .tidings/env: what another run left there is not ours to believe
    logs.configure(settings, "dev")
    with folder.held_folder() as place, ExitStack() as at_end:
        check_ports(settings)
        house = House(settings)
        at_end.callback(close, house, wish)
        open_servers(house, place)
        asyncio.run(schema.apply(house.settings.database_url))
        if not wish.asked:
            open_parts(house)
            live(house, wish)


def check_ports(settings: Settings) -> None:
    """Raises DevError where the API or the dashboard could not listen."""
    for name, host, port in (
        ("API", settings.api_host, settings.api_port),
        ("DASHBOARD", settings.dashboard_host, settings.dashboard_port),
    ):
        if problem := port_problem(host, port):
            raise DevError(f"port {port} on {host} cannot be used (settings {name}_HOST, {name}_PORT): {problem}")
    if settings.api_port == settings.dashboard_port:
        raise DevError(f"settings API_PORT and DASHBOARD_PORT are both {settings.api_port}: give each its own")


def open_servers(house: House, place: Path) -> None:
    """Start those that nobody named, and put their addresses into the settings."""
    named = house.settings.model_fields_set
    if "redis_url" not in named:
        _adopt(house, "redis_url", lambda **at: local.start_valkey(place / "valkey", **at))
    if "database_url" not in named:
        _adopt(house, "database_url", lambda **at: local.start_postgres(place / "postgres", **at))


def _adopt(house: House, setting: str, start: Callable[..., local.Server]) -> None:
    server = start()
    again = Child(server.name, lambda: start(port=server.port, exactly=True).process, server.stop_signal)
    again.process, again.started_at = server.process, time.monotonic()
    house.servers.append(again)
    house.settings = house.settings.model_copy(update={setting: server.url})


def open_parts(house: House) -> None:
    """Start the API, the dashboard and the consumers; let other terminals find them."""
    found = parts_environment(house.settings)
    folder.write_addresses(found)
    house.front = [python_child("API", ["-m", "app", "api"], found), python_child("dashboard", ["-m", "web"], found)]
    house.consumers = [python_child("consumers", ["-m", "consumers"], found)]


def parts_environment(settings: Settings) -> dict[str, str]:
    """What the parts and other terminals need to find each other, as settings in the environment."""
    names = ("redis_url", "database_url", "api_host", "api_port", "dashboard_host", "dashboard_port")
    return {name.upper(): str(getattr(settings, name)) for name in names}


def live(house: House, wish: Stop) -> None:
    """Look after all of them until asked to stop. Raises GaveUp, or DevError where they do not get ready."""
    ready, until = False, time.monotonic() + READY_WITHIN_S
    while not wish.asked:
        look_after(house.all, time.monotonic())
        if not ready and is_ready(house.settings):
            ready = True
            print("\n".join(announcement(house.settings, str(uuid4()), datetime.now(UTC))), flush=True)
        if not ready and time.monotonic() > until:
            raise DevError(f"API and dashboard were not ready within {READY_WITHIN_S} s: see their lines above")
        time.sleep(LOOK_EVERY_S if ready else ASK_EVERY_S)


def is_ready(settings: Settings) -> bool:
    """The API serves, and the dashboard answers, be it with an error: that one must not stop the others."""
    return status_of(addresses.api_url(settings) + "/readyz") == 200 and status_of(addresses.dashboard_url(settings)) is not None


def announcement(settings: Settings, event_id: str, now: datetime) -> list[str]:
    """What to tell when all is up; the last line is for programs, too."""
    api, dashboard = addresses.api_url(settings), addresses.dashboard_url(settings)
    event = addresses.sample_event(event_id, "user_123", "ORDER_PLACED", now)
    return [
        "",
        f"  API         {api}",
        f"  dashboard   {dashboard}",
        f"  Redis       {logs.hide_password(settings.redis_url)}",
        f"  PostgreSQL  {logs.hide_password(settings.database_url)}",
        "",
        "post an event:",
        f"  {addresses.curl_command(api, event)}",
        "look into its stream:",
        f"  {addresses.redis_command(settings.redis_url)} xinfo stream '{EVENTS}'",
        "",
        f"ready {api} {dashboard}",
    ]


def close(house: House, wish: Stop) -> None:
    """Stop in order: nobody comes in, what is in hand is finished, all is on disk. Asked again: the parts are killed at once."""
    folder.forget_addresses()
    asked = wish.asked
    if house.consumers:
        say("stopping; consumers finish what is in hand (once more: stop at once)")
    stop(house.front, STOP_HTTP_WITHIN_S, lambda: wish.asked > max(asked, 1))
    stop(house.consumers, DRAIN_WITHIN_S, lambda: wish.asked > max(asked, 1))
    stop(house.servers, STOP_SERVERS_WITHIN_S, lambda: wish.asked > max(asked, 1) + 1)
    say("stopped")


def say(line: str) -> None:
    with suppress(OSError):  # the terminal may be gone
        print(line, file=sys.stderr, flush=True)
