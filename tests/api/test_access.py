"""Who may ask, and what they see of each other: nothing."""

import hmac
from urllib.parse import quote

import httpx
import pytest
from conftest import MakeGateway
from stage import Caller, House, create_key

from gateway.keys import digest, new_key
from gateway.ledger.callers import revoke_keys
from gateway.ledger.ledger import commit_beside

from .bench import complete, error_of

ROUTES = [
    ("POST", "/v1/videos"),
    ("GET", "/v1/videos/video_1"),
    ("GET", "/v1/videos/video_1/content"),
    ("HEAD", "/v1/videos/video_1/content"),
]


def client(house: House, peer: str = "127.0.0.1", **headers: str) -> httpx.AsyncClient:
    """A client without a key."""
    transport = httpx.ASGITransport(house.app, client=(peer, 1234))
    return httpx.AsyncClient(transport=transport, base_url="http://gateway.test", headers=headers)


class TestKeys:
    @pytest.mark.parametrize(
        "form", ["{}", "Bearer {}", "bearer {}", "BEARER  {}", " {} ", "Bearer {} "]
    )
    async def test_with_bearer_or_bare(self, house: House, form: str) -> None:
        given = form.format(create_key(house.folder, "alice"))
        async with client(house, authorization=given) as http:
            assert (await http.post("/v1/videos", json={"prompt": "a cat"})).status_code == 200

    @pytest.mark.parametrize(
        "given",
        [
            None,
            "",
            "Bearer",
            "Bearer ",
            "Basic dXNlcjpwYXNz",
            "vgw_",
            "sandbox-key",
            "Bearer sandbox-key",
            pytest.param(new_key(), id="a key that nobody has"),
            pytest.param(f"Bearer {new_key()}", id="Bearer and a key that nobody has"),
            pytest.param(new_key()[:-1] + "é", id="a key that no header can hold"),
            "x" * 10_000,
        ],
    )
    async def test_none_of_ours(self, house: House, given: str | None) -> None:
        headers = {} if given is None else {"authorization": given.encode("latin-1")}
        async with client(house) as http:
            for method, path in ROUTES:
                answer = await http.request(method, path, headers=headers)
                assert answer.status_code == 401
                if method == "HEAD":
                    continue
                error = error_of(answer, 401)
                assert error["type"] == "authentication_error"
                assert error["code"] == "invalid_api_key"
                if given and len(given) > 10:
                    assert given.removeprefix("Bearer ") not in answer.text

    async def test_only_digests_are_compared_and_in_constant_time(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        compared: list[tuple[str, str]] = []
        compare = hmac.compare_digest

        def noted(one: str, other: str) -> bool:
            compared.append((one, other))
            return compare(one, other)

        monkeypatch.setattr(hmac, "compare_digest", noted)
        key = create_key(house.folder, "alice")
        async with client(house) as http:
            for given, status in ((key, 200), (new_key(), 401), (key[:-1] + "?", 401)):
                answer = await http.get("/v1/videos", headers={"authorization": given})
                assert answer.status_code == status
        assert compared == [(digest(key), digest(key))]

    async def test_a_revoked_key_reads_nothing(self, house: House) -> None:
        key = create_key(house.folder, "alice")
        async with client(house, authorization=key) as http:
            video = (await http.post("/v1/videos", json={"prompt": "a cat"})).json()["id"]
            await complete(house, video)
            assert (await http.get(f"/v1/videos/{video}/content")).status_code == 200
            commit_beside(house.folder, revoke_keys("alice", 0.0), 0.0)
            for method, path in ROUTES:
                answer = await http.request(method, path.replace("video_1", video))
                assert answer.status_code == 401
        other = create_key(house.folder, "alice")
        async with client(house, authorization=other) as http:
            assert (await http.get(f"/v1/videos/{video}")).status_code == 200


class TestIds:
    """An id with a path in it, or somebody else's: the same 404."""

    @pytest.mark.parametrize(
        "name",
        [
            "video_1",
            "video_" + "0" * 32,
            "..%2f..%2fetc%2fpasswd",
            "%2e%2e%2f%2e%2e",
            "a/b/c",
            "video_1%00",
            "' OR 1=1 --",
            "*",
            "%",
            "x" * 3000,
            "ä",
        ],
    )
    async def test_whatever_is_not_mine_does_not_exist(
        self, house: House, caller: Caller, make_caller, name: str
    ) -> None:
        theirs = await make_caller(house, "bob").create("a secret")
        await complete(house, theirs)
        raw = name if "%" in name else quote(name, safe="/.")
        for end in ("", "/content"):
            expected = await caller.http.get(f"/v1/videos/{theirs}{end}")
            error_of(expected, 404)
            url = httpx.URL("http://gateway.test", raw_path=f"/v1/videos/{raw}{end}".encode())
            answer = await caller.http.send(caller.http.build_request("GET", url))
            assert error_of(answer, 404) == error_of(expected, 404)
            assert answer.headers["x-should-retry"] == "false"

    @pytest.mark.parametrize(
        ("method", "end"),
        [("GET", ""), ("HEAD", ""), ("DELETE", ""), ("GET", "/content"), ("HEAD", "/content")],
    )
    async def test_somebody_elses_is_like_none_on_every_route(
        self, house: House, caller: Caller, make_caller, method: str, end: str
    ) -> None:
        theirs = await make_caller(house, "bob").create("a secret")
        await complete(house, theirs)
        answers = [
            await caller.http.request(method, f"/v1/videos/{video}{end}")
            for video in (theirs, "video_" + "0" * 32)
        ]
        told = [
            (
                answer.status_code,
                answer.content,
                [name for name in answer.headers.items() if name[0] != "x-request-id"],
            )
            for answer in answers
        ]
        assert told[0] == told[1]
        assert told[0][0] == 404
        assert house.job(theirs).is_seen

    async def test_callers_do_not_see_each_other(self, house: House, make_caller) -> None:
        alice, bob = make_caller(house, "alice"), make_caller(house, "bob")
        video = await alice.create("a cat")
        assert (await alice.http.get(f"/v1/videos/{video}")).status_code == 200
        error_of(await bob.http.get(f"/v1/videos/{video}"), 404)

    async def test_two_keys_of_one_name_are_one_caller(self, house: House, make_caller) -> None:
        video = await make_caller(house, "alice").create("a cat")
        assert (await make_caller(house, "alice").video(video))["id"] == video


class TestOpenMode:
    """No key, but for this machine alone."""

    @pytest.fixture
    async def house(self, make_gateway: MakeGateway) -> House:
        house = await make_gateway("http://upstream.invalid", auth={"mode": "open"})
        house.gateway.stop_calls()
        return house

    @pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1"])
    async def test_this_machine(self, house: House, peer: str) -> None:
        for host in ("localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "[::1]"):
            async with client(house, peer, host=host) as http:
                video = (await http.post("/v1/videos", json={"prompt": "a cat"})).json()["id"]
                assert (await http.get(f"/v1/videos/{video}")).status_code == 200

    @pytest.mark.parametrize("peer", ["192.0.2.7", "10.0.0.1", "2001:db8::1", "testclient", ""])
    async def test_another_machine(self, house: House, peer: str) -> None:
        async with client(house, peer, host="localhost:8080") as http:
            error = error_of(await http.post("/v1/videos", json={"prompt": "a cat"}), 403)
        assert (error["type"], error["code"]) == ("permission_error", "open_mode_is_local")

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "192.0.2.7:8080",
            "",
            ":80",
        ],
    )
    async def test_a_web_page_that_was_let_in_by_dns(self, house: House, host: str) -> None:
        async with client(house, host=host) as http:
            error_of(await http.post("/v1/videos", json={"prompt": "a cat"}), 403)

    @pytest.mark.parametrize(
        "origin", ["https://evil.example", "http://localhost:8999", "http://127.0.0.1:8080", "null"]
    )
    async def test_a_form_of_a_web_page(self, house: House, origin: str) -> None:
        """A browser sends it without asking anybody, from any page."""
        async with client(house, host="localhost:8080", origin=origin) as http:
            answer = await http.post("/v1/videos", files={"prompt": (None, "a cat")})
        assert error_of(answer, 403)["code"] == "open_mode_is_local"

    async def test_a_program_that_names_the_gateway_as_its_origin(self, house: House) -> None:
        async with client(house, host="localhost:8080", origin="http://localhost:8080") as http:
            assert (await http.post("/v1/videos", json={"prompt": "a cat"})).status_code == 200

    @pytest.mark.parametrize(
        "header", ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"]
    )
    async def test_what_a_proxy_on_this_machine_lets_in(self, house: House, header: str) -> None:
        async with client(house, host="localhost", **{header: "127.0.0.1"}) as http:
            error_of(await http.post("/v1/videos", json={"prompt": "a cat"}), 403)

    async def test_a_forwarded_address_is_not_believed(self, house: House) -> None:
        headers = {"host": "localhost", "x-forwarded-for": "127.0.0.1"}
        async with client(house, "192.0.2.7", **headers) as http:
            error_of(await http.post("/v1/videos", json={"prompt": "a cat"}), 403)
