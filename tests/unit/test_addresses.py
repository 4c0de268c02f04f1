"""Where things are, how that is written down for other terminals, and what never shows."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from app import addresses, folder
from app.logs import hide_password
from app.settings import load_settings


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:3001"),
        ("0.0.0.0", "http://127.0.0.1:3001"),
        ("::1", "http://[::1]:3001"),
        ("::", "http://[::1]:3001"),
        ("localhost", "http://localhost:3001"),
    ],
)
def test_the_address_a_client_uses(host: str, url: str) -> None:
    assert addresses.http_url(host, 3001) == url


@pytest.mark.parametrize(
    ("url", "command"),
    [
        ("redis://127.0.0.1:6380", "redis-cli -p 6380"),
        ("redis://cache:6379/2", "redis-cli -u redis://cache:6379/2"),
        ("redis://:hush@cache:6379", "tidings redis"),
        ("redis://cache:6379?password=hush", "tidings redis"),
        ("unix:///run/redis.sock", "tidings redis"),
    ],
)
def test_how_to_reach_redis_without_showing_a_password(url: str, command: str) -> None:
    assert addresses.redis_command(url) == command


def test_the_sample_event_is_the_documented_one() -> None:
    now = datetime(2026, 3, 31, 16, 30, tzinfo=UTC)
    assert addresses.sample_event("evt-123", "user_123", "ORDER_PLACED", now) == {
        "eventId": "evt-123",
        "eventType": "ORDER_PLACED",
        "userId": "user_123",
        "payload": {"orderAmount": 250, "items": ["Laptop", "Mouse"]},
        "timestamp": "2026-03-31T16:30:00Z",
    }


@pytest.mark.parametrize("password", ["simple", "a'b", "a$HOME", "a${HOME}b", "back\\slash", "has#hash", "has space", "%41"])
def test_what_dev_writes_is_what_others_read(password: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"redis://:{password}@h:1"
    with folder.held_folder():
        folder.write_addresses({"REDIS_URL": url})
        assert Path(".tidings/env").stat().st_mode & 0o777 == 0o600
        read = load_settings().redis_url
    assert read == folder.dotenv_value(url)


def test_the_folder_has_one_owner_and_starts_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with folder.held_folder():
        folder.write_addresses({"API_PORT": "1"})
        with (
            pytest.raises(folder.FolderError, match=r"^`tidings dev` already runs in this folder \(process \d+\)"),
            folder.held_folder(),
        ):
            pass
        assert folder.ENV_FILE.exists()
    with folder.held_folder():  # as after a kill -9: the lock is gone, the file is not
        assert not folder.ENV_FILE.exists()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:hush@h:1", "redis://:***@h:1"),
        ("postgresql://u:hush@h/d and redis://a:hush@b", "postgresql://u:***@h/d and redis://a:***@b"),
        ("http://127.0.0.1:3001/docs", "http://127.0.0.1:3001/docs"),
        ("no url", "no url"),
    ],
)
def test_a_password_in_a_url_is_hidden(text: str, shown: str) -> None:
    assert hide_password(text) == shown
