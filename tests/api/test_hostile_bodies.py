"""Bodies and images that are made to harm: refused with a word, at little cost."""

import io
import os
import struct
import zlib
from base64 import b64encode

import pytest
from PIL import Image
from stage import Caller, House, picture

from .bench import error_of
from .test_create import png_of, several_pictures

CHARSETS = ["idna", "punycode", "undefined", "unicode_escape", "utf-7", "utf-16", "zlib", "x" * 500]


def form(name: str, content: str, *lines: str) -> bytes:
    head = "\r\n".join([f'content-disposition: form-data; name="{name}"', *lines])
    return f"--x\r\n{head}\r\n\r\n{content}\r\n--x--\r\n".encode()


class TestKinds:
    @pytest.mark.parametrize("charset", CHARSETS)
    @pytest.mark.parametrize(("name", "value"), [("prompt", "a..b"), ("\\ud800", "x")])
    async def test_a_charset_that_is_not_ours(
        self, caller: Caller, charset: str, name: str, value: str
    ) -> None:
        kind = f"multipart/form-data; boundary=x; charset={charset}"
        answer = await caller.http.post(
            "/v1/videos", content=form(name, value), headers={"content-type": kind}
        )
        assert error_of(answer, 415)["param"] == "content-type"

    @pytest.mark.parametrize("charset", ["utf-8", "UTF-8", "utf8", '"utf-8"', "us-ascii"])
    async def test_one_that_is(self, caller: Caller, charset: str) -> None:
        kind = f"multipart/form-data; boundary=x; charset={charset}"
        answer = await caller.http.post(
            "/v1/videos", content=form("prompt", "a cat"), headers={"content-type": kind}
        )
        assert answer.status_code == 200

    @pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "gzip, identity", "x"])
    async def test_a_compressed_body(self, caller: Caller, coding: str) -> None:
        headers = {"content-type": "application/json", "content-encoding": coding}
        answer = await caller.http.post("/v1/videos", content=b"\x1f\x8b", headers=headers)
        assert error_of(answer, 415)["param"] == "content-encoding"

    @pytest.mark.parametrize("boundary", ["", '""', "x" * 5000, "é", '"', "a b", "x; boundary=y"])
    async def test_an_odd_boundary(self, caller: Caller, boundary: str) -> None:
        kind = f"multipart/form-data; boundary={boundary}".encode()
        answer = await caller.http.post(
            "/v1/videos", content=form("prompt", "a"), headers={"content-type": kind}
        )
        assert answer.status_code in (200, 400)
        if answer.is_error:
            assert error_of(answer, 400)["code"] in ("invalid_form", "invalid_value")

    @pytest.mark.parametrize(
        "parts",
        [
            pytest.param(form("prompt", "a", "x: " + "y" * 1_000_000), id="a large head"),
            pytest.param(form("prompt", "a", *["x: y"] * 10_000), id="a long head"),
            pytest.param(form("x", "a")[:-7] * 10_000, id="many parts"),
            pytest.param(form("prompt", "a")[:-3], id="no end"),
            pytest.param(b"--x\r\n\r\na\r\n--x--\r\n", id="no name"),
        ],
    )
    async def test_parts_without_end(self, caller: Caller, parts: bytes) -> None:
        kind = {"content-type": "multipart/form-data; boundary=x"}
        answer = await caller.http.post("/v1/videos", content=parts, headers=kind)
        error_of(answer, 400)

    async def test_a_form_in_a_form_is_text(self, house: House, caller: Caller) -> None:
        inner = "--y\r\ncontent-disposition: form-data; name=model\r\n\r\nx\r\n--y--"
        kind = {"content-type": "multipart/form-data; boundary=x"}
        body = form("prompt", inner, "content-type: multipart/mixed; boundary=y")
        answer = await caller.http.post("/v1/videos", content=body, headers=kind)
        assert answer.json()["prompt"] == inner

    @pytest.mark.parametrize("body", [b"&" * 5000, b"a=1&" * 21, b"%", b"prompt=%ff%00"])
    async def test_an_odd_urlencoded_form(self, caller: Caller, body: bytes) -> None:
        kind = {"content-type": "application/x-www-form-urlencoded"}
        answer = await caller.http.post("/v1/videos", content=body, headers=kind)
        assert error_of(answer, 400)

    @pytest.mark.parametrize("cut", [len(b"--\r\n"), len(b"--x--\r\n"), len(b"15\r\n--x--\r\n")])
    async def test_a_form_that_breaks_off_is_no_shorter_form(
        self, caller: Caller, cut: int
    ) -> None:
        parts = form("prompt", "a")[: -len(b"--x--\r\n")] + form("seconds", "15")
        kind = {"content-type": "multipart/form-data; boundary=x"}
        whole = await caller.http.post("/v1/videos", content=parts, headers=kind)
        assert whole.json()["seconds"] == "15"
        answer = await caller.http.post("/v1/videos", content=parts[:-cut], headers=kind)
        assert error_of(answer, 400)["code"] == "invalid_form"

    @pytest.mark.parametrize("charset", ["", "; charset=us-ascii"])
    async def test_text_is_utf_8(self, caller: Caller, charset: str) -> None:
        kind = {"content-type": f"multipart/form-data; boundary=x{charset}"}
        body = form("prompt", "雪の猫")
        answer = await caller.http.post("/v1/videos", content=body, headers=kind)
        assert answer.json()["prompt"] == "雪の猫"
        body = body.replace("雪の猫".encode(), "我书".encode("gbk"))
        answer = await caller.http.post("/v1/videos", content=body, headers=kind)
        assert error_of(answer, 400)["param"] == "prompt"
        assert "UTF-8" in answer.json()["error"]["message"]

    async def test_urlencoded_text_is_utf_8(self, caller: Caller) -> None:
        kind = {"content-type": "application/x-www-form-urlencoded"}
        for body in ("prompt=雪+の猫".encode(), b"prompt=%E9%9B%AA+%E3%81%AE%E7%8C%AB"):
            answer = await caller.http.post("/v1/videos", content=body, headers=kind)
            assert answer.json()["prompt"] == "雪 の猫"
        for body in ("prompt=我书".encode("gbk"), b"prompt=%CE%D2"):
            answer = await caller.http.post("/v1/videos", content=body, headers=kind)
            assert "UTF-8" in error_of(answer, 400)["message"]


class TestJson:
    async def post(self, caller: Caller, body: bytes) -> dict:
        kind = {"content-type": "application/json"}
        return error_of(await caller.http.post("/v1/videos", content=body, headers=kind), 400)

    @pytest.mark.parametrize("piece", [b"{},", b"[],", b"1,"])
    async def test_millions_of_values(self, caller: Caller, piece: bytes) -> None:
        body = b'{"prompt": [' + piece * 2_000_000 + b"1]}"
        assert "too many values" in (await self.post(caller, body))["message"]

    @pytest.mark.parametrize("text", ["x" * 1_000_000, "word, " * 100_000, "\\u0000" * 5])
    async def test_a_prompt_without_end_is_named(self, caller: Caller, text: str) -> None:
        assert (await self.post(caller, b'{"prompt": "%b"}' % text.encode()))["param"] == "prompt"

    @pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "'a'", '"\\ud800"', "01"])
    async def test_what_json_has_not(self, caller: Caller, value: str) -> None:
        body = b'{"prompt": "a", "x": %b}' % value.encode()
        assert (await self.post(caller, body))["code"] in ("invalid_json", "invalid_value")

    @pytest.mark.parametrize("prompt", ["0", "false", "[]", "{}"])
    async def test_a_prompt_that_is_no_text(self, caller: Caller, prompt: str) -> None:
        told = await self.post(caller, b'{"prompt": %b}' % prompt.encode())
        assert told["message"] == "prompt must be a text."

    async def test_the_last_of_two_counts(self, caller: Caller) -> None:
        kind = {"content-type": "application/json"}
        body = b'{"prompt": "one", "prompt": "two"}'
        answer = await caller.http.post("/v1/videos", content=body, headers=kind)
        assert answer.json()["prompt"] == "two"


def chunk(kind: bytes, data: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check


def with_chunk(kind: bytes, data: bytes) -> bytes:
    """A whole PNG with one more chunk after its head."""
    whole = picture("PNG")
    return whole[:33] + chunk(kind, data) + whole[33:]


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG that claims to be so large."""
    whole = picture("JPEG")
    at = whole.index(b"\xff\xc0") + 5
    return whole[:at] + struct.pack(">HH", height, width) + whole[at + 4 :]


def many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((64, 64)).save(file, "JPEG", progressive=True)
    whole = file.getvalue()
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * count + whole[-2:]


class TestImage:
    @pytest.mark.parametrize(
        "image",
        [
            pytest.param(jpeg_of(65_000, 65_000), id="a JPEG of 4 gigapixels"),
            pytest.param(png_of(0, 0), id="nothing"),
            pytest.param(png_of(4096, 4097), id="one line too many"),
            pytest.param(many_scans(600), id="hundreds of scans"),
            pytest.param(picture("PNG")[:33] + chunk(b"IDAT", b"x")[:-1] + b"!", id="a wrong sum"),
            pytest.param(b"\x89PNG\r\n\x1a\n" + os.urandom(2000), id="noise"),
            pytest.param(b"\xff\xd8\xff" + os.urandom(2000), id="noise in a JPEG"),
            pytest.param(with_chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(9 ** 8))), id="zTXt"),
        ],
    )  # fmt: skip
    async def test_refused(self, house: House, caller: Caller, image: bytes) -> None:
        assert error_of(await caller.post("a cat", image), 400)["param"] == "input_reference"
        assert list((house.folder / "inputs").iterdir()) == []

    @pytest.mark.parametrize(
        "image",
        [
            pytest.param(with_chunk(b"IDAT", zlib.compress(bytes(50_000_000))), id="IDAT bomb"),
            pytest.param(picture() + b"PK\x03\x04<script>", id="two things at once"),
            pytest.param(many_scans(20), id="some scans"),
        ],
    )
    async def test_taken_undecoded(self, caller: Caller, image: bytes) -> None:
        """What is in it is upstream's to judge: here it costs nothing."""
        assert (await caller.post("a cat", image)).status_code == 200

    async def test_what_pillow_thinks_of_it_is_not_written_down(self, caller: Caller) -> None:
        """A warning is an error in these tests, and would be a line of the log elsewhere."""
        image = bytearray(several_pictures())
        at = image.index(b"MPF\0") + 26
        image[at : at + 2] = b"\xff\xff"  # the number of its pictures
        assert (await caller.post("a cat", bytes(image))).status_code == 200

    async def test_one_in_json_is_looked_at_the_same(self, caller: Caller) -> None:
        url = "data:image/jpeg;base64," + b64encode(many_scans(600)).decode()
        answer = await caller.http.post(
            "/v1/videos", json={"prompt": "a", "input_reference": {"image_url": url}}
        )
        assert error_of(answer, 400)["param"] == "input_reference"
