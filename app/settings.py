"""Every setting, read once and checked against each other. All times follow from one: the reclaim window RECLAIM_AFTER_S.

Read from the environment, then `.env`, then `.tidings/env` (written by `tidings dev`), then the defaults below.
"""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from math import ceil
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.domain import Channel, CrashPolicy

Port = Annotated[int, Field(ge=1, le=65535)]
Rate = Annotated[float, Field(ge=0, le=1)]
Waits = Annotated[tuple[Annotated[float, Field(ge=0, le=7 * 86400)], ...], NoDecode, Field(min_length=1, max_length=50)]
Slots = Annotated[int, Field(ge=1, le=10_000)]
PerSecond = Annotated[int, Field(ge=0, le=1_000_000)]
LatencyMs = Annotated[float, Field(ge=0, le=3_600_000)]
Password = Annotated[str, Field(pattern=r"^([^\x00-\x1f]{8,1000})?$")]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{0,100}$")]
HostNames = Annotated[tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9.:_-]{1,253}$")], ...], NoDecode, Field(max_length=50)]
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, Field(max_length=100)]
SIMULATED = "simulated"


def _provider_scheme(value: str) -> str:
    if value != SIMULATED and not (value.startswith(("http://", "https://")) and _has_host(value)):
        raise ValueError("must be simulated, or the http:// or https:// address that takes the messages")
    return value


def _has_host(url: str) -> bool:
    """A host, and a port that can be one: with neither, each message would be of unknown outcome."""
    try:
        return bool(urlsplit(url).hostname) and urlsplit(url).port != 0
    except ValueError:
        return False


ProviderUrl = Annotated[str, AfterValidator(_provider_scheme)]


class SettingsError(Exception):
    """A setting is wrong. The message is one line that names it and says what it wants."""


@dataclass(frozen=True, slots=True)
class ChannelPolicy:
    """How one channel is delivered. `waits_s[n]` is the wait before try n + 1; its length is the number of tries.

    `provider`: SIMULATED, or the address of a webhook.
    """

    waits_s: tuple[float, ...]
    crash_policy: CrashPolicy
    concurrency: int
    simulated_latency_ms: float
    simulated_failure_rate: float
    max_per_s: int = 0
    provider: str = SIMULATED

    @property
    def max_tries(self) -> int:
        return len(self.waits_s)


class Settings(BaseSettings):
    """Names are those of the environment in lower case; a name ends with its unit."""

    model_config = SettingsConfigDict(env_file=(".tidings/env", ".env"), extra="ignore", frozen=True, hide_input_in_errors=True)

    redis_url: str = Field("redis://localhost:6379", repr=False)
    database_url: str = Field("postgresql://postgres@127.0.0.1:5432/tidings", repr=False)
    api_host: str = "127.0.0.1"
    api_port: Port = 3001
    dashboard_host: str = "127.0.0.1"
    dashboard_port: Port = 3000
    dashboard_password: Password = Field("", repr=False)
    dashboard_viewer_password: Password = Field("", repr=False)
    dashboard_proxy_header: HeaderName = ""
    dashboard_proxy_role_header: HeaderName = ""
    dashboard_proxy_role: Literal["viewer", "operator"] = "viewer"
    dashboard_trusted_proxies: Networks = (ip_network("127.0.0.1"), ip_network("::1"))
    dashboard_hosts: HostNames = ()
    dashboard_session_idle_min: float = Field(60, ge=1, le=525_600)
    dashboard_session_h: float = Field(12, ge=0.1, le=8760)
    dashboard_read_only: bool = False
    dashboard_secret: Annotated[str, Field(pattern=r"^(.{16,1000})?$")] = Field("", repr=False)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "console", "json"] = "auto"

    reclaim_after_s: float = Field(60, ge=1, le=3600)
    redis_timeout_s: float = Field(5, gt=0)
    provider_timeout_s: float | None = Field(None, gt=0)
    max_deliveries: int = Field(8, ge=3, le=1000)

    rate_limit_per_user: int = Field(5, ge=1, le=1_000_000)
    rate_limit_window_s: float = Field(60, gt=0, le=86400)
    rate_limit_policy: Literal["fail", "defer"] = "fail"

    retry_jitter: Annotated[float, Field(ge=0, le=0.9)] = 0.2
    email_waits_s: Waits = (0, 5, 30, 120, 600, 1800, 7200)
    sms_waits_s: Waits = (0, 5, 15, 60, 300)
    push_waits_s: Waits = (0, 2, 10, 60, 300)
    email_crash_policy: CrashPolicy = CrashPolicy.AT_LEAST_ONCE
    sms_crash_policy: CrashPolicy = CrashPolicy.AT_MOST_ONCE
    push_crash_policy: CrashPolicy = CrashPolicy.AT_MOST_ONCE
    email_concurrency: Slots = 100
    sms_concurrency: Slots = 100
    push_concurrency: Slots = 100
    email_max_per_s: PerSecond = 0
    sms_max_per_s: PerSecond = 0
    push_max_per_s: PerSecond = 0
    breaker_after: int = Field(20, ge=0, le=1_000_000)
    keep_days: int = Field(90, ge=1, le=36_500)

    email_provider: ProviderUrl = Field(SIMULATED, repr=False)
    sms_provider: ProviderUrl = Field(SIMULATED, repr=False)
    push_provider: ProviderUrl = Field(SIMULATED, repr=False)
    webhook_token: Annotated[str, Field(pattern=r"^[\x21-\x7e]*$", max_length=4096)] = Field("", repr=False)
    simulated_email_latency_ms: LatencyMs = 500
    simulated_sms_latency_ms: LatencyMs = 300
    simulated_push_latency_ms: LatencyMs = 200
    simulated_email_failure_rate: Rate = 0.2
    simulated_sms_failure_rate: Rate = 0.1
    simulated_push_failure_rate: Rate = 0
    simulated_seed: int = 0

    @field_validator(
        "email_waits_s", "sms_waits_s", "push_waits_s", "dashboard_trusted_proxies", "dashboard_hosts", mode="before"
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("redis_url")
    @classmethod
    def _redis_scheme(cls, value: str) -> str:
        if not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must start with redis://, rediss:// or unix://")
        return value

    @field_validator("database_url")
    @classmethod
    def _database_scheme(cls, value: str) -> str:
        plain = value.replace("+asyncpg://", "://", 1)
        if not plain.startswith(("postgresql://", "postgres://")):
            raise ValueError("must start with postgresql:// (or postgresql+asyncpg://)")
        return plain

    @model_validator(mode="after")
    def _times_fit(self) -> Self:
        if self.relay_grace_s < 4 * self.redis_timeout_s:
            raise ValueError(
                f"REDIS_TIMEOUT_S is {self.redis_timeout_s:g} and may be at most {self.relay_grace_s / 4:g}: "
                f"an eighth of RECLAIM_AFTER_S ({self.reclaim_after_s:g})"
            )
        if self.provider_limit_s > self.lease_s - self.margin_s:
            raise ValueError(
                f"PROVIDER_TIMEOUT_S is {self.provider_limit_s:g} and may be at most {self.lease_s - self.margin_s:g}: "
                f"five twelfths of RECLAIM_AFTER_S ({self.reclaim_after_s:g}), so that no lease ends in mid-send"
            )
        return self

    @model_validator(mode="after")
    def _credentials_fit(self) -> Self:
        for channel in Channel:
            if self.webhook_token and urlsplit(self.channel_policy(channel).provider).username is not None:
                raise ValueError(
                    f"{channel}_PROVIDER has a user in its address, and WEBHOOK_TOKEN is set: a request carries only one"
                )
        return self

    @model_validator(mode="after")
    def _passwords_differ(self) -> Self:
        if self.dashboard_password and self.dashboard_password == self.dashboard_viewer_password:
            raise ValueError("DASHBOARD_PASSWORD and DASHBOARD_VIEWER_PASSWORD are the same: the password decides the role")
        return self

    @property
    def lease_s(self) -> float:
        """For how long a claim holds its notification."""
        return self.reclaim_after_s / 2

    @property
    def margin_s(self) -> float:
        return self.reclaim_after_s / 12

    @property
    def provider_limit_s(self) -> float:
        """After this a call to a provider is given up, its outcome unknown."""
        return self.provider_timeout_s if self.provider_timeout_s is not None else self.lease_s - self.margin_s

    @property
    def relay_grace_s(self) -> float:
        """What was published less than this before the watermark is not yet missing."""
        return self.reclaim_after_s / 2

    @property
    def relay_sweep_s(self) -> float:
        """From one look for what is owed and not published to the next."""
        return self.reclaim_after_s / 20

    @property
    def publish_within_s(self) -> float:
        """No XADD later than this after its `published_at`: it is left to the relay."""
        return self.relay_grace_s / 2

    @property
    def rate_limit_every_us(self) -> int:
        """Microseconds between two tokens of a user's bucket; rounded up, so that no window holds more than it may."""
        return ceil(self.rate_limit_window_s * 1e6 / self.rate_limit_per_user)

    @property
    def statement_within_s(self) -> float:
        """After this a statement's connection is taken for dead. Statements take milliseconds, with a stalled disk seconds."""
        return min(30.0, max(1.5, self.reclaim_after_s / 6))

    @property
    def calm_s(self) -> float:
        """After PostgreSQL started, for so long nobody applies the crash rule: outcomes held meanwhile are recorded first."""
        return max(2.0, self.margin_s)

    def channel_policy(self, channel: Channel) -> ChannelPolicy:
        """The settings of one channel, by name."""
        name = channel.lower()
        return ChannelPolicy(
            waits_s=getattr(self, f"{name}_waits_s"),
            crash_policy=getattr(self, f"{name}_crash_policy"),
            concurrency=getattr(self, f"{name}_concurrency"),
            provider=getattr(self, f"{name}_provider"),
            max_per_s=getattr(self, f"{name}_max_per_s"),
            simulated_latency_ms=getattr(self, f"simulated_{name}_latency_ms"),
            simulated_failure_rate=getattr(self, f"simulated_{name}_failure_rate"),
        )


def load_settings(**override: Any) -> Settings:
    """The settings of this process. Raises SettingsError with one line that names each wrong one."""
    try:
        return Settings(**override)
    except ValidationError as error:
        raise SettingsError("; ".join(_sentence(e) for e in error.errors(include_url=False))) from None


def _sentence(error: Any) -> str:
    text = error["msg"].removeprefix("Value error, ")
    name = str(error["loc"][0]).upper() if error["loc"] else ""
    return f"setting {name}: {text}" if name else f"settings: {text}"
