"""Reads the settings and the keys that they name.

The settings come from a TOML file and from variables VIDEO_GATEWAY_SECTION__NAME (single values;
accounts in the file only). What doesn't add up is refused with one line each, and no line holds a
secret.
"""

import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args, get_origin
from urllib.parse import urlsplit

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings.exceptions import SettingsError as SettingsSourceError

from gateway import failpoint
from gateway.config import (
    PREFIX,
    AccountPolling,
    AccountSettings,
    Polling,
    Server,
    Settings,
    is_loopback,
)
from gateway.errors import SettingsError
from gateway.keys import fits_a_header

OTHER_VARIABLES = frozenset({f"{PREFIX}URL", f"{PREFIX}KEY", f"{PREFIX}CONFIG", failpoint.VARIABLE})
"""Variables that the command line and `failpoint.py` read; they are no settings of the server."""

_SHOULD = re.compile(r"^(Input|String|List) should")
"""How pydantic begins what a value must be."""

_HOST = re.compile(r"[A-Za-z0-9_.-]+")


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
    variables = [*_variable_problems(os.environ)]
    mistyped += [*variables, *failpoint.problems(os.environ)]
    listen = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    try:
        settings = Settings(**values)
        server = Server.model_validate(dict(settings.server) | listen)
    except ValidationError as error:
        lines = [_line(problem) for problem in error.errors(include_input=False, include_url=False)]
        raise SettingsError(*mistyped, *lines) from None
    except SettingsSourceError as error:
        raise SettingsError(*mistyped, *([] if variables else [str(error)])) from None
    settings = settings.model_copy(update={"server": server})
    problems = [*mistyped, *_sums(settings), *_addresses(settings)]
    if problems:
        raise SettingsError(*problems)
    return settings


def _line(problem: ErrorDetails) -> str:
    where = problem["loc"]
    prefix = ""
    if where[0] == "accounts" and len(where) > 2:  # its name may be what is wrong
        prefix, where = f"account {int(where[1]) + 1}: ", where[2:]
    unknown = problem["type"] == "extra_forbidden"
    said = "there is no such setting" if unknown else _SHOULD.sub("must", problem["msg"])
    return f"{prefix}{'.'.join(map(str, where))}: {said}"


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


def _variable_problems(environ: Mapping[str, str]) -> Iterator[str]:
    """What is said of variables that name no setting, and of lists that can't be read."""
    sections = {name: info.annotation for name, info in Settings.model_fields.items()}
    for variable in sorted(environ):
        upper = variable.upper()
        if not upper.startswith(PREFIX) or upper in OTHER_VARIABLES:
            continue
        section, _, name = variable[len(PREFIX) :].lower().partition("__")
        if section == "accounts":
            yield f"{variable}: accounts are set in the file only"
            continue
        option = getattr(sections.get(section), "model_fields", {}).get(name)
        if option is None:
            yield f"{variable}: there is no such setting"
        elif get_origin(option.annotation) is list and not _is_json(environ[variable]):
            example = "[10, 15]" if get_args(option.annotation)[0] is int else '["a", "b"]'
            yield f"{variable}: a list is written as JSON, like {example}"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


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
    if server.public_url and (not _is_url(server.public_url) or urlsplit(server.public_url).query):
        yield "server.public_url: must be http:// or https:// with a host, and no query"
    elif server.public_url.endswith("/v1"):
        yield "server.public_url: is given without /v1"
    for proxy in server.trusted_proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError:
            yield f"server.trusted_proxies: {proxy!r} is not an address or network"
    for account in settings.accounts:
        where = f"account {account.name!r}"
        if not _is_url(account.base_url) or urlsplit(account.base_url).query:
            yield f"{where}: base_url must be http:// or https:// with a host"
        elif urlsplit(account.base_url).username is not None:
            yield f"{where}: base_url must hold no name or password"
        elif account.base_url.endswith("/v1"):
            yield f"{where}: base_url is given without /v1"
        if not all(map(_HOST.fullmatch, account.content_hosts)):
            yield f"{where}: content_hosts are names, like files.example.com"
        if account.spacing > account.period:
            yield f"{where}: spacing must not be longer than period"
        if account.proxy and not _is_url(account.proxy):
            yield f"{where}: proxy must be http:// or https:// with a host"
        if account.ca_file and not Path(account.ca_file).is_file():
            yield f"{where}: ca_file {account.ca_file} is not there"


def _is_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
