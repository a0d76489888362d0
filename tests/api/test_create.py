"""What a caller may ask for, and how each other wish is refused before it costs anything."""

import asyncio
import hashlib
import io
import struct
import zlib
from typing import Any

import pytest
from conftest import MakeGateway
from PIL import Image
from stage import Caller, House, picture
from upstream.bench import Server

from .bench import KEYS, error_of

SDK = {"x-stainless-lang": "python"}


@pytest.fixture
async def house(make_gateway: MakeGateway, upstream: Server) -> House:
    """A gateway that would call upstream for whatever it accepts."""
    return await make_gateway(upstream.url)


def untouched(house: House, upstream: Server) -> bool:
    """Nothing was accepted, nothing was left behind, nobody was called."""
    jobs = sum(house.ledger.live.counts.values())
    files = list((house.folder / "inputs").iterdir())
    return not jobs and not files and not upstream.connections


class TestAccepted:
    async def test_as_a_form(self, house: House, caller: Caller) -> None:
        answer = await caller.post("ein Kätzchen", size="720x1280", seconds="15", model="sora-2")
        assert answer.status_code == 200
        told = answer.json()
        assert set(told) == KEYS
        assert told["object"] == "video"
        assert told["prompt"] == "ein Kätzchen"
        assert (told["model"], told["size"], told["seconds"]) == ("sora-2", "720x1280", "15")
        assert (told["status"], told["progress"]) == ("submitted", 0)
        assert told["error"] is None
        assert house.job(told["id"]).state in ("queued", "submitting")

    @pytest.mark.parametrize("seconds", ["15", 15])
    async def test_as_json(self, caller: Caller, seconds: object) -> None:
        wish = {"prompt": "a cat", "seconds": seconds, "size": None}
        answer = await caller.http.post("/v1/videos", json=wish)
        assert answer.status_code == 200
        assert answer.json()["seconds"] == "15"
        assert answer.json()["size"] == "1280x720"

    async def test_as_an_urlencoded_form(self, caller: Caller) -> None:
        answer = await caller.http.post("/v1/videos", data={"prompt": "a cat", "seconds": "15"})
        assert answer.status_code == 200
        assert answer.json()["seconds"] == "15"

    @pytest.mark.parametrize("how", ["json", "files"])
    async def test_a_prompt_alone_takes_the_settings_first_values(
        self, make_gateway, make_caller, how: str
    ) -> None:
        wishes = {"models": ["sora-3", "sora-2"], "sizes": ["720x1280"], "seconds": [4, 8]}
        house = await make_gateway("http://upstream.invalid", requests=wishes)
        wish = {"prompt": "a cat"} if how == "json" else [("prompt", (None, "a cat"))]
        answer = await make_caller(house).http.post("/v1/videos", **{how: wish})
        told = answer.json()
        assert (told["model"], told["size"], told["seconds"]) == ("sora-3", "720x1280", "4")

    @pytest.mark.parametrize(
        "prompt",
        [
            "x" * 999,
            "ä" * 999,
            "line\nline\r\n\ttab",
            "🐈",
            "{}",
            "\U0001f469\u200d\U0001f680",  # two emoji, joined to one
            "\u0645\u06cc\u200c\u062e",
            "\U0001fae8",  # newer than Python 3.11's tables
            "\u200f\u05e2\u05d1\u00ad",
        ],
    )
    async def test_prompts_up_to_the_limit(self, caller: Caller, prompt: str) -> None:
        assert (await caller.post(prompt)).json()["prompt"] == prompt

    async def test_it_is_durable_before_it_is_answered(self, house: House, caller: Caller) -> None:
        video = await caller.create("kept")
        await house.stop()
        await house.start()
        assert house.job(video).id == video
        assert house.job(video).prompt == "kept"

    async def test_two_of_the_same_are_two(self, caller: Caller) -> None:
        assert await caller.create("a cat") != await caller.create("a cat")


class TestRefused:
    """400 that names the field and what is allowed."""

    @pytest.mark.parametrize(
        ("wish", "field", "allowed"),
        [
            ({}, "prompt", "is required"),
            ({"prompt": ""}, "prompt", "is required"),
            ({"prompt": " \n "}, "prompt", "is required"),
            ({"prompt": "x" * 1000}, "prompt", "at most 999 characters, and has 1000"),
            ({"prompt": "x" * 1_000_000}, "prompt", "at most 999 characters"),
            ({"prompt": "a\0b"}, "prompt", "control characters"),
            ({"prompt": "a\x1b[31mb"}, "prompt", "control characters"),
            ({"prompt": "a\x1cb"}, "prompt", "but for tabs and line breaks"),
            ({"prompt": "a\x85b"}, "prompt", "control characters"),
            ({"prompt": "a", "model": "sora-9"}, "model", "must be one of sora-2."),
            ({"prompt": "a", "size": "1x1"}, "size", "must be one of 1280x720, 720x1280."),
            ({"prompt": "a", "size": ""}, "size", "must be one of 1280x720, 720x1280."),
            ({"prompt": "a", "seconds": "11"}, "seconds", "must be one of 10, 15."),
            ({"prompt": "a", "seconds": "010"}, "seconds", "must be one of 10, 15."),
            ({"prompt": "a", "seconds": "10.0"}, "seconds", "must be one of 10, 15."),
            ({"prompt": "a", "n": "2"}, "n", "there are prompt, model, size, seconds"),
            ({"prompt": "a", "input_reference": "cat.png"}, "input_reference", "PNG or JPEG file"),
            ({"prompt": "a", "input_reference[url]": "x"}, "input_reference[url]", "is unknown"),
        ],
    )
    @pytest.mark.parametrize("how", ["form", "json"])
    async def test_a_field(
        self,
        house: House,
        caller: Caller,
        upstream: Server,
        how: str,
        wish: dict[str, str],
        field: str,
        allowed: str,
    ) -> None:
        parts = [(name, (None, value)) for name, value in wish.items()]
        body: dict[str, Any] = {"json": wish}
        if how == "form":
            body = {"files": parts or [("model", (None, "sora-2"))]}
        error = error_of(await caller.http.post("/v1/videos", **body), 400)
        assert error["param"] == field
        assert error["message"].startswith(field)
        assert allowed in error["message"]
        assert untouched(house, upstream)

    @pytest.mark.parametrize(
        ("wish", "field"),
        [
            ({"prompt": 7}, "prompt"),
            ({"prompt": ["a"]}, "prompt"),
            ({"prompt": "a", "seconds": True}, "seconds"),
            ({"prompt": "a", "seconds": 10.0}, "seconds"),
            ({"prompt": "a", "seconds": {"length": 10}}, "seconds"),
            ({"prompt": "a", "size": ["1280x720"]}, "size"),
            ({"prompt": "a", "model": {}}, "model"),
            ({"prompt": "a", "input_reference": {"image_url": "https://x/"}}, "input_reference"),
        ],
    )
    async def test_a_json_value_of_another_kind(
        self, house: House, caller: Caller, upstream: Server, wish: Any, field: str
    ) -> None:
        error = error_of(await caller.http.post("/v1/videos", json=wish), 400)
        assert error["param"] == field
        assert untouched(house, upstream)

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"a"', b"\xff", b"[" * 100_000])
    async def test_json_that_is_none(self, caller: Caller, body: bytes) -> None:
        kind = {"content-type": "application/json"}
        answer = await caller.http.post("/v1/videos", content=body, headers=kind)
        assert error_of(answer, 400)["code"] == "invalid_json"

    @pytest.mark.parametrize(
        ("kind", "body", "status"),
        [
            ("multipart/form-data", b"--x--", 400),
            ("multipart/form-data; boundary=x", b"no boundary in it", 400),
            ("multipart/form-data; boundary=x", b"--x\r\nbad header\r\n\r\n1\r\n--x--\r\n", 400),
            ("text/plain", b"a cat", 415),
            ("application/xml", b"<a/>", 415),
            ("", b"a cat", 415),
        ],
    )
    async def test_a_body_of_another_kind(
        self, caller: Caller, kind: str, body: bytes, status: int
    ) -> None:
        headers = {"content-type": kind} if kind else {}
        answer = await caller.http.post("/v1/videos", content=body, headers=headers)
        error_of(answer, status)

    async def test_a_field_given_twice(self, caller: Caller) -> None:
        parts = [("prompt", (None, "one")), ("prompt", (None, "two"))]
        error = error_of(await caller.http.post("/v1/videos", files=parts), 400)
        assert (error["param"], error["message"]) == ("prompt", "prompt is given more than once.")

    async def test_a_file_where_text_belongs(self, caller: Caller) -> None:
        parts = [("prompt", ("prompt.txt", b"a cat"))]
        assert error_of(await caller.http.post("/v1/videos", files=parts), 400)["param"] == "prompt"

    @pytest.mark.parametrize("count", [21, 500])
    async def test_hundreds_of_fields(
        self, house: House, caller: Caller, upstream: Server, count: int
    ) -> None:
        parts = [(f"field{number}", (None, "x")) for number in range(count)]
        error_of(await caller.http.post("/v1/videos", files=parts), 400)
        assert untouched(house, upstream)


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims to be so large, and holds nothing of it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def several_pictures() -> bytes:
    """A JPEG with a second picture in it, as telephones make them."""
    file = io.BytesIO()
    first, second = Image.new("RGB", (64, 36), "red"), Image.new("RGB", (64, 36), "blue")
    first.save(file, "MPO", save_all=True, append_images=[second])
    return file.getvalue()


class TestImage:
    @pytest.mark.parametrize("kind", ["PNG", "JPEG"])
    @pytest.mark.parametrize(
        ("name", "claimed"),
        [
            ("cat.png", "image/png"),
            ("cat.jpg", "image/jpeg"),
            ("cat", "application/octet-stream"),
            ("../../cat.exe", "text/html"),
        ],
    )
    async def test_it_is_told_by_its_bytes(
        self, house: House, caller: Caller, kind: str, name: str, claimed: str
    ) -> None:
        image = picture(kind)
        parts = [("prompt", (None, "a cat")), ("input_reference", (name, image, claimed))]
        answer = await caller.http.post("/v1/videos", files=parts)
        job = house.job(answer.json()["id"])
        assert job.input_type == f"image/{kind.lower()}"
        assert job.input_sha256 == hashlib.sha256(image).hexdigest()
        assert (house.folder / "inputs" / job.input_sha256).read_bytes() == image

    async def test_a_jpeg_of_several_pictures_is_a_jpeg(self, house: House, caller: Caller) -> None:
        video = await caller.create("a cat", several_pictures())
        assert house.job(video).input_type == "image/jpeg"

    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "I;16", "CMYK"])
    async def test_in_every_mode(self, house: House, caller: Caller, mode: str) -> None:
        file = io.BytesIO()
        Image.new(mode, (16, 9)).save(file, "JPEG" if mode == "CMYK" else "PNG")
        assert (await caller.post("a cat", file.getvalue())).status_code == 200

    async def test_many_jobs_share_one(self, house: House, caller: Caller) -> None:
        image = picture()
        await asyncio.gather(*(caller.create(f"cat {number}", image) for number in range(5)))
        assert len(list((house.folder / "inputs").iterdir())) == 1

    @pytest.mark.parametrize(
        "image",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"a cat", id="text"),
            pytest.param(picture("GIF"), id="GIF"),
            pytest.param(picture("WEBP"), id="WEBP"),
            pytest.param(picture("BMP"), id="BMP"),
            pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", id="SVG"),
            pytest.param(picture("PNG")[:8], id="the PNG signature alone"),
            pytest.param(picture("PNG")[:-20], id="a truncated PNG"),
            pytest.param(picture("PNG")[:60], id="a very truncated PNG"),
            pytest.param(picture("PNG").replace(b"IDAT", b"IDAX"), id="a damaged PNG"),
            pytest.param(picture("JPEG")[:3], id="the JPEG signature alone"),
            pytest.param(picture("JPEG", (640, 360))[:-500], id="a truncated JPEG"),
            pytest.param(picture("JPEG", (640, 360))[:900], id="a very truncated JPEG"),
            pytest.param(png_of(20_000, 20_000), id="a bomb"),
            pytest.param(png_of(8_000, 5_001), id="a little too many pixels"),
            pytest.param(png_of(2**31 - 1, 2**31 - 1), id="an absurd one"),
        ],
    )
    async def test_anything_else_is_refused(
        self, house: House, caller: Caller, upstream: Server, image: bytes
    ) -> None:
        error = error_of(await caller.post("a cat", image), 400)
        assert error["param"] == "input_reference"
        assert untouched(house, upstream)

    async def test_the_most_bytes_are_taken_and_one_more_is_not(
        self, make_gateway, make_caller
    ) -> None:
        image = picture("JPEG", (640, 360))
        most = {"image_bytes": len(image)}
        house = await make_gateway("http://upstream.invalid", requests=most)
        caller = make_caller(house)
        assert (await caller.post("a cat", image)).status_code == 200
        error = error_of(await caller.post("a cat", image + b"\0"), 413)
        assert error["param"] == "input_reference"
        assert f"at most {len(image)} bytes" in error["message"]
        assert sum(house.ledger.live.counts.values()) == 1

    @pytest.mark.parametrize("told", [True, False])
    async def test_a_body_far_too_large_is_not_read_to_its_end(
        self, house: House, caller: Caller, upstream: Server, told: bool
    ) -> None:
        read = 0

        async def endless() -> Any:
            nonlocal read
            head = b'content-disposition: form-data; name="input_reference"; filename="i"'
            yield b"--x\r\n" + head + b"\r\n\r\n"
            for _ in range(1000):
                read += 1_000_000
                yield bytes(1_000_000)

        headers = {"content-type": "multipart/form-data; boundary=x"}
        if told:
            headers["content-length"] = "1000000000"
        answer = await caller.http.post("/v1/videos", content=endless(), headers=headers)
        error_of(answer, 413)
        assert read < 30_000_000
        assert untouched(house, upstream)

    async def test_when_no_more_can_wait_it_is_503_and_nothing_is_left(
        self, make_gateway, make_caller
    ) -> None:
        image = picture("JPEG", (640, 360))
        house = await make_gateway(
            "http://upstream.invalid", content={"input_bytes": len(image) + 10}
        )
        caller = make_caller(house)
        await caller.create("the first", image)
        answer = await caller.post("another", picture("PNG", (640, 360)))
        error = error_of(answer, 503)
        assert (error["type"], error["code"]) == ("server_error", "gateway_full")
        assert answer.headers["retry-after"]
        assert (await caller.post("the same image again", image)).status_code == 200
        assert (await caller.post("none at all")).status_code == 200
        assert len(list((house.folder / "inputs").iterdir())) == 1


async def test_openais_own_words_for_its_sdks(caller: Caller) -> None:
    answer = await caller.http.post("/v1/videos", json={"prompt": "a cat"}, headers=SDK)
    assert answer.json()["status"] == "queued"
