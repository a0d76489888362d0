"""Makes the pages of docs/reference and the picture of polling.md from the code: `python
docs/make.py`; `--check` tells what is out of date.

Whatever a page says comes from where the gateway reads it: the settings' fields, the metrics'
registry, the OpenAPI description. What is wrong in a page is put right there.
"""

import json
import runpy
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, MinLen
from prometheus_client.parser import text_string_to_metric_families
from pydantic import AfterValidator, BaseModel
from pydantic.fields import FieldInfo

from gateway.api.openapi import PROBLEMS, describe
from gateway.clock import Clock
from gateway.config import PREFIX, AccountPolling, Settings
from gateway.job import Account, Call, CallEnded, Kind, State
from gateway.ledger.live import Live
from gateway.metrics import Metrics
from gateway.outcome import Verdict
from gateway.policy.dispatch import Rules
from gateway.policy.polling import PollingRule
from gateway.policy.window import WindowRule
from gateway.upstream.dialects import DIALECTS

FOLDER = Path(__file__).parent / "reference"
MADE = "<!-- Made by docs/make.py from the code: change that, and run it. -->"
DEFAULTS = Settings.model_construct()


def pages() -> dict[str, str]:
    """The text of each page by its file's name."""
    made = {"settings.md": settings_page(), "metrics.md": metrics_page(), "http.md": http_page()}
    return {name: "\n".join([MADE, *lines]) + "\n" for name, lines in made.items()}


def pictures() -> dict[str, str]:
    """Each picture by its file's name."""
    drawn = runpy.run_path(str(Path(__file__).with_name("pictures.py")))
    return {"polling.svg": drawn["polling"]()}


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [*("| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines), ""]


# Settings


def settings_page() -> Iterator[str]:
    yield from (
        "# Settings",
        "",
        "Read from a TOML file ([config.toml](../../config.toml) holds each at its default) and",
        "from variables, which outweigh it; the file is `config.toml` here, or what `--config` or",
        f"`{PREFIX}CONFIG` names. A list in a variable is JSON:",
        f"`{PREFIX}REQUESTS__SECONDS=[10,15]`.",
        "What is unknown or doesn't add up is refused: `video-gateway check` says it, a line each.",
        "",
    )
    for section, field in Settings.model_fields.items():
        kind: Any = field.annotation
        model: type[BaseModel] = get_args(kind)[0] if section == "accounts" else kind
        yield f"## {'[[accounts]]' if section == 'accounts' else f'[{section}]'}"
        yield from ("", str(model.__doc__), "")
        if section == "accounts":
            yield from (
                "In the file only. What waits has the status that the first one's dialect tells.",
                "",
            )
        heads, rows = ["option", "default", "may be", "meaning"], options(model)
        if section != "accounts":
            heads.insert(1, "variable")
            for row, name in zip(rows, model.model_fields, strict=True):
                row.insert(1, f"`{PREFIX}{section.upper()}__{name.upper()}`")
        yield from table(heads, rows)
        if section == "accounts":
            yield from ("### [accounts.polling]", "", str(AccountPolling.__doc__), "")
            yield from table(heads, options(AccountPolling))


def options(model: type[BaseModel]) -> list[list[str]]:
    """A row for each option that is no section of its own."""
    return [
        [f"`{name}`", default(option), bounds(option), option.description or ""]
        for name, option in model.model_fields.items()
        if option.annotation is not AccountPolling
    ]


def default(option: FieldInfo) -> str:
    value = option.get_default(call_default_factory=True)
    if value is None:
        return "as in `[polling]`"
    if isinstance(value, str | Path):
        return f'`"{value}"`'
    if isinstance(value, list):
        return "`[" + ", ".join(f'"{v}"' if isinstance(v, str) else str(v) for v in value) + "]`"
    return f"`{value:_}`" if isinstance(value, int) and value > 99_999 else f"`{value}`"


def bounds(option: FieldInfo) -> str:
    """What an option may be, in words."""
    kind: Any = option.annotation
    if get_origin(kind) is UnionType:  # or None
        kind = get_args(kind)[0]
    items = get_args(kind)[0] if get_origin(kind) is list else None
    if get_origin(items or kind) is Literal:
        words = ", ".join(f"`{word}`" for word in get_args(items or kind))
        return f"a list of {words}" if items else words
    names = {str: "text", int: "a whole number", float: "a number", Path: "a path"}
    told = f"a list of {'numbers' if items is int else 'texts'}" if items else names[kind]
    for bound in option.metadata:
        match bound:
            case Ge(ge):
                told += f", {ge} or more"
            case Gt(gt):
                told += f", more than {gt}"
            case Le(le):
                told += f", at most {le}"
            case MinLen(1):
                told += ", not empty"
            case AfterValidator():
                told = "a URL"
            case _ if getattr(bound, "pattern", None):
                told += f", `{bound.pattern}`"
            case _:
                raise ValueError(f"there are no words for {bound!r}")
    return told


# Metrics


def metrics_page() -> Iterator[str]:
    yield from (
        "# Metrics",
        "",
        "`GET /metrics`, Prometheus' text format, no key; on a listener of its own where",
        "`server.metrics_port` is set. A histogram has `_bucket`, `_sum` and `_count`; counters",
        "and histograms have a `_created` beside them.",
        "",
    )
    ours, others = [], []
    for name, kind, labels, text in families():
        row = [f"`{name}`", kind, ", ".join(f"`{label}`" for label in labels), text]
        (ours if name.startswith("video_gateway_") else others).append(row)
    yield from table(["metric", "type", "labels", "meaning"], ours)
    values: dict[str, Iterable[str]] = {"state": State, "kind": Kind, "outcome": Verdict}
    yield from ("The values of a label are few; a caller is never one.", "")
    rows = [[f"`{label}`", ", ".join(f"`{v}`" for v in all_)] for label, all_ in values.items()]
    rows += [
        ["`account`", "the accounts' names in the settings"],
        ["`route`", "the paths of [HTTP](http.md), with `{id}` for an id; `none`: no such path"],
        ["`method`, `status`", "of HTTP; `other`: a method that HTTP does not know"],
    ]
    yield from table(["label", "values"], rows)
    yield from ("Of the process, from the client library:", "")
    yield from table(["metric", "type", "labels", "meaning"], others)


def families() -> Iterator[tuple[str, str, list[str], str]]:
    """Name, type, labels and help of all that a gateway exposes once each figure was counted."""
    live = Live({})
    live.load([], [], [Account("a")], {})
    rules = Rules(WindowRule(1, 1.0, 0.0), PollingRule(1.0, 1.0, 1.0, 1.0), concurrent=1)
    metrics = Metrics(live, Clock(), {"a": rules}, lambda: True)
    metrics.on_event(CallEnded(Call(1, "a", Kind.POLL, None, 0.0, 1.0, Verdict.OBSERVED)))
    metrics.on_request("GET", "/", 200, 0.1)
    for family in text_string_to_metric_families(metrics.expose()[0].decode()):
        if family.name.endswith("_created"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = dict.fromkeys(label for sample in family.samples for label in sample.labels)
        yield name, family.type, [label for label in labels if label != "le"], family.documentation


# HTTP


def http_page() -> Iterator[str]:
    told = describe(DEFAULTS, DIALECTS["apiyi"].queued)
    yield from ("# HTTP", "", told["info"]["description"], "")
    yield from (
        "The same for programs, with the limits of the settings in force: `GET /openapi.json`.",
        "A key goes into `Authorization`, with or without `Bearer`. Each GET is answered to HEAD",
        "too, without the body.",
        "",
    )
    operations = [
        (f"{method.upper()} {path}", operation)
        for path, item in told["paths"].items()
        for method, operation in item.items()
        if method != "head"
    ]
    for tag in dict.fromkeys(operation["tags"][0] for _, operation in operations):
        rows = [[f"`{n}`", o["summary"]] for n, o in operations if o["tags"] == [tag]]
        keyed = "with a key, but in open mode" if tag == "videos" else "without a key"
        yield from (f"## {tag[0].upper()}{tag[1:]}: {keyed}", "", *table(["", ""], rows))
    for name, operation in operations:
        if operation["tags"] != ["not offered"]:
            yield from operation_lines(name, operation)
    yield from ("## Objects", "")
    for name, schema in told["components"]["schemas"].items():
        if "properties" in schema:
            rows = list(properties(schema))
            yield from (f"### {name}", "", *table(["key", "may be", "meaning"], rows))
    yield from ("## Errors", "")
    yield from (
        "Beside each endpoint's own, every one may answer " + ", ".join(everywhere(told)),
        "",
    )
    problem_rows = [
        [f"`{code}`", str(p.status), p.meaning, ", ".join(f"`{h}`" for h in p.headers)]
        for code, p in PROBLEMS.items()
    ]
    yield from table(["code", "status", "meaning", "headers"], problem_rows)
    yield from ("## Headers of answers", "")
    headers = told["components"]["headers"].items()
    yield from table(["header", "meaning"], ([f"`{n}`", h["description"]] for n, h in headers))


def operation_lines(name: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"### `{name}`", "", operation["summary"], "")
    if parameters := operation.get("parameters"):
        rows = [
            [f"`{p['name']}`", p["in"], may_be(p["schema"]), p["description"]] for p in parameters
        ]
        yield from table(["parameter", "in", "may be", "meaning"], rows)
    shown: list[list[str]] = []
    for media_type, body in operation.get("requestBody", {}).get("content", {}).items():
        needed = body["schema"]["required"]
        fields = [
            [f"{name} (needed)" if name.strip("`") in needed else name, *rest]
            for name, *rest in properties(body["schema"])
        ]
        if all(field in shown for field in fields):
            named = ", ".join(name for name, *_ in fields)
            yield from (f"As `{media_type}`, the same: {named}.", "")
        else:
            yield from (f"As `{media_type}`:", "", *table(["field", "may be", "meaning"], fields))
        shown += fields
    rows = []
    for status, answer in sorted(operation["responses"].items()):
        own = [code for code in codes_of(answer) if code not in EVERYWHERE]
        if codes_of(answer) and not own:
            continue
        meaning = ", ".join(f"`{code}`" for code in own) or answer["description"]
        headers = [f"`{header}`" for header in answer["headers"] if header != "x-request-id"]
        rows.append([status, meaning, "" if own else body_of(answer), ", ".join(headers)])
    yield from table(["status", "meaning", "body", "headers"], rows)


def body_of(answer: Mapping[str, Any]) -> str:
    for media_type, content in answer.get("content", {}).items():
        return may_be(content["schema"]) if "json" in media_type else f"`{media_type}`"
    return ""


def codes_of(answer: Mapping[str, Any]) -> list[str]:
    """The error codes of an answer; none: it is no error."""
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    if "allOf" not in schema:
        return []
    return list(schema["allOf"][1]["properties"]["error"]["properties"]["code"]["enum"])


def everywhere(told: Mapping[str, Any]) -> Iterator[str]:
    for answer in told["paths"]["/healthz"]["get"]["responses"].values():
        yield from (f"`{code}`" for code in codes_of(answer))


EVERYWHERE = [code.strip("`") for code in everywhere(describe(DEFAULTS, ""))]


def properties(schema: Mapping[str, Any], within: str = "") -> Iterator[list[str]]:
    """A row for each key of an object, those of objects in it too."""
    for name, value in schema["properties"].items():
        yield [f"`{within}{name}`", may_be(value), value.get("description", "")]
        for inner in (value, *value.get("oneOf", []), value.get("items", {})):
            if "properties" in inner:
                mark = "[]" if inner is value.get("items") else ""
                yield from properties(inner, f"{within}{name}{mark}.")


def may_be(schema: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})" if name != "Description" else "an object"
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        texts = all(isinstance(value, str) for value in values)
        told = ", ".join(f"`{value if texts else json.dumps(value)}`" for value in values)
    elif "oneOf" in schema:
        told = " or ".join(may_be(one) for one in schema["oneOf"])
    elif "contentMediaType" in schema:
        told = "a file"
    else:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        words = {"null": "null", "array": "a list", "object": "an object", "string": "text"}
        words |= {"integer": "a whole number", "number": "a number", "boolean": "true or false"}
        told = " or ".join(words[kind] for kind in kinds)
    if "items" in schema and "$ref" in schema["items"]:
        told += f" of {may_be(schema['items'])}"
    if "maximum" in schema:
        told += f", {schema['minimum']} to {schema['maximum']}"
    elif "minimum" in schema:
        told += f", {schema['minimum']} or more"
    if "maxLength" in schema:
        told += f", at most {schema['maxLength']} characters"
    if "pattern" in schema and schema["pattern"] != r"\S":
        told += f", `{schema['pattern']}`"
    if "default" in schema:
        told += f"; default `{schema['default']}`"
    return told


def main() -> int:
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        print("usage: python docs/make.py [--check]", file=sys.stderr)
        return 2
    made = {FOLDER / name: text for name, text in pages().items()}
    made |= {FOLDER.parent / name: text for name, text in pictures().items()}
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(f"{path}: {'out of date, run python docs/make.py' if check else 'made'}")
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(made[path])
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main())
