"""The videos themselves: small, real MP4s that show their prompt and something that moves.

Owns drawing and encoding: H.264 (yuv420p, index first, so that a browser plays it while it loads).
The picture is drawn once; only a strip at its foot, with a bar and a count of seconds, changes from
frame to frame, which keeps 10 s at 1280x720 and 8 frames a second near 0.2 s of CPU. The same
arguments give the same bytes. Never keeps a movie, and never runs on the event loop.

PyAV and Pillow are imported only when a movie is made; `check_installed` tells early.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import unicodedata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font = FreeTypeFont | ImageFont

_STRIP = 96
"""Height in pixels of the moving strip; even, since colour has half the resolution."""
_STRIP_FONT_SIZE = 34
_MARGIN = 48
_FONT_SIZES = (88, 72, 60, 48, 40, 32, 26, 22, 18)
_LINE = 1.25
"""Distance of two lines of text, in font sizes."""
_PLAIN = str.maketrans(
    {0x2013: "-", 0x2014: "-", 0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'}
)
"""Dashes and quotes of ordinary prompts that the font lacks."""
_KEYFRAME_SECONDS = 5
_WHITE, _BLACK, _GREY, _ORANGE = (255, 255, 255), (0, 0, 0), (70, 70, 70), (255, 150, 40)


def check_installed() -> None:
    """Raise ModuleNotFoundError, saying what to install, unless movies can be made here."""
    for name in ("av", "PIL"):
        if find_spec(name) is None:
            raise ModuleNotFoundError(
                f'the sandbox makes its videos with {name}: pip install "video-gateway[sandbox]"',
                name=name,
            )


def make(
    prompt: str, dimensions: tuple[int, int], seconds: int, fps: int, picture: bytes | None = None
) -> bytes:
    """An MP4 of exactly these dimensions (even pixels) and seconds, over `picture` if given."""
    check_installed()
    import av
    from av import VideoFrame
    from PIL import ImageFont

    width, height = dimensions
    still = _background(prompt, dimensions, picture)
    _write(still, prompt)
    top = _planes(still.crop((0, 0, width, height - _STRIP)))
    font = ImageFont.load_default(_STRIP_FONT_SIZE)
    frames = seconds * fps
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "movie.mp4")  # a file: moving the index to the front reads it again
        with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream(
                "libx264", rate=fps, options={"preset": "ultrafast", "tune": "stillimage"}
            )
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuv420p"
            stream.codec_context.thread_count = 1  # so the bytes don't depend on the machine
            stream.codec_context.gop_size = _KEYFRAME_SECONDS * fps
            for number in range(frames):
                foot = _planes(_strip(width, number, frames, fps, font))
                frame = VideoFrame(width, height, "yuv420p")
                for plane, above, below in zip(frame.planes, top, foot, strict=True):
                    plane.update(above + below)
                frame.pts = number
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path.read_bytes()


def shrink(image: bytes, dimensions: tuple[int, int]) -> bytes | None:
    """The image as a JPEG of these dimensions, cropped to cover them; None if it can't be read."""
    check_installed()
    from PIL import Image, ImageOps

    small = io.BytesIO()
    try:
        with Image.open(io.BytesIO(image)) as opened:
            opened.draft("RGB", dimensions)
            ImageOps.fit(opened.convert("RGB"), dimensions).save(small, "JPEG", quality=90)
    except Exception:  # noqa: BLE001 - a decoder may raise anything; the image is an ornament
        return None
    return small.getvalue()


def _background(prompt: str, dimensions: tuple[int, int], picture: bytes | None) -> Image:
    from PIL import Image, ImageOps

    if picture is not None:
        return ImageOps.fit(Image.open(io.BytesIO(picture)).convert("RGB"), dimensions)
    red, green, blue = hashlib.sha256(prompt.encode(errors="replace")).digest()[:3]
    shade = Image.linear_gradient("L").resize(dimensions)
    return ImageOps.colorize(
        shade, (red * 3 // 4, green * 3 // 4, blue * 3 // 4), (red // 3, green // 3, blue // 3)
    )


def _write(still: Image, text: str) -> None:
    """Draw the text above the strip, in the biggest size it fits in; cut off what never fits."""
    from PIL import ImageDraw, ImageFont

    width, height = still.width - 2 * _MARGIN, still.height - _STRIP - 2 * _MARGIN
    measure = ImageFont.load_default(_FONT_SIZES[0])
    words = _drawable(_plain(text), measure).split()
    advance = {char: measure.getlength(char) for char in {*"".join(words), " "}}
    for size in _FONT_SIZES:
        room = int(height / (size * _LINE))
        lines = _wrapped(words, advance, width * _FONT_SIZES[0] / size)
        if len(lines) <= room:
            break
    draw, font = ImageDraw.Draw(still), ImageFont.load_default(size)
    for number, line in enumerate(lines[:room]):
        at = (_MARGIN, _MARGIN + round(number * size * _LINE))
        draw.text(at, line, font=font, fill=_WHITE, stroke_width=size // 20, stroke_fill=_BLACK)


def _plain(text: str) -> str:
    """The text without accents and with typewriter punctuation: the font is little but ASCII."""
    spread = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    return "".join(char for char in spread if not unicodedata.combining(char))


def _drawable(text: str, font: Font) -> str:
    """The text with `?` for every character the font has no glyph for."""
    missing = bytes(font.getmask("\uffff"))
    replaced = {
        char: "?"
        for char in set(text)
        if not char.isspace() and (not char.isprintable() or bytes(font.getmask(char)) == missing)
    }
    return "".join(replaced.get(char, char) for char in text)


def _wrapped(words: list[str], advance: dict[str, float], width: float) -> list[str]:
    """Lines no wider than `width`, broken between words, or within one that is wider by itself."""
    lines = [""]
    used = 0.0
    for word in words:
        length = sum(advance[char] for char in word)
        if lines[-1] and used + advance[" "] + length > width:
            lines.append("")
            used = 0.0
        for char in f" {word}" if lines[-1] else word:
            if lines[-1] and used + advance[char] > width:
                lines.append("")
                used = 0.0
            lines[-1] += char
            used += advance[char]
    return lines


def _strip(width: int, number: int, frames: int, fps: int, font: Font) -> Image:
    from PIL import Image, ImageDraw

    strip = Image.new("RGB", (width, _STRIP), _BLACK)
    draw = ImageDraw.Draw(strip)
    left, right = _MARGIN, width - _MARGIN
    draw.rectangle((left, 62, right, 78), fill=_GREY)
    draw.rectangle((left, 62, left + (right - left) * number // max(1, frames - 1), 78), _ORANGE)
    seconds = f"{number / fps:.1f} s of {frames // fps} s"
    draw.text((left, 14), seconds, font=font, fill=_WHITE)
    return strip


def _planes(image: Image) -> list[bytes]:
    """The rows of brightness and of the two colours, as long as a frame of this width has them."""
    from av import VideoFrame

    frame: VideoFrame = VideoFrame.from_image(image)  # type: ignore[no-untyped-call]
    return [bytes(plane) for plane in frame.reformat(format="yuv420p").planes]
