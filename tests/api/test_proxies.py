"""Behind a proxy: forwarded headers are believed from the addresses that the settings name alone,
and a video's `url` follows.
"""

from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from gateway.api.proxies import behind_proxies
from gateway.api.wire import Wire, json_response

PROXY, STRANGER, CALLER = "10.0.0.2", "192.0.2.7", "203.0.113.9"
FORWARDED = {
    "x-forwarded-proto": "https",
    "x-forwarded-host": "videos.example.com",
    "x-forwarded-for": CALLER,
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def seen(
    trusted: list[str], peer: str, headers: dict[str, str], public_url: str = ""
) -> dict[str, Any]:
    """What the application takes for its own address, and for its caller's."""
    wire = Wire(lambda _job: 1, lambda _job: None, "queued", "auto", public_url, 1.0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        client = request.client.host if request.client else None
        await json_response({"base": wire.base(request), "client": client})(scope, receive, send)

    transport = httpx.ASGITransport(behind_proxies(app, trusted), client=(peer, 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://inside:8080") as http:
        return dict((await http.get("/", headers=headers)).json())


@pytest.mark.parametrize("trusted", [["10.0.0.2"], ["10.0.0.0/8"], ["192.0.2.1", "10.0.0.2/32"]])
async def test_a_trusted_proxy_is_believed(trusted: list[str]) -> None:
    told = await seen(trusted, PROXY, FORWARDED)
    assert told == {"base": "https://videos.example.com", "client": CALLER}


@pytest.mark.parametrize("trusted", [["2001:db8::1"], ["2001:db8::/32"]])
async def test_a_trusted_proxy_may_have_an_ipv6_address(trusted: list[str]) -> None:
    told = await seen(trusted, "2001:db8::1", FORWARDED)
    assert told == {"base": "https://videos.example.com", "client": CALLER}


@pytest.mark.parametrize("trusted", [[], ["10.0.0.2"], ["10.0.0.0/8"], ["127.0.0.1"]])
async def test_nobody_else_is(trusted: list[str]) -> None:
    told = await seen(trusted, STRANGER, FORWARDED)
    assert told == {"base": "http://inside:8080", "client": STRANGER}


@pytest.mark.parametrize("peer", ["", "testclient"])
async def test_a_peer_without_an_address_is_not(peer: str) -> None:
    told = await seen(["10.0.0.2"], peer, FORWARDED)
    assert told["base"] == "http://inside:8080"


async def test_what_a_caller_put_before_the_proxys_own_word_is_not_believed() -> None:
    chain = {
        "x-forwarded-for": f"127.0.0.1, {CALLER}, {PROXY}",
        "x-forwarded-host": "evil.example, videos.example.com",
    }
    told = await seen(["10.0.0.0/8"], PROXY, chain)
    assert told == {"base": "http://videos.example.com", "client": CALLER}


@pytest.mark.parametrize("host", ["evil.example/path", "a b", "user@evil.example", "a:b:c"])
async def test_a_host_that_is_none_does_not_get_into_a_url(host: str) -> None:
    told = await seen([PROXY], PROXY, {"x-forwarded-host": host})
    assert told["base"] == "http://inside:8080"


async def test_without_the_headers_a_proxys_request_is_as_it_came() -> None:
    told = await seen([PROXY], PROXY, {"host": "videos.example.com:8443"})
    assert told == {"base": "http://videos.example.com:8443", "client": PROXY}


@pytest.mark.parametrize("peer", [PROXY, STRANGER])
async def test_the_public_url_of_the_settings_outweighs_all(peer: str) -> None:
    told = await seen([PROXY], peer, FORWARDED, "https://public.example/videos")
    assert told["base"] == "https://public.example/videos"
