"""The rules of the house, kept by reading every module's source."""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from pydantic import BaseModel

import gateway
from gateway.config import AccountPolling, Polling, Settings

HOUSE = Path(gateway.__file__).parent
ROOT = HOUSE.parent

LAYERS = {
    "__main__": 7,
    "cli": 6,
    "app": 5,
    "api": 4,
    "engine": 3,
    "ledger": 2,
    "upstream": 2,
    "content": 2,
    "metrics": 2,
    "policy": 1,
    "job": 0,
    "errors": 0,
    "failpoint": 0,
    "load": 0,
    "config": 0,
    "clock": 0,
    "outcome": 0,
    "keys": 0,
    "log": 0,
}
"""Rooms (folders, and modules that stand alone), from the top down. The sandbox stands beside."""

ASKS_THE_TIME = {
    "clock.py": "it is the one place",
    "sandbox": "imports nothing of the gateway, so it has a clock of its own",
    "cli/keys.py": "a process without a gateway: it stamps a key for people to read",
    "cli/purge.py": "the same",
    "cli/create.py": "a caller, not the gateway: it waits between two polls",
    "upstream/client.py": "the event loop's own timer tells how long no bytes came; it decides "
    "nothing that is kept",
}
"""Who may ask the time, and why."""

TIME = {
    "time": {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns",
             "clock_gettime", "localtime", "gmtime", "strftime", "ctime", "sleep"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
    "loop": {"time"},
    "get_running_loop": {"time"},
    "get_event_loop": {"time"},
    "asyncio": {"sleep"},
}  # fmt: skip
"""Attributes that ask the time, or wait, by the name that they are asked of."""

HTTPX = {"upstream", "cli/create.py"}
"""Who knows httpx: the one client of upstream, and the command that is a caller."""


DISKCACHE_IS_SQLITE = {
    "content/videos.py": {"sqlite3.Error"},  # diskcache lets its errors out
    "content/copy.py": {"sqlite3.connect"},  # its index is copied while others write it
}
"""Who may use what of SQLite outside the ledger: all of it for diskcache's index."""


def modules() -> list[str]:
    return sorted(str(path.relative_to(HOUSE)) for path in HOUSE.rglob("*.py"))


@cache
def source(module: str) -> str:
    return (HOUSE / module).read_text()


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(source(module))


def room(module: str) -> str:
    """The room that a module stands in: `ledger` for ledger/live.py, `job` for job.py."""
    return Path(module).parts[0].removesuffix(".py")


def imports(module: str) -> Iterator[str]:
    """The dotted names of all that a module imports, inside functions too."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ["gateway", *Path(module).parts[:-1]]
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def rooms_imported(module: str) -> set[str]:
    """The rooms of the house that a module imports from."""
    names = [name.split(".") for name in imports(module) if name.split(".")[0] == "gateway"]
    return {name[1] for name in names if len(name) > 1}


def within(module: str, places: set[str] | dict[str, str]) -> bool:
    """Whether a module is one of `places`, or stands in a folder that is."""
    return any(str(path) in places for path in (Path(module), *Path(module).parents))


def last_name(node: ast.expr) -> str:
    """`datetime` for datetime.datetime, `get_running_loop` for asyncio.get_running_loop()."""
    if isinstance(node, ast.Call):
        node = node.func
    return getattr(node, "attr", getattr(node, "id", ""))


everywhere = pytest.mark.parametrize("module", modules())
all_but_the_sandbox = pytest.mark.parametrize(
    "module", [module for module in modules() if room(module) not in ("sandbox", "__init__")]
)
decisions = pytest.mark.parametrize(
    "module", [module for module in modules() if room(module) == "policy"]
)


@all_but_the_sandbox
def test_every_room_has_its_layer(module: str) -> None:
    assert room(module) in LAYERS


@all_but_the_sandbox
def test_imports_go_down_only(module: str) -> None:
    """Rooms of one layer don't import each other; only the nouns of layer 0 may."""
    here = room(module)
    others = rooms_imported(module) - {here, "sandbox"}
    wrong = {
        other
        for other in others
        if LAYERS[other] > LAYERS[here] or (LAYERS[other] == LAYERS[here] != 0)
    }
    assert not wrong


def test_the_nouns_form_no_loop() -> None:
    below = {
        module: {f"{name}.py" for name in rooms_imported(module)}
        for module in modules()
        if LAYERS.get(room(module)) == 0
    }
    while below:
        free = [module for module, needs in below.items() if not needs & below.keys()]
        assert free, f"these import each other: {sorted(below)}"
        below = {module: needs for module, needs in below.items() if module not in free}


def test_no_two_modules_import_each_other_even_in_one_folder() -> None:
    known = {module.removesuffix(".py").replace("/", "."): module for module in modules()}
    below = {
        module: {
            known[name]
            for full in imports(module)
            if (name := full.removeprefix("gateway.")) in known
            or (name := name.rpartition(".")[0]) in known
        }
        - {module}
        for module in modules()
    }
    while below:
        free = [module for module, needs in below.items() if not needs & below.keys()]
        assert free, f"these import each other: {sorted(below)}"
        below = {module: needs for module, needs in below.items() if module not in free}


@decisions
def test_policy_imports_layer_0_alone_and_decides_plainly(module: str) -> None:
    assert all(LAYERS[other] == 0 for other in rooms_imported(module) - {"policy"})
    outside = {name.split(".")[0] for name in imports(module)} - {"gateway"}
    pure = {"array", "bisect", "functools", "itertools", "math", "statistics"}
    assert outside <= pure | {"collections", "dataclasses", "enum", "typing"}
    assert not rooms_imported(module) & {"clock", "log", "config", "keys"}
    waits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert not any(isinstance(node, waits) for node in ast.walk(tree(module)))
    calls = {
        node.func.id
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"open", "print", "input", "exec", "eval", "__import__"}


@everywhere
def test_the_sandbox_stands_alone(module: str) -> None:
    if room(module) == "sandbox":
        assert rooms_imported(module) <= {"sandbox"}
    elif room(module) != "cli":
        assert "sandbox" not in rooms_imported(module)


@pytest.mark.parametrize("module", [module for module in modules() if room(module) == "api"])
def test_api_neither_drives_the_engine_nor_talks_to_upstream(module: str) -> None:
    assert not rooms_imported(module) & {"engine", "upstream"}


@everywhere
def test_only_the_clock_asks_the_time(module: str) -> None:
    asked = {
        node.attr
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute) and node.attr in TIME.get(last_name(node.value), ())
    } | {
        name
        for name in imports(module)
        if name.partition(".")[0] == "time" and name.partition(".")[2] in TIME["time"]
    }
    assert not asked or within(module, ASKS_THE_TIME)


@pytest.mark.parametrize("place", sorted(ASKS_THE_TIME))
def test_no_exception_is_left_that_nobody_needs(place: str) -> None:
    under = [module for module in modules() if within(module, {place})]
    names = "time|loop|datetime|asyncio"
    assert any(re.search(rf"\b({names})\.(time|monotonic|sleep|clock)", source(m)) for m in under)


@everywhere
def test_only_upstream_and_the_create_command_know_httpx(module: str) -> None:
    known = {name.split(".")[0] for name in imports(module)}
    assert not known & {"httpx", "httpcore", "requests", "aiohttp"} or within(module, HTTPX)


@everywhere
def test_only_the_ledger_knows_sql(module: str) -> None:
    known = {name.split(".")[0] for name in imports(module)} & {"sqlite3", "sqlalchemy", "alembic"}
    if module in DISKCACHE_IS_SQLITE:
        used = {
            ast.unparse(node)
            for node in ast.walk(tree(module))
            if isinstance(node, ast.Attribute) and last_name(node.value) == "sqlite3"
        }
        assert (known, used) == ({"sqlite3"}, DISKCACHE_IS_SQLITE[module])
    else:
        assert not known or room(module) == "ledger"


@everywhere
def test_every_module_says_what_it_is(module: str) -> None:
    assert ast.get_docstring(tree(module))


@everywhere
def test_no_module_is_longer_than_400_lines(module: str) -> None:
    assert len(source(module).splitlines()) <= 400


@everywhere
def test_no_room_is_a_lumber_room(module: str) -> None:
    words = {part for name in Path(module).parts for part in name.removesuffix(".py").split("_")}
    lumber = {"util", "utils", "helper", "helpers", "common", "manager", "managers", "misc"}
    assert not words & lumber


@everywhere
def test_there_is_no_global_state(module: str) -> None:
    assert not any(isinstance(node, ast.Global) for node in ast.walk(tree(module)))


# Settings: each option once, with its help and its default


def options() -> list[tuple[str, str]]:
    """Every option's section and name."""
    return [(section, name) for section, model in sections().items() for name in model.model_fields]


def sections() -> dict[str, type[BaseModel]]:
    found: dict[str, type[BaseModel]] = {}
    for section, field in Settings.model_fields.items():
        kind = field.annotation
        model = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else kind.__args__[0]
        found[section] = model
    return found


@pytest.mark.parametrize(("section", "name"), options())
def test_every_option_has_a_description(section: str, name: str) -> None:
    assert sections()[section].model_fields[name].description


# `api_key_file` is written beside `api_key_env`, whose place it takes.
SHOWN = [option for option in options() if option != ("accounts", "api_key_file")]


@pytest.mark.parametrize(("section", "name"), SHOWN)
def test_every_option_stands_in_the_example_with_its_default(section: str, name: str) -> None:
    told = tomllib.loads((ROOT / "config.toml").read_text())[section]
    value = (told[0] if section == "accounts" else told)[name]
    default = sections()[section].model_fields[name].get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        default = default.model_dump(exclude_none=True)
    assert value == (str(default) if isinstance(default, Path) else default)


def test_the_options_that_the_example_does_not_set_are_named_there() -> None:
    told = (ROOT / "config.toml").read_text()
    assert "api_key_file" in told
    for name in AccountPolling.model_fields:
        assert f"# {name} = {Polling.model_fields[name].default}" in told


def test_the_example_holds_nothing_else() -> None:
    told = tomllib.loads((ROOT / "config.toml").read_text())
    assert told.keys() == sections().keys()
    for section, model in sections().items():
        table = told[section][0] if section == "accounts" else told[section]
        assert table.keys() <= model.model_fields.keys()
