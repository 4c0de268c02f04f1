"""Settings are read once, checked against each other, and a wrong one is one line that names it."""

import re
from pathlib import Path
from typing import Any

import pytest

from app.domain import Channel, CrashPolicy
from app.settings import Settings, SettingsError, load_settings

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a port": ({"api_port": 70000}, "setting API_PORT: Input should be less than or equal to 65535"),
    "no number": ({"dashboard_port": "x"}, "setting DASHBOARD_PORT: Input should be a valid integer"),
    "a scheme of Redis": ({"redis_url": "http://x"}, "setting REDIS_URL: must start with redis://, rediss:// or unix://"),
    "a scheme of PostgreSQL": ({"database_url": "mysql://x"}, "setting DATABASE_URL: must start with postgresql://"),
    "a policy": ({"rate_limit_policy": "drop"}, "setting RATE_LIMIT_POLICY: Input should be 'fail' or 'defer'"),
    "a rate above 1": ({"simulated_sms_failure_rate": 1.5}, "setting SIMULATED_SMS_FAILURE_RATE: "),
    "no waits": ({"email_waits_s": ()}, "setting EMAIL_WAITS_S: "),
    "words as waits": ({"push_waits_s": "soon,later"}, "setting PUSH_WAITS_S: "),
    "a negative wait": ({"sms_waits_s": "0,-1"}, "setting SMS_WAITS_S: "),
    "a provider without a host": ({"sms_provider": "https:///send"}, "setting SMS_PROVIDER: must be simulated, or the http:"),
    "a provider at no port": ({"sms_provider": "http://localhost:99999"}, "setting SMS_PROVIDER: must be simulated, or the http"),
    "two kinds of credentials": (
        {"sms_provider": "https://user:secret@example.org/", "webhook_token": "secret"},
        "settings: SMS_PROVIDER has a user in its address, and WEBHOOK_TOKEN is set",
    ),
    "no slots": ({"email_concurrency": 0}, "setting EMAIL_CONCURRENCY: "),
    "a window too short": ({"reclaim_after_s": 0.5}, "setting RECLAIM_AFTER_S: "),
    "Redis slower than the window allows": (
        {"reclaim_after_s": 2, "redis_timeout_s": 0.3},
        "settings: REDIS_TIMEOUT_S is 0.3 and may be at most 0.25: an eighth of RECLAIM_AFTER_S (2)",
    ),
    "a provider slower than the lease": (
        {"provider_timeout_s": 26},
        "settings: PROVIDER_TIMEOUT_S is 26 and may be at most 25: five twelfths of RECLAIM_AFTER_S (60)",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_one_line_that_names_it(name: str) -> None:
    given, says = WRONG[name]
    with pytest.raises(SettingsError, match="^" + re.escape(says)) as caught:
        load(**given)
    assert "\n" not in str(caught.value)


def test_two_wrong_settings_are_both_named() -> None:
    with pytest.raises(SettingsError, match=r"API_PORT.*; .*DASHBOARD_PORT"):
        load(api_port=0, dashboard_port=0)


def test_all_times_follow_from_the_window() -> None:
    settings = load(reclaim_after_s=60)
    assert (settings.lease_s, settings.margin_s, settings.provider_limit_s) == (30, 5, 25)
    assert (settings.relay_grace_s, settings.publish_within_s, settings.calm_s) == (30, 15, 5)


def test_the_window_of_the_tests_is_allowed() -> None:
    settings = load(reclaim_after_s=2, redis_timeout_s=0.2)
    assert settings.lease_s == 1
    assert settings.provider_limit_s == pytest.approx(5 / 6)


def test_the_delivery_policy_of_a_channel() -> None:
    email, sms = (load().channel_policy(channel) for channel in (Channel.EMAIL, Channel.SMS))
    assert email.waits_s == (0, 5, 30, 120, 600, 1800, 7200)
    assert (email.max_tries, sms.max_tries) == (7, 5)
    assert (email.crash_policy, sms.crash_policy) == (CrashPolicy.AT_LEAST_ONCE, CrashPolicy.AT_MOST_ONCE)
    assert (email.simulated_latency_ms, email.simulated_failure_rate) == (500, 0.2)


def test_waits_are_read_from_a_list_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMAIL_WAITS_S", "0, 1.5,3")
    assert load().channel_policy(Channel.EMAIL).waits_s == (0, 1.5, 3)


def test_the_database_url_may_name_the_driver() -> None:
    assert load(database_url="postgresql+asyncpg://u@h/d").database_url == "postgresql://u@h/d"


def test_the_environment_then_env_then_what_dev_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".tidings").mkdir()
    (tmp_path / ".tidings/env").write_text("API_PORT=1001\nDASHBOARD_PORT=1001\nREDIS_URL='redis://from-dev'\n")
    (tmp_path / ".env").write_text("API_PORT=1002\nDASHBOARD_PORT=1002\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("API_PORT", "1003")
    settings = load_settings()
    assert (settings.api_port, settings.dashboard_port, settings.redis_url) == (1003, 1002, "redis://from-dev")


def test_no_password_is_shown() -> None:
    settings = load(redis_url="redis://:hush@h", database_url="postgresql://u:hush@h/d")
    assert "hush" not in repr(settings)
    with pytest.raises(SettingsError) as caught:
        load(redis_url="http://u:hush@h")
    assert "hush" not in str(caught.value)


def load(**given: Any) -> Settings:
    return load_settings(_env_file=None, **given)
