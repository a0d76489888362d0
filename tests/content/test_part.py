"""A download under way: what of it can be trusted later."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from stage import box, mp4

from gateway.content.disk import Disk
from gateway.content.mp4 import begins_like_mp4, is_whole_mp4
from gateway.content.part import BUFFER, Part
from gateway.errors import NotAVideo

VIDEO = mp4(bytes(range(256)) * 100)
MOST = 10_000_000


async def taken_up(folder: Path, boot: str = "this boot", most: int = MOST) -> Part:
    part = Part(Disk(), folder, "video_1", boot, most)
    await part.resume()
    return part


async def left(folder: Path, data: bytes, validator: str | None = '"one"') -> None:
    """A part that a download left behind."""
    part = await taken_up(folder)
    await part.restart(validator)
    await part.write(data)
    await part.flush()


async def test_it_is_taken_up_where_it_was_left(tmp_path: Path) -> None:
    await left(tmp_path, VIDEO[:5000])
    part = await taken_up(tmp_path)
    assert (part.offset, part.validator) == (5000, '"one"')
    await part.write(VIDEO[5000:])
    assert await part.seal(length_known=True) == hashlib.sha256(VIDEO).hexdigest()
    assert part.path.read_bytes() == VIDEO


async def test_not_after_another_boot(tmp_path: Path) -> None:
    """What the page cache had not written may be anything."""
    await left(tmp_path, VIDEO)
    part = await taken_up(tmp_path, "another boot")
    assert (part.offset, part.validator) == (0, None)
    assert part.path.read_bytes() == b""


async def test_not_without_a_validator(tmp_path: Path) -> None:
    await left(tmp_path, VIDEO, None)
    assert (await taken_up(tmp_path)).offset == 0


@pytest.mark.parametrize(
    "note", [None, b"", b"{", b"[]", b"null", b'{"boot": "this boot"}', b"\xff"]
)
async def test_not_without_its_note(tmp_path: Path, note: bytes | None) -> None:
    await left(tmp_path, VIDEO)
    if note is None:
        (tmp_path / "video_1.json").unlink()
    else:
        (tmp_path / "video_1.json").write_bytes(note)
    assert (await taken_up(tmp_path)).offset == 0


async def test_not_without_its_bytes(tmp_path: Path) -> None:
    await left(tmp_path, VIDEO)
    (tmp_path / "video_1.part").unlink()
    part = await taken_up(tmp_path)
    assert (part.offset, part.validator) == (0, None)


async def test_a_restart_forgets_everything(tmp_path: Path) -> None:
    part = await taken_up(tmp_path)
    await part.restart('"one"')
    await part.write(mp4(b"something else"))
    await part.restart('"two"')
    assert (part.offset, part.validator) == (0, '"two"')
    await part.write(VIDEO)
    assert await part.seal(length_known=True) == hashlib.sha256(VIDEO).hexdigest()


async def test_what_was_gathered_and_not_written_counts_as_there(tmp_path: Path) -> None:
    part = await taken_up(tmp_path)
    await part.write(VIDEO[:100])
    assert part.offset == 100
    assert part.path.stat().st_size == 0
    await part.write(bytes(BUFFER))
    assert part.path.stat().st_size == part.offset == 100 + BUFFER


@given(st.lists(st.integers(1, 40), max_size=20))
async def test_however_the_bytes_come_apart(tmp_path_factory, sizes: list[int]) -> None:
    part = await taken_up(tmp_path_factory.mktemp("part"))
    at = 0
    for size in sizes:
        await part.write(VIDEO[at : at + size])
        at += size
    await part.write(VIDEO[at:])
    assert await part.seal(length_known=True) == hashlib.sha256(VIDEO).hexdigest()


class TestRefused:
    @pytest.mark.parametrize("data", [b"<html>" * 10, b"\0" * 12, b"\0\0\0\x18ftyq" + bytes(9)])
    async def test_what_does_not_begin_like_an_mp4(self, tmp_path: Path, data: bytes) -> None:
        part = await taken_up(tmp_path)
        with pytest.raises(NotAVideo, match="not an MP4"):
            await part.write(data)

    async def test_in_single_bytes_too(self, tmp_path: Path) -> None:
        part = await taken_up(tmp_path)
        for byte in b"<!doctype h":
            await part.write(bytes([byte]))
        with pytest.raises(NotAVideo):
            await part.write(b"t")

    async def test_more_than_a_video_may_have(self, tmp_path: Path) -> None:
        part = await taken_up(tmp_path, most=len(VIDEO))
        await part.write(VIDEO)
        with pytest.raises(NotAVideo, match="larger than"):
            await part.write(b"x")

    @pytest.mark.parametrize("data", [b"", b"\0\0\0\x18ftyp"])
    async def test_next_to_nothing(self, tmp_path: Path, data: bytes) -> None:
        part = await taken_up(tmp_path)
        await part.write(data)
        with pytest.raises(NotAVideo):
            await part.seal(length_known=True)

    async def test_a_cut_that_no_length_tells(self, tmp_path: Path) -> None:
        part = await taken_up(tmp_path)
        await part.write(VIDEO[:-1])
        with pytest.raises(NotAVideo):
            await part.seal(length_known=False)

    async def test_what_the_disk_did_not_keep(self, tmp_path: Path) -> None:
        part = await taken_up(tmp_path)
        await part.write(VIDEO)
        await part.flush()
        part.path.write_bytes(VIDEO[:-1])
        with pytest.raises(NotAVideo, match="did not keep"):
            await part.seal(length_known=True)


class TestWholeMp4:
    def check(self, folder: Path, data: bytes) -> bool:
        path = folder / "video.mp4"
        path.write_bytes(data)
        return is_whole_mp4(path)

    @pytest.mark.parametrize(
        "data",
        [
            VIDEO,
            box(b"ftyp", b"isom") + box(b"moov") + box(b"free") + box(b"mdat", b"x" * 50),
            box(b"ftyp", b"isom") + box(b"moov") + b"\0\0\0\0mdat" + b"x" * 50,
            box(b"ftyp", b"isom")
            + box(b"moov")
            + b"\0\0\0\x01mdat"
            + (66).to_bytes(8, "big")
            + b"x" * 50,
        ],
    )
    def test_whole(self, tmp_path: Path, data: bytes) -> None:
        assert self.check(tmp_path, data)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            box(b"ftyp", b"isom") + box(b"mdat", b"x" * 50),
            box(b"moov") + box(b"mdat", b"x"),
            VIDEO + b"\0\0\0",
            VIDEO + b"\0\0\0\x04free",
            VIDEO + b"\0\0\0\x01free" + bytes(8),
            VIDEO + b"\xff\xff\xff\xffmdat",
            VIDEO + b"\0\0\0\x01mdat" + b"\xff" * 8,
        ],
    )
    def test_not_whole(self, tmp_path: Path, data: bytes) -> None:
        assert not self.check(tmp_path, data)

    @given(st.integers(0, len(VIDEO) - 1))
    @example(len(VIDEO) - 1)
    def test_no_cut_passes(self, tmp_path_factory, at: int) -> None:
        folder = tmp_path_factory.getbasetemp()
        assert not self.check(folder, VIDEO[:at])

    @given(st.binary(max_size=100))
    def test_no_bytes_are_too_odd(self, tmp_path_factory, data: bytes) -> None:
        self.check(tmp_path_factory.getbasetemp(), box(b"ftyp", b"isom") + data)

    @given(st.binary(max_size=20))
    def test_the_beginning(self, head: bytes) -> None:
        assert begins_like_mp4(head) == (len(head) >= 12 and head[4:8] == b"ftyp")
