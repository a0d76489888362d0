"""The movies, read back with a decoder."""

import io
import sys

import av
import pytest
from PIL import Image, ImageChops, ImageFont

from gateway.sandbox import movie

LANDSCAPE = (1280, 720)
LONG = "an unbreakable " + "w" * 984


def frames(content: bytes) -> list[Image.Image]:
    with av.open(io.BytesIO(content), "r") as container:
        return [frame.to_image() for frame in container.decode(video=0)]  # type: ignore[no-untyped-call]


def difference(one: Image.Image, other: Image.Image, box: tuple[int, int, int, int]) -> int:
    """The greatest difference of any pixel within the box, 0 to 255."""
    bands = ImageChops.difference(one.crop(box), other.crop(box)).getextrema()
    return max(int(most) for _, most in bands)  # type: ignore[misc]


def png(colour: str, size: tuple[int, int] = (600, 600)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("dimensions", "seconds", "fps"), [(LANDSCAPE, 10, 8), ((720, 1280), 15, 2)]
)
def test_size_length_and_format(dimensions: tuple[int, int], seconds: int, fps: int) -> None:
    content = movie.make("a cat", dimensions, seconds, fps)
    with av.open(io.BytesIO(content), "r") as container:
        (stream,) = container.streams
        assert isinstance(stream, av.VideoStream)
        codec = stream.codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
        assert (codec.width, codec.height) == dimensions
        assert stream.average_rate == fps
        assert container.duration == seconds * 1_000_000
        assert len(list(container.decode(stream))) == seconds * fps


def test_a_browser_can_start_before_the_end() -> None:
    content = movie.make("a cat", LANDSCAPE, 10, 1)
    assert content[4:8] == b"ftyp"
    assert 0 < content.find(b"moov") < content.find(b"mdat")


def test_the_same_order_gives_the_same_bytes() -> None:
    assert movie.make("a cat", LANDSCAPE, 10, 2) == movie.make("a cat", LANDSCAPE, 10, 2)


def test_the_foot_moves_and_the_rest_stands_still() -> None:
    first, *_, last = frames(movie.make("a cat", LANDSCAPE, 10, 2))
    assert difference(first, last, (0, 720 - 96, 1280, 720)) > 150
    assert difference(first, last, (0, 0, 1280, 720 - 110)) < 40


def test_the_prompt_is_drawn() -> None:
    written, empty = (
        frames(movie.make(prompt, LANDSCAPE, 10, 1, movie.shrink(png("black"), LANDSCAPE)))[0]
        for prompt in ("MMMM", "")
    )
    assert difference(written, empty, (48, 48, 400, 160)) > 200
    assert difference(written, empty, (700, 200, 1280, 600)) < 10


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "\x00\x1b[31m\u202e",
        "\u6f22\u5b57 \U0001f600 \u2013 e\u0301",
        "\ud800",
        LONG,
        "w " * 499,
        "\n\n\n\t",
    ],
)
@pytest.mark.parametrize("dimensions", [LANDSCAPE, (720, 1280)])
def test_any_text_can_be_drawn(prompt: str, dimensions: tuple[int, int]) -> None:
    assert len(frames(movie.make(prompt, dimensions, 1, 1))) == 1


def test_what_the_font_lacks_becomes_a_question_mark() -> None:
    drawn = movie._drawable(
        movie._plain("caf\u00e9 \u2014 \u6f22 \x07x\u2026"), ImageFont.load_default(40)
    )
    assert drawn == "cafe - ? ?x..."


def test_lines_break_between_words_and_within_long_ones() -> None:
    advance = dict.fromkeys("abc ", 1.0)
    assert movie._wrapped(["aa", "b", "cc", "abcabca"], advance, 4) == ["aa b", "cc", "abca", "bca"]


def test_a_picture_covers_the_background() -> None:
    picture = movie.shrink(png("red", (300, 900)), LANDSCAPE)
    frame = frames(movie.make("a cat", LANDSCAPE, 10, 1, picture))[0]
    for at in ((10, 10), (1270, 10), (10, 600), (1270, 600)):
        red, green, blue = frame.getpixel(at)  # type: ignore[misc]
        assert red > 180
        assert green < 60
        assert blue < 60


@pytest.mark.parametrize("image", [b"", b"\x89PNG\r\n\x1a\nnothing", png("red")[:60]])
def test_a_picture_that_cannot_be_read_is_none(image: bytes) -> None:
    assert movie.shrink(image, LANDSCAPE) is None


def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(movie, "find_spec", lambda name: None if name == "av" else sys)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "video-gateway\[sandbox\]"'):
        movie.make("a cat", LANDSCAPE, 10, 1)
