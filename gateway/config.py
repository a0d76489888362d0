"""Every option, declared once: its name, its default and what it means. Maxima are inclusive.

Read from a TOML file and from variables VIDEO_GATEWAY_SECTION__NAME (single values; accounts in the
file only). What doesn't add up is refused with one line each, and no line holds a secret: settings
name keys, they never hold one.
"""

import ipaddress
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as SettingsSourceError

from gateway import failpoint
from gateway.errors import SettingsError
from gateway.keys import fits_a_header

PREFIX = "VIDEO_GATEWAY_"

OTHER_VARIABLES = frozenset({f"{PREFIX}URL", f"{PREFIX}KEY", f"{PREFIX}CONFIG", failpoint.VARIABLE})
"""Variables that the command line and `failpoint.py` read; they are no settings of the server."""


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )


class Server(_Section):
    """Where the gateway listens and keeps its files."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0: any free one")
    public_url: str = Field("", description="how callers reach it; empty: taken from the request")
    trusted_proxies: list[str] = Field([], description="addresses whose X-Forwarded-* are believed")
    data_dir: Path = Field(Path("data"), description="folder of the ledger and the videos")
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
    base_url: str = Field("https://api.apiyi.com", description="upstream's address, without /v1")
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
    row_days: float = Field(365, gt=0, description="days that the ledger remembers a job")
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
    """All settings. Build with `load_settings`."""

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


def load_settings(path: Path, host: str | None = None, port: int | None = None) -> Settings:
    """Read and check the settings, from `path` and the environment; `host` and `port` outweigh
    both.

    Raises SettingsError with a line for each problem.
    """
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error
    unknown = sorted(values.keys() - Settings.model_fields)
    for name in unknown:  # some would be taken for options of the reader itself
        del values[name]
    mistyped = [f"{name}: there is no such section" for name in unknown]
    mistyped += [*_mistyped_variables(os.environ), *failpoint.problems(os.environ)]
    listen = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    try:
        settings = Settings(**values)
        server = Server.model_validate(dict(settings.server) | listen)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise SettingsError(*mistyped, *lines) from None
    except SettingsSourceError as error:
        raise SettingsError(*mistyped, str(error)) from None
    settings = settings.model_copy(update={"server": server})
    problems = [*mistyped, *_sums(settings), *_addresses(settings)]
    if problems:
        raise SettingsError(*problems)
    return settings


def upstream_keys(settings: Settings, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Each account's key, by the account's name. Raises SettingsError; no line holds a key."""
    keys: dict[str, str] = {}
    problems: list[str] = []
    for account in settings.accounts:
        try:
            key = _upstream_key(account, environ)
        except SettingsError as error:
            problems.extend(error.problems)
            continue
        for other, other_key in keys.items():
            if key == other_key:
                problems.append(f"accounts {other!r} and {account.name!r} have the same key")
        keys[account.name] = key
    if problems:
        raise SettingsError(*problems)
    return keys


def _upstream_key(account: AccountSettings, environ: Mapping[str, str]) -> str:
    if account.api_key_file:
        source = "the file that api_key_file names"  # it might be the key itself
        try:
            key = Path(account.api_key_file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"account {account.name!r}: {source} can't be read") from error
    else:
        source = f"the variable {account.api_key_env}"
        if account.api_key_env not in environ:
            raise SettingsError(f"account {account.name!r}: {source} is not set")
        key = environ[account.api_key_env].strip()
    if not key:
        raise SettingsError(f"account {account.name!r}: {source} is empty")
    if not fits_a_header(key):
        raise SettingsError(f"account {account.name!r}: {source} does not hold a key")
    return key


def _mistyped_variables(environ: Mapping[str, str]) -> Iterator[str]:
    sections = {name: info.annotation for name, info in Settings.model_fields.items()}
    for variable in sorted(environ):
        upper = variable.upper()
        if not upper.startswith(PREFIX) or upper in OTHER_VARIABLES:
            continue
        section, _, name = variable[len(PREFIX) :].lower().partition("__")
        if section == "accounts":
            yield f"{variable}: accounts are set in the file only"
            continue
        model = sections.get(section)
        known = isinstance(model, type) and issubclass(model, BaseModel) and model.model_fields
        if not known or name not in known:
            yield f"{variable}: there is no such setting"


def _sums(settings: Settings) -> Iterator[str]:
    content = settings.content
    yield from _polling_sums("polling", settings.polling)
    for account in settings.accounts:
        if account.polling != AccountPolling():
            where = f"account {account.name!r}: polling"
            yield from _polling_sums(where, settings.polling_of(account))
    if settings.server.grace <= settings.timeouts.submit:
        yield "server.grace: must be longer than timeouts.submit, for a submit is paid for"
    if 0 < settings.server.metrics_port == settings.server.port:
        yield "server.metrics_port: must not be port"
    if content.row_days < max(content.keep_days, content.prompt_days):
        yield "content.row_days: must not be less than keep_days or prompt_days"
    if content.video_bytes > content.max_bytes:
        yield "content.video_bytes: must not be more than max_bytes"
    if settings.requests.image_bytes > content.input_bytes:
        yield "requests.image_bytes: must not be more than content.input_bytes"
    for size in settings.requests.sizes:
        if not re.fullmatch(r"[1-9]\d{1,4}x[1-9]\d{1,4}", size):
            yield f"requests.sizes: {size!r} is not of the form WIDTHxHEIGHT"
    if any(seconds < 1 for seconds in settings.requests.seconds):
        yield "requests.seconds: must be 1 or more"
    names = [account.name for account in settings.accounts]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"accounts: two are called {name!r}"
    yield from _unserved(settings)
    if settings.auth.mode == "open" and not is_loopback(settings.server.host):
        yield f"auth.mode: open is for loopback only, and server.host is {settings.server.host}"


def _polling_sums(where: str, polling: Polling) -> Iterator[str]:
    if not polling.expected <= polling.max_wait <= polling.task_life:
        yield f"{where}: expected <= max_wait <= task_life must hold"
    if polling.interval > polling.max_wait:
        yield f"{where}.interval: must not be longer than max_wait"


def _unserved(settings: Settings) -> Iterator[str]:
    offered = settings.requests.models
    for account in settings.accounts:
        for model in sorted({*account.models} - {*offered}):
            yield f"account {account.name!r}: models: {model!r} is not in requests.models"
    served = {model for account in settings.accounts for model in settings.models_of(account)}
    for model in offered:
        if model not in served:
            yield f"requests.models: no account serves {model!r}"


def _addresses(settings: Settings) -> Iterator[str]:
    server = settings.server
    if server.public_url and not _is_url(server.public_url):
        yield "server.public_url: must be http:// or https:// with a host"
    for proxy in server.trusted_proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError:
            yield f"server.trusted_proxies: {proxy!r} is not an address or network"
    for account in settings.accounts:
        where = f"account {account.name!r}"
        if not _is_url(account.base_url) or urlsplit(account.base_url).query:
            yield f"{where}: base_url must be http:// or https:// with a host"
        elif account.base_url.rstrip("/").endswith("/v1"):
            yield f"{where}: base_url is given without /v1"
        if account.spacing > account.period:
            yield f"{where}: spacing must not be longer than period"
        if account.proxy and not _is_url(account.proxy):
            yield f"{where}: proxy must be http:// or https:// with a host"
        if account.ca_file and not Path(account.ca_file).is_file():
            yield f"{where}: ca_file {account.ca_file} is not there"


def is_loopback(host: str) -> bool:
    """Whether an address (or the name localhost) can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
