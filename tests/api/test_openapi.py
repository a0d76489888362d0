"""The description of the HTTP is true: of the routes, and of every answer that they give."""

import asyncio
import errno
import io
import logging
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from PIL import Image
from starlette.applications import Starlette
from starlette.routing import Route, compile_path

from gateway.api.openapi import PROBLEMS, describe
from gateway.app import Gateway
from gateway.clock import read_boot
from gateway.config import AccountSettings, Auth, Limits, Polling, Requests, Server, Settings
from gateway.errors import LedgerFull
from gateway.keys import digest, new_key
from gateway.ledger.callers import add_key
from gateway.ledger.ledger import commit_beside
from gateway.ledger.transitions import note
from gateway.sandbox import Running, SandboxSettings, running

KEY = "sandbox-key"
SPEED = 200.0
FINAL = ("completed", "failed")
DEFAULTS = Settings.model_construct()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def sandbox(anyio_backend: str) -> AsyncIterator[Running]:
    options = {"api_key": KEY, "speed": SPEED, "generation": 20.0, "video_fps": 1}
    async with running(SandboxSettings(**options)) as upstream:
        yield upstream


class Reader:
    """A caller that holds every answer against the description."""

    def __init__(self, gateway: Gateway, key: str, peer: str = "127.0.0.1") -> None:
        transport = httpx.ASGITransport(gateway.app, raise_app_exceptions=False, client=(peer, 1))
        headers = {"authorization": f"Bearer {key}"}
        self.gateway = gateway
        self.http = httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=headers
        )
        self.told: dict[str, Any] = {}
        self.codes: set[str] = set()

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer = await self.http.request(method, path, **options)
        self._check(method, path.partition("?")[0], answer)
        return answer

    async def create(self, prompt: str = "a cat", **fields: str) -> dict[str, Any]:
        answer = await self.ask("POST", "/v1/videos", json={"prompt": prompt, **fields})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def finished(self, video: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + 30
        while video["status"] not in FINAL:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
            video = (await self.ask("GET", f"/v1/videos/{video['id']}")).json()
        return video

    def _check(self, method: str, path: str, answer: httpx.Response) -> None:
        template = self._template(path)
        response = self.told["paths"][template][method.lower()]["responses"].get(
            str(answer.status_code)
        )
        assert response is not None, f"{method} {template} gave {answer.status_code}"
        kind = answer.headers.get("content-type", "").partition(";")[0]
        headers = answer.headers.keys() - {"content-type", "content-length"}
        assert headers <= response["headers"].keys(), f"{method} {template}: {headers}"
        for name in answer.headers.keys() & response["headers"].keys():
            if self.told["components"]["headers"][name]["schema"]["type"] == "integer":
                int(answer.headers[name])
        if method == "HEAD" or not answer.content:
            return
        schema = response["content"][kind]["schema"]
        if kind == "application/json":
            assert complaints(self.told, schema, answer.json()) == []
            error = answer.json().get("error")
            if answer.is_error and error:
                self.codes.add(error["code"])
                promised = PROBLEMS[error["code"]].headers
                assert set(promised) <= answer.headers.keys(), error

    def _template(self, path: str) -> str:
        """The description's path of a request: a plain one before one with an id in it."""
        paths = sorted(self.told["paths"], key=lambda known: "{" in known)
        return next(known for known in paths if compile_path(known)[0].match(path))


def complaints(told: dict[str, Any], schema: dict[str, Any], value: Any) -> list[str]:
    whole = {**schema, "components": told["components"]}
    return [error.message for error in Draft202012Validator(whole).iter_errors(value)]


Join = Callable[..., Any]


@pytest.fixture
async def join(sandbox: Running, tmp_path: Path) -> AsyncIterator[Join]:
    """Starts a gateway in front of the sandbox, and makes a caller of it that reads its description
    first.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    async with AsyncExitStack() as stack:
        stack.callback(structlog.reset_defaults)

        async def joined(**sections: Any) -> Reader:
            folder = tmp_path / "data"
            settings = Settings(
                server=Server(data_dir=folder, grace=5),
                accounts=[AccountSettings(base_url=sandbox.url, period=60 / SPEED, guard=0.05)],
                polling=Polling(interval=0.15, expected=0.2, max_wait=3, task_life=18),
                **{"limits": Limits(requests=100_000), **sections},
            )
            gateway = Gateway(settings, {"default": KEY}, read_boot(), lambda _error: None)
            await stack.enter_async_context(gateway.life())
            key = new_key()
            commit_beside(folder, add_key("ada", "key_1", digest(key), time.time()), time.time())
            reader = Reader(gateway, key)
            stack.push_async_callback(reader.http.aclose)
            reader.told = (await reader.http.get("/openapi.json", headers={})).json()
            return reader

        yield joined


def routes(gateway: Gateway) -> set[tuple[str, str]]:
    app: Any = gateway.app
    while not isinstance(app, Starlette):
        app = app._app
    assert all(isinstance(route, Route) for route in app.routes)
    return {(route.path, method) for route in app.routes for method in route.methods}  # type: ignore[attr-defined]


@pytest.mark.parametrize("port", [0, 9100])
async def test_every_route_is_described_and_nothing_else(tmp_path: Path, port: int) -> None:
    settings = Settings(server=Server(data_dir=tmp_path, metrics_port=port))
    gateway = Gateway(settings, {"default": KEY}, read_boot(), lambda _error: None)
    async with gateway.life():
        told = describe(settings, "submitted")
        assert routes(gateway) == {
            (path, method.upper()) for path, item in told["paths"].items() for method in item
        }


def test_it_is_valid() -> None:
    OpenAPIV31SpecValidator(describe(DEFAULTS, "submitted")).validate()


def test_it_follows_the_settings() -> None:
    settings = Settings(
        server=Server(public_url="https://videos.example/"),
        requests=Requests(models=["m"], sizes=["8x8"], seconds=[3], prompt_chars=7),
    )
    told = describe(settings, "waiting")
    assert told["servers"] == [{"url": "https://videos.example"}]
    body = told["paths"]["/v1/videos"]["post"]["requestBody"]["content"]["application/json"]
    assert complaints(told, body["schema"], {"prompt": "7 chars", "seconds": 3}) == []
    assert complaints(told, body["schema"], {"prompt": "too long"}) != []
    assert complaints(told, body["schema"], {"prompt": "a", "model": "sora-2"}) != []
    assert "waiting" in told["components"]["schemas"]["Video"]["properties"]["status"]["enum"]


def picture(size: tuple[int, int] = (64, 36)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, "PNG")
    return file.getvalue()


def data_url(content: bytes) -> str:
    return f"data:image/png;base64,{b64encode(content).decode()}"


JSON_BODIES = [
    {"prompt": "a"},
    {"prompt": "a", "model": "sora-2", "size": "720x1280", "seconds": "15"},
    {"prompt": "a", "model": None, "size": None, "seconds": 10, "input_reference": None},
    {"prompt": "a", "input_reference": data_url(picture())},
    {"prompt": "a", "input_reference": {"image_url": data_url(picture()), "file_id": None}},
    {},
    {"prompt": ""},
    {"prompt": " \n"},
    {"prompt": 7},
    {"prompt": "a" * 1000},
    {"prompt": "a", "model": "sora-3"},
    {"prompt": "a", "size": "1x1"},
    {"prompt": "a", "seconds": 11},
    {"prompt": "a", "seconds": True},
    {"prompt": "a", "style": "noir"},
    {"prompt": "a", "input_reference": "https://example.com/a.png"},
    {"prompt": "a", "input_reference": {"file_id": "file_1"}},
    {"prompt": "a", "input_reference": {"image_url": "https://example.com/a.png"}},
    {"prompt": "a", "input_reference": 7},
]


async def test_a_body_is_taken_where_the_description_says_so(join: Join) -> None:
    reader = await join()
    content = reader.told["paths"]["/v1/videos"]["post"]["requestBody"]["content"]
    for body in JSON_BODIES:
        answer = await reader.ask("POST", "/v1/videos", json=body)
        described = complaints(reader.told, content["application/json"]["schema"], body) == []
        assert described == (answer.status_code == 200), (body, answer.text)
    for kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        schema = content[kind]["schema"]
        for body in JSON_BODIES:
            if not all(isinstance(value, str) for value in body.values()):
                continue
            form = {"data": body} if "urlencoded" in kind else {"files": files(body)}
            if not body:
                continue  # httpx would send no form at all
            answer = await reader.ask("POST", "/v1/videos", **form)
            text = {k: v for k, v in body.items() if k != "input_reference"}
            if text == body:
                described = complaints(reader.told, schema, body) == []
                assert described == (answer.status_code == 200), (kind, body, answer.text)
        nested = {"prompt": "a", "input_reference[image_url]": data_url(picture())}
        assert complaints(reader.told, schema, nested) == []
        form = {"data": nested} if "urlencoded" in kind else {"files": files(nested)}
        assert (await reader.ask("POST", "/v1/videos", **form)).status_code == 200


def files(fields: dict[str, str]) -> list[tuple[str, Any]]:
    return [(name, (None, value)) for name, value in fields.items()]


async def test_every_answer_is_as_described(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = await join()
    ask, videos = reader.ask, "/v1/videos"

    # What is accepted, and how it comes out
    image = [("prompt", (None, "boat")), ("input_reference", ("a.png", picture()))]
    assert (await ask("POST", videos, files=image)).status_code == 200
    assert (await ask("POST", videos, data={"prompt": "boat"})).status_code == 200
    sdk = {"x-stainless-lang": "python"}
    assert (await ask("POST", videos, json={"prompt": "boat"}, headers=sdk)).status_code == 200
    done = await reader.finished(await reader.create())
    failed = await reader.finished(await reader.create("sandbox:refuse"))
    assert (done["status"], failed["status"]) == FINAL
    for query in ("", "?limit=2&order=asc", f"?after={done['id']}", "?limit=0"):
        assert (await ask("GET", f"{videos}{query}")).status_code == 200
    content = f"{videos}/{done['id']}/content"
    whole = await ask("GET", content)
    etag = whole.headers["etag"]
    for headers, status in (
        ({"range": "bytes=0-9"}, 206),
        ({"range": "bytes=0-9", "if-range": '"other"'}, 200),
        ({"range": "bytes=9-0"}, 416),
        ({"if-none-match": etag}, 304),
        ({"if-match": '"other"'}, 412),
    ):
        for method in ("GET", "HEAD"):
            assert (await ask(method, content, headers=headers)).status_code == status
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", videos, content):
        for method in ("GET", "HEAD"):
            assert (await ask(method, path)).status_code == 200

    # What is refused
    waiting = await reader.create("sandbox:hang")
    early = f"{videos}/{waiting['id']}/content"
    for method, path, options, status in (
        ("GET", f"{content}?variant=thumbnail", {}, 400),
        ("GET", f"{videos}?limit=101", {}, 400),
        ("GET", f"{videos}?order=up", {}, 400),
        ("GET", f"{videos}?after=nobody", {}, 400),
        ("GET", f"{videos}/nobody", {}, 404),
        ("DELETE", f"{videos}/nobody", {}, 404),
        ("GET", f"{videos}/nobody/content", {}, 404),
        ("GET", early, {}, 404),
        ("GET", f"{videos}/{failed['id']}/content", {}, 404),
        ("GET", content, {"headers": {"authorization": "vgw_"}}, 401),
        ("POST", videos, {"headers": {"authorization": ""}}, 401),
        ("POST", videos, {"content": b"{", "headers": JSON}, 400),
        ("POST", videos, {"content": b"[]", "headers": JSON}, 400),
        ("POST", videos, {"content": b"x", "headers": {"content-type": "text/plain"}}, 415),
        ("POST", videos, {"content": b"x", "headers": {"content-type": FORM}}, 400),
        ("POST", videos, {"data": {f"f{n}": "1" for n in range(30)}}, 400),
        ("POST", videos, {"files": [("prompt", (None, "a" * 70_000))]}, 400),
        ("POST", videos, {"files": [("prompt", (None, "a")), HUGE]}, 413),
        ("POST", videos, {"content": endless(), "headers": JSON}, 413),
        ("POST", videos, {"json": {"prompt": "a"}, "headers": {"idempotency-key": " "}}, 400),
        ("GET", "/healthz", {"headers": {"content-length": "99999999"}}, 413),
        ("GET", "/healthz", {"headers": {"x-long": "x" * 20_000}}, 431),
        ("GET", videos, {"headers": {"content-length": "1", "transfer-encoding": "chunked"}}, 400),
        ("POST", f"{videos}/{done['id']}/remix", {}, 404),
        ("GET", f"{videos}/characters", {}, 404),
        ("POST", f"{videos}/characters", {}, 404),
        ("GET", f"{videos}/characters/one", {}, 404),
        ("POST", f"{videos}/edits", {}, 404),
        ("POST", f"{videos}/extensions", {}, 404),
    ):
        answer = await ask(method, path, **options)
        assert answer.status_code == status, (method, path, answer.text)
    once = {"headers": {"idempotency-key": "k1"}}
    for prompt, status in (("a", 200), ("a", 200), ("b", 409)):
        answer = await ask("POST", videos, json={"prompt": prompt}, **once)
        assert answer.status_code == status

    assert (await ask("GET", f"{videos}?after={'x' * 9000}")).status_code == 414

    def no_descriptors(*_arguments: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("gateway.content.videos.open", no_descriptors, raising=False)
        assert (await ask("GET", content)).status_code == 503

    # What is over
    job = reader.gateway.ledger.job(done["id"])
    await reader.gateway.ledger.commit(note(job, {"content_gone": True}))
    assert (await ask("GET", content)).status_code == 410
    assert (await ask("DELETE", f"{videos}/{done['id']}")).status_code == 200
    assert (await ask("GET", f"{videos}/{done['id']}")).status_code == 404

    # What goes wrong here
    async def full(*_arguments: object) -> None:
        raise LedgerFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr(reader.gateway.ledger, "commit", full)
        assert (await ask("POST", videos, json={"prompt": "a"})).status_code == 503
        assert (await ask("DELETE", f"{videos}/{waiting['id']}")).status_code == 503
        assert (await ask("GET", "/readyz")).status_code == 503
    with monkeypatch.context() as patch:
        patch.setattr(reader.gateway.ledger, "job", None)
        assert (await ask("GET", f"{videos}/{waiting['id']}")).status_code == 500
    async with hung_up(reader) as answer:
        assert answer.status_code == 400

    elsewhere = {
        "open_mode_is_local", "rate_limit_exceeded", "too_many_wrong_keys", "queue_full",
        "invalid_http", "body_too_slow", "too_many_connections",
    }  # fmt: skip
    assert reader.codes == PROBLEMS.keys() - elsewhere


JSON = {"content-type": "application/json"}
FORM = "multipart/form-data; boundary=b"
HUGE = ("input_reference", ("a.png", b"x" * 10_000_000))


async def endless() -> AsyncIterator[bytes]:
    """A body without a length, longer than any that is accepted."""
    for _ in range(20):
        yield b"x" * 1_000_000


@asynccontextmanager
async def hung_up(reader: Reader) -> AsyncIterator[httpx.Response]:
    """The answer to a caller who is gone before its request's body ends."""
    sent: list[Any] = []
    request = reader.http.build_request("POST", "/v1/videos", headers=JSON)
    headers = [(name.lower(), value) for name, value in request.headers.raw]
    scope = {
        "type": "http", "method": "POST", "path": "/v1/videos", "raw_path": b"/v1/videos",
        "query_string": b"", "headers": headers, "client": ("127.0.0.1", 1),
        "server": ("localhost", 80), "scheme": "http", "http_version": "1.1", "root_path": "",
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await reader.gateway.app(scope, receive, send)
    answer = httpx.Response(sent[0]["status"], headers=sent[0]["headers"], content=sent[1]["body"])
    reader._check("POST", "/v1/videos", answer)
    yield answer


async def test_bounds_are_as_described(join: Join) -> None:
    reader = await join(limits=Limits(requests=3, queued=1, wrong_keys=1))
    reader.gateway.stop_calls()
    await reader.create()
    for _ in range(3):
        await reader.ask("POST", "/v1/videos", json={"prompt": "a"})
        await reader.ask("GET", "/v1/videos", headers={"authorization": "vgw_wrong"})
    assert reader.codes == {
        "queue_full", "rate_limit_exceeded", "too_many_wrong_keys", "invalid_api_key"
    }  # fmt: skip


async def test_open_mode_is_as_described(join: Join) -> None:
    reader = await join(auth=Auth(mode="open"))
    assert {} in reader.told["security"]
    assert (await reader.ask("GET", "/v1/videos", headers={"authorization": ""})).is_success
    stranger = Reader(reader.gateway, "", "192.0.2.1")
    stranger.told = reader.told
    for method, path in (("POST", ""), ("GET", ""), ("GET", "/a"), ("DELETE", "/a")):
        assert (await stranger.ask(method, f"/v1/videos{path}")).status_code == 403
    await stranger.http.aclose()
