"""Requests between the honest and the absurd, drawn from a source of chance: the bytes of a
connection.

Each maker takes a `Random`: one of a seed at scale, one of hypothesis in a test, which makes a
failing one small.
"""

import io
import json
import struct
import zlib
from base64 import b64encode
from collections.abc import Callable
from random import Random

from PIL import Image
from stage import picture

from .target import Target

TEXTS = (
    "a cat",
    "",
    " ",
    "\0",
    "\x1b[2J",
    "\u202e",
    "\ud800",
    "ä" * 999,
    "x" * 1000,
    "🐈" * 400,
    "'; --",
    "{}",
    "NaN",
    "1e400",
    "-1",
    "null",
    "../../etc/passwd",
    "%00",
    "\r\nx: y",
    "sora-2",
    "1280x720",
    "10",
    "data:image/png;base64,",
    "http://169.254.169.254/",
    "\ufeff",
    "\ud83d",
    "\u0661\u0660",
    "a..b",
)
FIELDS = (
    "prompt",
    "model",
    "size",
    "seconds",
    "input_reference",
    "input_reference[image_url]",
    "input_reference[file_id]",
    "on_unknown",
    "__proto__",
    "",
    "x" * 300,
    "p\0",
    "\ud800",
    "\\ud800",
)
KINDS = (
    "application/json",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "multipart/form-data; boundary=",
    'multipart/form-data; boundary="x"',
    "multipart/mixed; boundary=x",
    "application/json; charset=utf-16",
    "text/plain",
    "",
    "multipart/form-data; boundary=x; charset=idna",
    "application/json;" * 50,
    "*/*",
    "multipart/form-data; charset=unicode_escape; boundary=x",
    "APPLICATION/JSON",
)
METHODS = (
    "GET",
    "HEAD",
    "POST",
    "DELETE",
    "PUT",
    "PATCH",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "get",
    "\0",
)
PROMPT = b'--x\r\ncontent-disposition: form-data; name="prompt"\r\n\r\na cat\r\n'
NOISE = b'\0\r\n :;,=&%"\\{}[]()<>@/?\x7f\x80\xff-0129aAxX'


def chance(rng: Random, part: float) -> bool:
    return rng.random() >= 1 - part  # so that hypothesis, which likes 0, begins with what is honest


def text(rng: Random) -> str:
    if chance(rng, 0.2):
        return "".join(chr(rng.randrange(0x11000)) for _ in range(rng.randrange(40)))
    return rng.choice(TEXTS)


def coded(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def mutated(rng: Random, data: bytes, most: int = 4) -> bytes:
    """The bytes with a few of them changed, dropped, doubled or put in."""
    mutable = bytearray(data)
    for _ in range(rng.randrange(most + 1)):
        at = rng.randrange(len(mutable) + 1)
        match rng.randrange(5):
            case 0:
                mutable[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                mutable[at:at] = bytes([rng.choice(NOISE)])
            case 2:
                del mutable[at : at + rng.randrange(1, 20)]
            case 3:
                mutable[at:at] = mutable[at : at + rng.randrange(1, 60)] * rng.randrange(1, 4)
            case 4:
                del mutable[at:]
    return bytes(mutable)


def head(rng: Random, target: Target, line: str, *lines: str) -> bytes:
    """A request's head; mostly with the caller's key."""
    told = [line, "host: gateway.test", *lines]
    if chance(rng, 0.95):
        told.append(f"authorization: Bearer {target.key}")
    if chance(rng, 0.1):
        told.append(
            f"{rng.choice(('x-request-id', 'idempotency-key', 'expect', 'cookie'))}: "
            f"{rng.choice(('100-continue', 'a', 'x' * 300, '', '<b>'))}"
        )
    first, *rest = told
    rng.shuffle(rest)
    return "\r\n".join([first, *rest, "", ""]).encode("utf-8", "surrogatepass")


def post(rng: Random, target: Target, kind: str, body: bytes) -> bytes:
    """POST /v1/videos with its body, whose length is told in one way or the other."""
    line = "POST /v1/videos HTTP/1.1"
    if chance(rng, 0.15):
        lines = [f"content-type: {kind}", "transfer-encoding: chunked"]
        size = rng.randrange(1, 5000)
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        coded = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        return head(rng, target, line, *lines) + coded + b"0\r\n\r\n"
    told = len(body) + (rng.choice((-3, 3, 10**6, 10**9)) if chance(rng, 0.04) else 0)
    lines = [f"content-type: {kind}", f"content-length: {told}"]
    if chance(rng, 0.03):
        lines.append(f"content-encoding: {rng.choice(('gzip', 'identity', 'br, gzip'))}")
    return head(rng, target, line, *lines) + body


def wire(rng: Random, target: Target) -> bytes:
    """A request whose bytes are hardly HTTP."""
    if chance(rng, 0.1):
        return rng.randbytes(rng.randrange(1, 2000))
    path = rng.choice(
        ("/v1/videos", f"/v1/videos/{target.mine}", "/healthz", "*", "", "//", "http://x/")
    )
    version = rng.choice(("HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "http/1.1", ""))
    names = (
        "content-length",
        "transfer-encoding",
        "host",
        "upgrade",
        "connection",
        "te",
        "range",
        "authorization",
        "content-type",
        "x",
        "expect",
        "trailer",
    )
    values = (
        "0",
        "5",
        "-1",
        "+5",
        "0x5",
        "5, 5",
        "chunked",
        "identity, chunked",
        "close",
        "websocket",
        "Upgrade",
        "h2c",
        "\t5",
        "x" * 500,
        "bytes=0-1",
        "",
        "100-continue",
        "[::1",
        "a b",
    )
    method = rng.choice(METHODS)
    if method == "DELETE":  # what is mine is still asked for by others
        path = path.replace(target.mine, target.theirs)
    lines = [f"{rng.choice(names)}: {rng.choice(values)}" for _ in range(rng.randrange(6))]
    if chance(rng, 0.05):
        lines += ["x: y"] * rng.choice((50, 101, 3000))
    made = head(rng, target, f"{method} {path} {version}", *lines)
    made += rng.choice(
        (b"", b"hello", b"0\r\n\r\n", b"5\r\nhello\r\n0\r\nx: y\r\n\r\n", b"fffffffffffff\r\n")
    )
    made = mutated(rng, made)
    return made * rng.choice((1, 1, 1, 2, 50)) if len(made) < 2000 else made


def paths(rng: Random, target: Target) -> bytes:
    """A path, an id or a query that is none."""
    odd = (
        "..",
        "%2e%2e",
        "%2f",
        "%00",
        "%",
        "%zz",
        ";",
        "?",
        "#",
        "//",
        "x" * 3000,
        "x" * 10_000,
        "ä",
        target.theirs,
        target.mine,
        "video_" + "0" * 32,
        "%ed%a0%80",
        "*",
        "content",
    )
    path = rng.choice(("/v1/videos/", "/v1/", "/", "/v1/videos")) + "/".join(
        rng.choice(odd) for _ in range(rng.randrange(4))
    )
    names, values = ("limit", "after", "order", "variant", "x"), (*odd, "1", "-1", "101", "asc")
    options = [f"{rng.choice(names)}={rng.choice(values)}" for _ in range(rng.randrange(3))]
    query = "&".join(options)
    end = rng.choice(("", "", "/content", "/remix", "/"))
    method = rng.choice(METHODS[:6])
    if method == "DELETE":
        path = path.replace(target.mine, target.theirs)
    return head(rng, target, f"{method} {path}{end}{'?' if query else ''}{query} HTTP/1.1")


def ranges(rng: Random, target: Target) -> bytes:
    """The content, by a range that may be none."""
    numbers = (
        "",
        "0",
        "1",
        "499",
        "-1",
        "9" * 19,
        "9" * 30,
        "01",
        "1.5",
        "x",
        " ",
        "18446744073709551616",
    )
    unit = rng.choice(("bytes", "bytes", "bytes", "Bytes", "items", ""))
    one = lambda: f"{rng.choice(numbers)}-{rng.choice(numbers)}"  # noqa: E731
    value = f"{unit}=" + ",".join(one() for _ in range(rng.choice((1, 1, 1, 2, 700))))
    lines = [f"range: {value if chance(rng, 0.9) else coded(text(rng)).decode('latin-1')}"]
    for name in ("if-range", "if-match", "if-none-match"):
        if chance(rng, 0.15):
            lines.append(f"{name}: {rng.choice(('*', 'W/x', chr(34), ',', 'x' * 200))}")
    video = target.mine if chance(rng, 0.9) else target.theirs
    made = head(rng, target, f"GET /v1/videos/{video}/content HTTP/1.1", *lines)
    return mutated(rng, made, 1) if chance(rng, 0.2) else made


def keys(rng: Random, target: Target) -> bytes:
    """A key that is none of ours."""
    key = target.key
    made = rng.choice(
        (
            key[:-1],
            key + "x",
            key.upper(),
            key[::-1],
            "vgw_",
            "",
            "x" * 5000,
            f"{key},{key}",
            f"Basic {key}",
            f"Bearer  {key}",
            f"Bearer {key} x",
            "Bearer",
            "\xff\xfe",
            f"Bearer\t{key}",
            "vgw_" + "A" * 43,
        )
    )
    line = rng.choice(
        ("GET /v1/videos", f"GET /v1/videos/{target.mine}/content", "POST /v1/videos")
    )
    told = f"{line} HTTP/1.1\r\nhost: x\r\nauthorization: {made}\r\ncontent-length: 0\r\n\r\n"
    made_of = told.encode("latin-1")
    return mutated(rng, made_of, 1) if chance(rng, 0.5) else made_of


def images(rng: Random) -> bytes:
    """An image, or what claims to be one."""
    data = picture(rng.choice(("PNG", "JPEG", "GIF")))
    match rng.randrange(8):
        case 0:
            size = rng.choice((0, 1, 5000, 65535, 2**31 - 1))
            data = data[:16] + struct.pack(">II", size, size) + data[24:]
        case 1:
            bomb = zlib.compress(bytes(1_000_000))
            kind = rng.choice((b"IDAT", b"zTXt", b"iCCP", b"iTXt"))
            told = rng.choice((b"", b"x\0\0", b"x\0\1\0\0\0")) + bomb
            chunk = struct.pack(">I", len(told)) + kind + told
            data = data[:33] + chunk + struct.pack(">I", zlib.crc32(kind + told)) + data[33:]
        case 2:
            file = io.BytesIO()
            frames = [Image.new("RGB", (8, 8), (n * 20, 0, 0)) for n in range(5)]
            frames[0].save(
                file, rng.choice(("PNG", "MPO", "GIF")), save_all=True, append_images=frames[1:]
            )
            data = file.getvalue()
        case 3:
            data += b"<script>PK\x03\x04" + rng.randbytes(50)
        case 4:
            data = data[: rng.randrange(len(data))]
    return mutated(rng, data, 8) if chance(rng, 0.6) else data


def uploads(rng: Random, target: Target) -> bytes:
    """A form: its parts, their heads and their order are all in doubt."""
    parts = [PROMPT] if chance(rng, 0.5) else []
    for _ in range(rng.choice((0, 1, 2, 3, 25, 300)) if chance(rng, 0.6) else 1):
        name = rng.choice(FIELDS[:5]) if chance(rng, 0.8) else rng.choice(FIELDS)
        lines = [f'content-disposition: form-data; name="{name}"']
        content = coded(text(rng))
        if name.startswith("input_reference"):
            content = images(rng)
            lines[0] += rng.choice(
                ('; filename="a"', "; filename*=utf-8''%00", '; filename="../\\"', "")
            )
        if name.endswith("[image_url]"):
            content = b"data:image/png;base64," + b64encode(content)
        if chance(rng, 0.1):
            lines.append(
                f"{rng.choice(('content-type', 'x', 'content-transfer-encoding'))}: "
                f"{'y' * rng.choice((1, 5000, 200_000))}"
            )
        if chance(rng, 0.05):
            lines = lines[1:]
        parts.append(b"--x\r\n" + coded("\r\n".join(lines)) + b"\r\n\r\n" + content + b"\r\n")
    body = b"".join(parts) + rng.choice((b"--x--\r\n", b"--x--\r\n", b"--x--", b"", b"--x"))
    kind = KINDS[1] if chance(rng, 0.8) else rng.choice(KINDS)
    return post(rng, target, kind, mutated(rng, body) if chance(rng, 0.4) else body)


def bodies(rng: Random, target: Target) -> bytes:
    """JSON, or an urlencoded form, or hardly either."""
    values: dict[str, object] = {"prompt": "a cat"} if chance(rng, 0.7) else {}
    odd = (None, True, 0, -1, 10, 10.0, 1e308, [], {}, [[]], {"image_url": "x"}, {"file_id": "x"})
    for _ in range(rng.randrange(4)):
        values[rng.choice(FIELDS)] = text(rng) if chance(rng, 0.6) else rng.choice(odd)
    if chance(rng, 0.2):
        url = "data:image/png;base64," + b64encode(images(rng)).decode()
        values["input_reference"] = rng.choice((url, {"image_url": url}))
    body = json.dumps(values, ensure_ascii=chance(rng, 0.5)).encode("utf-8", "surrogatepass")
    body = rng.choice(
        (
            body,
            body,
            body,
            body,
            b"[" * rng.choice((10, 10_000)),
            b'{"a":' * 2000,
            b"NaN",
            b'"' + body,
            body[:-1] + b',"prompt":"twice"}',
            b"\xef\xbb\xbf" + body,
            b"prompt=a+cat&size=%ff&model=%",
            b"&" * 5000,
            b"prompt=" + b"%41" * 5000,
            b'{"prompt": NaN}',
            b'{"prompt": 1e999}',
        )
    )
    if chance(rng, 0.002):
        big = rng.choice(
            (
                b'{"prompt": "' + b"x," * 1_000_000 + b'"}',
                b"[" + b"{}," * 3_000_000,
                b'{"x": "' + "🐈".encode() * 2_000_000 + b'"}',
                bytes(14_000_000),
            )
        )
        return post(rng, target, rng.choice(KINDS[:3]), big)
    kind = rng.choice((KINDS[0], KINDS[0], KINDS[2], rng.choice(KINDS)))
    return post(rng, target, kind, mutated(rng, body) if chance(rng, 0.3) else body)


MAKERS: dict[str, Callable[[Random, Target], bytes]] = {
    "wire": wire,
    "paths": paths,
    "ranges": ranges,
    "keys": keys,
    "uploads": uploads,
    "bodies": bodies,
}
