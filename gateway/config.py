"""Every option, declared once: its name, its default and what it means. Maxima are inclusive.
`load.py` reads them. They name keys, and never hold one.
"""

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

PREFIX = "VIDEO_GATEWAY_"
"""What the names of variables begin with: VIDEO_GATEWAY_SECTION__NAME."""

Url = Annotated[str, AfterValidator(lambda url: url.rstrip("/") or url)]
"""Paths are added to it: it has no slash at its end."""


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )


class Server(_Section):
    """Where the gateway listens and keeps its files."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0: any free one")
    public_url: Url = Field("", description="how callers reach it; empty: taken from the request")
    trusted_proxies: list[str] = Field([], description="addresses whose X-Forwarded-* are believed")
    data_dir: Path = Field(
        Path("data"),
        description="folder of the ledger and the videos; a relative one is relative to the folder "
        "that the command runs in, not to the file's",
    )
    metrics_port: int = Field(
        0, ge=0, le=65535, description="a port for /metrics alone; 0: it is on the one for callers"
    )
    metrics_host: str = Field("127.0.0.1", description="address for metrics_port")
    grace: float = Field(
        65.0, gt=0, le=600, description="seconds that a shutdown waits for what is under way"
    )


class Auth(_Section):
    """Who may call."""

    mode: Literal["keys", "open"] = Field(
        "keys", description="open: no key needed, refused unless host and every peer are loopback"
    )


class AccountPolling(_Section):
    """What of `[polling]` is otherwise with one account. Seconds."""

    interval: float | None = Field(None, gt=0, description="least between two polls of one video")
    expected: float | None = Field(
        None, gt=0, description="what a video usually takes, until measured"
    )
    max_wait: float | None = Field(None, gt=0, description="a video that takes longer is overdue")
    task_life: float | None = Field(None, gt=0, description="past this a video has failed")


class AccountSettings(_Section):
    """One upstream key, its server and its limits."""

    name: str = Field("default", pattern=r"^[A-Za-z0-9_.-]{1,100}$", description="its name in logs")
    base_url: Url = Field("https://api.apiyi.com", description="upstream's address, without /v1")
    api_key_env: str = Field(
        "UPSTREAM_API_KEY",
        pattern=r"^[A-Z_][A-Z0-9_]*$",  # no key looks like this: a message may show it
        description="the variable that holds the key",
    )
    api_key_file: str = Field(
        "", description="or a file that holds the key, which then counts; never the key itself"
    )
    auth_scheme: str = Field(
        "", description='"Bearer" for OpenAI-style servers; empty: the bare key'
    )
    dialect: Literal["apiyi", "openai"] = Field("apiyi", description="the provider's words")
    requests: int = Field(10, ge=1, le=100_000, description="calls in one period at most")
    period: float = Field(60.0, gt=0, description="seconds of the window")
    guard: float = Field(1.0, ge=0, description="seconds a place is kept longer than the period")
    spacing: float = Field(0.0, ge=0, description="least seconds between two calls, by our clock")
    counts: list[Literal["submit", "poll", "download"]] = Field(
        ["submit", "poll", "download"], description="which calls upstream counts"
    )
    concurrent: int = Field(5, ge=1, le=10_000, description="videos being generated at once")
    proxy: str = Field("", description="egress proxy")
    ca_file: str = Field("", description="certificates of a private authority")
    content_hosts: list[str] = Field(
        [], description="hosts that a download may be redirected to (https, without the key)"
    )
    models: list[str] = Field(
        [], description="models that it serves, of requests.models; empty: all of them"
    )
    polling: AccountPolling = Field(
        AccountPolling(), description="what of `[polling]` is otherwise with this account"
    )


class Polling(_Section):
    """When running videos are looked at. Seconds."""

    interval: float = Field(30.0, gt=0, description="least between two polls of one video")
    expected: float = Field(240.0, gt=0, description="what a video usually takes, until measured")
    max_wait: float = Field(600.0, gt=0, description="a video that takes longer is overdue")
    task_life: float = Field(3600.0, gt=0, description="past this a video has failed")


class Timeouts(_Section):
    """When a call upstream is cut off. Seconds."""

    submit: float = Field(
        60.0, gt=0, description="a submit without an answer by then: outcome unknown"
    )
    poll: float = Field(20.0, gt=0, description="a poll without an answer by then is tried again")
    stall: float = Field(30.0, gt=0, description="a download without a byte for so long is resumed")


class Content(_Section):
    """What is kept on disk, and for how long."""

    keep_days: float = Field(30, gt=0, description="days that a video is kept")
    prompt_days: float = Field(90, gt=0, description="days that a prompt is kept")
    row_days: float = Field(
        365,
        ge=1,  # an Idempotency-Key is kept for a day, and must not outlive its job
        description="days that the ledger remembers a job",
    )
    max_bytes: int = Field(50_000_000_000, gt=0, description="all videos together")
    video_bytes: int = Field(2_000_000_000, gt=0, description="one video at most")
    input_bytes: int = Field(5_000_000_000, gt=0, description="input images waiting, together")
    upstream_ttl: float = Field(
        3600.0, gt=0, description="seconds that upstream is trusted to keep a finished video"
    )


class Requests(_Section):
    """What callers may ask for; the first entry of a list is the default."""

    models: list[str] = Field(["sora-2"], min_length=1, description="models")
    sizes: list[str] = Field(["1280x720", "720x1280"], min_length=1, description="sizes, WxH")
    seconds: list[int] = Field([10, 15], min_length=1, description="lengths of a video")
    prompt_chars: int = Field(999, gt=0, description="characters in a prompt at most")
    image_bytes: int = Field(9_999_999, gt=0, description="bytes of an input image at most")
    vocabulary: Literal["auto", "openai", "upstream"] = Field(
        "auto",
        description="words for a status; auto: OpenAI's for its SDKs, else the upstream's",
    )


class Limits(_Section):
    """What callers may ask of the gateway, and how slowly."""

    requests: int = Field(12_000, ge=1, description="requests a minute with one caller's keys")
    queued: int = Field(200, ge=1, description="videos of one caller that wait at once")
    wrong_keys: int = Field(20, ge=1, description="wrong keys a minute from one address")
    connections: int = Field(
        500, ge=1, description="connections of all callers that may be open at once; then 503"
    )
    head: float = Field(
        10.0, gt=0, description="seconds until a request's line and headers are whole"
    )
    idle: float = Field(
        30.0, gt=0, description="seconds that a connection may idle between two requests"
    )
    stall: float = Field(
        30.0, gt=0, description="seconds over which `rate` is measured, of bodies and of answers"
    )
    rate: int = Field(
        1000, ge=0, description="bytes a second that a caller must send and read at least"
    )


class Settings(BaseSettings):
    """All settings. Made by `load_settings`."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        env_prefix=PREFIX,
        env_nested_delimiter="__",
    )

    server: Server = Server()
    auth: Auth = Auth()
    accounts: list[AccountSettings] = Field([AccountSettings()], min_length=1)
    polling: Polling = Polling()
    timeouts: Timeouts = Timeouts()
    content: Content = Content()
    requests: Requests = Requests()
    limits: Limits = Limits()

    def models_of(self, account: AccountSettings) -> frozenset[str]:
        """The models that an account serves."""
        return frozenset(account.models or self.requests.models)

    def polling_of(self, account: AccountSettings) -> Polling:
        """How an account's videos are polled: by `[polling]`, and its own values."""
        return self.polling.model_copy(update=account.polling.model_dump(exclude_none=True))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """A variable outweighs the file; there is no other source."""
        return env_settings, init_settings


def is_loopback(host: str) -> bool:
    """Whether an address (or the name localhost) can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
