"""The settings: their defaults by contract, where they come from, and what is refused, in words
that hold no secret.
"""

import os
import re
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config import (
    PREFIX,
    AccountSettings,
    Settings,
    is_loopback,
)
from gateway.errors import SettingsError
from gateway.load import load_settings, upstream_keys

SECRET = "sk-SECRETsecret0123456789"

CONTRACT = """
[server]
host = "127.0.0.1"
port = 8080
public_url = ""
trusted_proxies = []
data_dir = "data"

[auth]
mode = "keys"

[[accounts]]
name = "default"
base_url = "https://api.apiyi.com"
api_key_env = "UPSTREAM_API_KEY"
auth_scheme = ""
dialect = "apiyi"
requests = 10
period = 60.0
guard = 1.0
spacing = 0.0
concurrent = 5
proxy = ""

[polling]
interval = 30.0
expected = 240.0
max_wait = 600.0
task_life = 3600.0

[timeouts]
submit = 60.0
poll = 20.0
stall = 30.0

[content]
keep_days = 30
max_bytes = 50_000_000_000
video_bytes = 2_000_000_000
input_bytes = 5_000_000_000
upstream_ttl = 3600.0

[requests]
models = ["sora-2"]
sizes = ["1280x720", "720x1280"]
seconds = [10, 15]
prompt_chars = 999
image_bytes = 9_999_999
"""
"""The settings that scripts outside rely on, each at its default."""

Load = Callable[..., Settings]
Refusal = Callable[..., str]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of whoever runs the tests counts."""
    for variable in os.environ:
        if variable.upper().startswith(PREFIX):
            monkeypatch.delenv(variable)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Reads settings from the text of a file."""

    def read(toml: str = "", **listen: Any) -> Settings:
        path = tmp_path / "config.toml"
        path.write_text(toml)
        return load_settings(path, **listen)

    return read


@pytest.fixture
def refusal(load: Load) -> Refusal:
    """Why settings are refused: a line for each problem."""

    def read(toml: str = "", **listen: Any) -> str:
        with pytest.raises(SettingsError) as refused:
            load(toml, **listen)
        assert all("\n" not in problem for problem in refused.value.problems)
        return "\n".join(refused.value.problems)

    return read


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """The values of nested tables by their dotted names."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        (value,) = value
    if not isinstance(value, dict):
        return {path: value}
    return {
        name: leaf
        for key, each in value.items()
        for name, leaf in flat(each, f"{path}.{key}").items()
    }


def comparable(settings: Settings) -> dict[str, Any]:
    return flat(settings.model_dump(mode="json"))


@pytest.mark.parametrize("option", sorted(flat(tomllib.loads(CONTRACT))))
def test_the_contract_holds(load: Load, option: str) -> None:
    assert comparable(load())[option] == flat(tomllib.loads(CONTRACT))[option]


def test_the_file_of_the_contract_is_the_same_as_none(load: Load) -> None:
    assert load(CONTRACT) == load()


def test_a_variable_outweighs_the_file(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    toml = '[server]\nport = 1111\nhost = "127.0.0.2"\n[polling]\ninterval = 5\n'
    monkeypatch.setenv("VIDEO_GATEWAY_SERVER__PORT", "2222")
    monkeypatch.setenv("VIDEO_GATEWAY_REQUESTS__MODELS", '["a", "b"]')
    settings = load(toml)
    assert (settings.server.host, settings.server.port) == ("127.0.0.2", 2222)
    assert settings.polling.interval == 5
    assert settings.requests.models == ["a", "b"]


def test_the_command_line_outweighs_both(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEO_GATEWAY_SERVER__PORT", "2222")
    toml = '[server]\nport = 1111\nhost = "127.0.0.2"\ngrace = 7.0\n[timeouts]\nsubmit = 5.0\n'
    server = load(toml, host="::1", port=3333).server
    assert (server.host, server.port, server.grace) == ("::1", 3333, 7.0)


def test_client_variables_are_no_settings(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "KEY", "CONFIG"):
        monkeypatch.setenv(f"VIDEO_GATEWAY_{name}", "x")
    assert load() == Settings()


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        load_settings(tmp_path / "none.toml")
    with pytest.raises(SettingsError, match="Is a directory"):
        load_settings(tmp_path)


def test_a_malformed_file_is_refused_with_its_line(refusal: Refusal) -> None:
    assert "line 2" in refusal(f"[server]\nport = = 1\napi_key = '{SECRET}'")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"[server]\nhost = '\xff\xfe'\n")
    with pytest.raises(SettingsError, match="can't decode"):
        load_settings(path)


@pytest.mark.parametrize(
    ("toml", "where"),
    [
        (f"api_key = '{SECRET}'", "api_key"),
        (f"[server]\napi_key = '{SECRET}'", "server.api_key"),
        (f"[[accounts]]\napi_key = '{SECRET}'", "account 1: api_key"),
        (f"[accounts]\napi_key = '{SECRET}'", "accounts"),
        (f"[server]\nport = '{SECRET}'", "server.port"),
        (f"server = '{SECRET}'", "server"),
        (f"[auth]\nmode = '{SECRET}'", "auth.mode"),
        (f"[[accounts]]\napi_key_env = '{SECRET}'", "account 1: api_key_env"),
        (f"[[accounts]]\ndialect = '{SECRET}'", "account 1: dialect"),
        (f"[[accounts]]\nname = '{SECRET}!'", "account 1: name"),
        (f"[[accounts]]\nbase_url = '{SECRET}'", "base_url"),
        (f"[[accounts]]\nbase_url = 'ftp://user:{SECRET}@host'", "base_url"),
        (f"[[accounts]]\nbase_url = 'https://host/?key={SECRET}'", "base_url"),
        (f"[[accounts]]\nbase_url = 'https://user:{SECRET}@host'", "no name or password"),
        (f"[[accounts]]\ncontent_hosts = ['https://{SECRET}/']", "content_hosts"),
        (f"[[accounts]]\nproxy = 'socks://user:{SECRET}@host'", "proxy"),
        (f"[server]\npublic_url = '{SECRET}'", "server.public_url"),
    ],
)
def test_what_is_out_of_place_is_named_and_its_value_is_not(
    refusal: Refusal, toml: str, where: str
) -> None:
    why = refusal(toml)
    assert where in why
    assert SECRET not in why


@pytest.mark.parametrize(
    "variable",
    [
        "VIDEO_GATEWAY_SERVER__PROT",
        "VIDEO_GATEWAY_SERVER_PORT",
        "VIDEO_GATEWAY_SERVERS__PORT",
        "VIDEO_GATEWAY_SERVER__PORT__X",
        "VIDEO_GATEWAY_SERVER",
        "VIDEO_GATEWAY_PORT",
        "VIDEO_GATEWAY_",
        "VIDEO_GATEWAY_ACCOUNTS",
        "VIDEO_GATEWAY_ACCOUNTS__0__API_KEY",
        "VIDEO_GATEWAY_API_KEY",
        "video_gateway_server__prot",
    ],
)
@pytest.mark.parametrize("value", [SECRET, f'{{"port": "{SECRET}"}}', f'[{{"x": "{SECRET}"}}]'])
def test_a_mistyped_variable_is_named_and_its_value_is_not(
    refusal: Refusal, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    why = refusal()
    assert f"{variable}: " in why
    assert SECRET not in why


@pytest.mark.parametrize("variable", ["SERVER__PORT", "SERVER__TRUSTED_PROXIES", "AUTH__MODE"])
def test_a_variable_of_the_wrong_kind_is_refused_without_its_value(
    refusal: Refusal, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(PREFIX + variable, SECRET)
    assert SECRET not in refusal()


@pytest.mark.parametrize("variable", ["REQUESTS__SECONDS", "SERVER__TRUSTED_PROXIES"])
def test_how_a_list_is_written_in_a_variable_is_told(
    refusal: Refusal, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(PREFIX + variable, "10,15")
    assert f"{PREFIX}{variable}: a list is written as JSON, like [" in refusal()


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[polling]\nexpected = 601", "expected <= max_wait <= task_life"),
        ("[polling]\nmax_wait = 3601", "expected <= max_wait <= task_life"),
        ("[polling]\ninterval = 601", "polling.interval"),
        ("[content]\nvideo_bytes = 50_000_000_001", "content.video_bytes"),
        ("[requests]\nsizes = ['big']", "requests.sizes"),
        ("[requests]\nsizes = []", "requests.sizes"),
        ("[requests]\nseconds = [0]", "requests.seconds"),
        ("[requests]\nmodels = []", "requests.models"),
        ("accounts = []", "accounts"),
        ("[[accounts]]\n[[accounts]]", "two are called 'default'"),
        ("[[accounts]]\nrequests = 0", "account 1: requests"),
        ("[[accounts]]\nconcurrent = 0", "account 1: concurrent"),
        ("[[accounts]]\nperiod = 0", "account 1: period"),
        ("[[accounts]]\nperiod = inf", "account 1: period"),
        ("[[accounts]]\nguard = nan", "account 1: guard"),
        ("[[accounts]]\nguard = -1", "account 1: guard"),
        ("[[accounts]]\nspacing = 61", "spacing"),
        ("[[accounts]]\ncounts = ['submits']", "account 1: counts"),
        ("[[accounts]]\nbase_url = 'https://host/v1'", "without /v1"),
        ("[[accounts]]\nca_file = '/nowhere.pem'", "/nowhere.pem is not there"),
        ("[[accounts]]\nmodels = ['sora-9']", "'default': models: 'sora-9' is not in requests"),
        ("[[accounts]]\nmodels = ['sora-9']", "requests.models: no account serves 'sora-2'"),
        ("[accounts.polling]\ninterval = 1", "accounts"),
        ("[[accounts]]\n[accounts.polling]\ninterval = 0", "account 1: polling.interval"),
        ("[[accounts]]\n[accounts.polling]\nevery = 5", "account 1: polling.every"),
        ("[[accounts]]\n[accounts.polling]\nexpected = 601", "'default': polling: expected <="),
        ("[[accounts]]\n[accounts.polling]\nmax_wait = 5000", "'default': polling: expected <="),
        ("[[accounts]]\n[accounts.polling]\ninterval = 601", "'default': polling.interval"),
        ("[content]\nkeep_days = inf", "content.keep_days"),
        (
            "[content]\nkeep_days = 0.5\nprompt_days = 0.5\nrow_days = 0.9",
            "content.row_days: must be greater than or equal to 1",
        ),
        ("[server]\nport = 65536", "server.port"),
        ("[server]\npublic_url = 'https://host/v1'", "server.public_url: is given without /v1"),
        ("[server]\npublic_url = 'https://host?x=1'", "server.public_url: must be"),
        ("[server]\ntrusted_proxies = ['near']", "server.trusted_proxies"),
        ("[server]\ngrace = 0", "server.grace"),
        ("[server]\ngrace = 60", "server.grace: must be longer than timeouts.submit"),
        ("[timeouts]\nsubmit = 65", "server.grace: must be longer than timeouts.submit"),
        ("[timeouts]\nsubmit = 0", "timeouts.submit"),
        ("[server]\nport = 8080\nmetrics_port = 8080", "server.metrics_port: must not be port"),
    ],
)
def test_what_does_not_add_up_is_refused(refusal: Refusal, toml: str, words: str) -> None:
    assert words in refusal(toml)


def test_settings_built_by_hand_show_no_value_either() -> None:
    with pytest.raises(ValidationError) as refused:
        AccountSettings(api_key=SECRET)
    assert SECRET not in str(refused.value)


def test_every_problem_has_its_line(refusal: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEO_GATEWAY_SERVERS", "1")
    assert len(refusal("[polling]\ninterval = 0\nexpected = 'x'\n").splitlines()) == 3
    assert len(refusal("[polling]\nexpected = 700\n[requests]\nseconds = [0]").splitlines()) == 3


def test_the_port_of_the_command_line_is_checked_too(refusal: Refusal) -> None:
    assert "port" in refusal(port=65536)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.org", ""])
def test_open_mode_is_for_loopback_alone(refusal: Refusal, host: str) -> None:
    assert "loopback" in refusal(f"[auth]\nmode = 'open'\n[server]\nhost = '{host}'")
    assert "loopback" in refusal("[auth]\nmode = 'open'", host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_open_mode_on_loopback(load: Load, host: str) -> None:
    assert is_loopback(host)
    assert load("[auth]\nmode = 'open'", host=host).auth.mode == "open"


# The upstream's keys


def account(**fields: Any) -> AccountSettings:
    return AccountSettings(**{"api_key_env": "KEY_A", **fields})


def keys_of(*accounts: AccountSettings, **environ: str) -> dict[str, str]:
    return upstream_keys(Settings(accounts=list(accounts)), environ)


def test_a_key_comes_from_its_variable(tmp_path: Path) -> None:
    assert keys_of(account(), KEY_A=f" {SECRET}\n") == {"default": SECRET}


def test_a_key_comes_from_its_file_which_then_counts(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"{SECRET}\n")
    assert keys_of(account(api_key_file=str(path)), KEY_A="other") == {"default": SECRET}


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "'default': the variable KEY_A is not set"),
        ({"KEY_A": ""}, "the variable KEY_A is empty"),
        ({"KEY_A": " \n"}, "the variable KEY_A is empty"),
        ({"KEY_A": f"Bearer {SECRET}"}, "does not hold a key"),
        ({"KEY_A": f"{SECRET}\r\nX: y"}, "does not hold a key"),
        ({"KEY_A": f"{SECRET}é"}, "does not hold a key"),
    ],
)
def test_a_key_that_cannot_be_one_is_refused(environ: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(words)) as refused:
        keys_of(account(), **environ)
    assert SECRET not in str(refused.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, words in (("none", "can't be read"), ("binary", "can't be read"), ("empty", "empty")):
        with pytest.raises(SettingsError, match=words):
            keys_of(account(api_key_file=str(tmp_path / name)))


def test_a_key_given_as_its_files_name_is_not_shown() -> None:
    with pytest.raises(SettingsError) as refused:
        keys_of(account(api_key_file=SECRET))
    assert SECRET not in str(refused.value)


def test_two_accounts_may_not_share_a_key() -> None:
    """The upstream limits the key: each of them would use the other's share."""
    pair = account(name="a"), account(name="b", api_key_env="KEY_B")
    with pytest.raises(SettingsError, match="'a' and 'b' have the same key") as refused:
        keys_of(*pair, KEY_A=SECRET, KEY_B=SECRET)
    assert SECRET not in str(refused.value)
    assert keys_of(*pair, KEY_A="one", KEY_B="two") == {"a": "one", "b": "two"}


def test_settings_hold_no_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(SECRET)
    path.chmod(stat.S_IRUSR)
    settings = Settings(accounts=[account(api_key_file=str(path))])
    upstream_keys(settings)
    assert SECRET not in repr(settings) + settings.model_dump_json()


SEVERAL = """
[requests]
models = ["sora-2", "sora-2-pro"]
[polling]
expected = 100.0
[[accounts]]
name = "a"
models = ["sora-2-pro"]
[accounts.polling]
interval = 20.0
max_wait = 500.0
[[accounts]]
name = "b"
"""


def test_an_accounts_own_polling_outweighs_the_shared_one(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(SEVERAL)
    settings = load_settings(tmp_path / "config.toml")
    own, shared = [settings.polling_of(account) for account in settings.accounts]
    assert (own.interval, own.expected, own.max_wait, own.task_life) == (20.0, 100.0, 500.0, 3600.0)
    assert shared == settings.polling


def test_an_account_serves_its_models_or_all(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(SEVERAL)
    settings = load_settings(tmp_path / "config.toml")
    served = [settings.models_of(account) for account in settings.accounts]
    assert served == [{"sora-2-pro"}, {"sora-2", "sora-2-pro"}]


def test_each_thing_that_is_wrong_with_several_accounts_has_its_line(refusal: Refusal) -> None:
    toml = SEVERAL.replace("max_wait = 500.0", "max_wait = 50.0")
    toml = toml.replace('name = "b"', 'name = "b"\nmodels = ["sora-2-pro", "x", "y"]')
    assert sorted(refusal(toml).splitlines()) == [
        "account 'a': polling: expected <= max_wait <= task_life must hold",
        "account 'b': models: 'x' is not in requests.models",
        "account 'b': models: 'y' is not in requests.models",
        "requests.models: no account serves 'sora-2'",
    ]
