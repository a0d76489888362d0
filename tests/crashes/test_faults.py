"""Write faults under a real gateway: a full disk, errors of writes and fsyncs, unusable folders."""

import asyncio
import hashlib
import os
import re
import shutil
from pathlib import Path

import httpx
import pytest
from stage import mp4, until

from gateway.errors import StartError
from gateway.ledger import mounts
from gateway.ledger.mounts import file_system, refuse_network

from .conftest import MakeServer
from .server import Server
from .upstream import Upstream

pytestmark = pytest.mark.anyio

MEGABYTE = 1_000_000

GRACE = ("[timeouts]", "submit = 20")


def small_disk(folder: Path, size: str, options: str = "rw") -> list[str]:
    """A command to run another under, which sees a file system of that `size` at `folder`.

    It is mounted in a namespace of its own: anyone may.
    """
    script = 'mount -t tmpfs -o "size=$0" tmpfs "$1" && mount -o "remount,$2" "$1" && shift 2'
    command = f'{script} && exec "$@"'
    space = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", command]
    return [*space, size, str(folder), options]


@pytest.fixture
def upstream(upstream: Upstream) -> Upstream:
    """Answers at once, and makes small videos."""
    upstream.video = mp4()
    upstream.answer_posts.set()
    upstream.send_all.set()
    return upstream


class Disk:
    """The small disk of a running server, seen from outside its namespace."""

    def __init__(self, server: Server) -> None:
        assert server.process is not None
        self._folder = Path(f"/proc/{server.process.pid}/root{server.data}")
        self._filler = self._folder / "filler"

    def leave(self, megabytes: float) -> None:
        """Fill it until so much is left."""
        self._filler.unlink(missing_ok=True)
        free = shutil.disk_usage(self._folder).free - int(megabytes * MEGABYTE)
        with self._filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free)

    def free(self) -> None:
        self._filler.unlink()


async def post(server: Server, prompt: str) -> httpx.Response:
    async with server.ask() as client:
        return await client.post("/videos", json={"prompt": prompt})


async def videos(server: Server) -> dict[str, str]:
    """The status of each video, by its prompt."""
    async with server.ask() as client:
        page = (await client.get("/videos?limit=100")).json()["data"]
        return {video["prompt"]: video["status"] for video in page}


async def until_all(server: Server, status: str, *prompts: str) -> None:
    """Wait until these videos have this status."""
    async with asyncio.timeout(60):
        while {(await videos(server))[prompt] for prompt in prompts} != {status}:
            await asyncio.sleep(0.05)


async def test_a_full_disk(upstream: Upstream, make_server: MakeServer) -> None:
    server = make_server(upstream.url, *GRACE)
    server.data.mkdir()
    await server.start(*small_disk(server.data, "420m"))
    disk = Disk(server)
    stored = (await post(server, "stored")).json()["id"]
    await until_all(server, "completed", "stored")

    upstream.answer_posts.clear()
    await post(server, "paid")
    await until(lambda: upstream.posts == 2)
    disk.leave(230)  # room for the ledger and what is paid for, not for one video more
    await post(server, "waiting")
    upstream.answer_posts.set()
    await until_all(server, "completed", "stored", "paid")
    assert (await videos(server))["waiting"] == "submitted"  # upstream's word for queued
    async with server.ask() as client:
        (account,) = (await client.get(f"{server.url}/readyz")).json()["accounts"]
    assert "no room" in account["submits_wait_for"]
    assert upstream.posts == 2

    upstream.answer_posts.clear()
    disk.free()
    await post(server, "wakes it up")
    await until(lambda: upstream.posts == 3)
    disk.leave(0)
    answer = await post(server, "no room")
    accepted = ["stored", "paid", "waiting", "wakes it up"]
    while answer.status_code == 200:  # SQLite's log may have some room of its own
        accepted.append(answer.json()["prompt"])
        answer = await post(server, f"no room {len(accepted)} {'x' * 900}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "gateway_full")
    async with server.ask() as client:
        content = (await client.get(f"/videos/{stored}/content")).content
        assert (await client.get(f"{server.url}/readyz")).status_code == 503
    assert hashlib.sha256(content).digest() == hashlib.sha256(upstream.video).digest()
    upstream.answer_posts.set()  # its answer can't be written down now, and is not forgotten
    await until(lambda: "a call's end waits to be written" in server.log.read_text())
    disk.free()
    assert (await post(server, "room again")).status_code == 200
    await until_all(server, "completed", *accepted, "room again")
    assert upstream.posts == len(accepted) + 1
    assert server.process is not None
    assert server.process.returncode is None


@pytest.mark.parametrize("nth", [5, 6, 7])
async def test_an_fsync_of_content_that_fails_ends_the_process(
    upstream: Upstream, make_server: MakeServer, nth: int
) -> None:
    """The first ones after the start's: the video, its folder's name, its own new name."""
    server = make_server(upstream.url, *GRACE)
    await server.start(VIDEO_GATEWAY_FAILPOINTS=f"disk.sync=eio@{nth}")
    accepted = [prompt for prompt in ("one", "two", "three") if await accepts(server, prompt)]
    assert await server.ended() == 1
    assert "an fsync failed" in server.log.read_text()
    await goes_on(server, upstream, accepted)


@pytest.mark.parametrize("fault", ["write=enospc", "write=eio", "rename=eio", "rename=enospc"])
@pytest.mark.parametrize("nth", [1, 2])
async def test_a_write_of_content_that_fails_is_made_again(
    upstream: Upstream, make_server: MakeServer, fault: str, nth: int
) -> None:
    server = make_server(upstream.url, *GRACE)
    await server.start(VIDEO_GATEWAY_FAILPOINTS=f"disk.{fault}@{nth}")
    prompts = ["one", "two", "three"]
    assert [await accepts(server, prompt) for prompt in prompts] == [True] * 3
    await until_all(server, "completed", *prompts)
    assert upstream.posts == 3
    assert '"outcome": "broken"' in server.log.read_text()


def failing(server: Server, call: str, error: str, when: str) -> list[str]:
    """A command to run another under, some of whose system calls then fail. `-D`: what is started
    is the other, not strace, which would leave it behind when it is killed.
    """
    inject = f"{call}:error={error}:when={when}"
    trace = ["strace", "-D", "-f", "-qq", "-e", f"trace={call}", "-e", f"inject={inject}"]
    return [*trace, "-o", str(server.folder / "trace")]


@pytest.mark.parametrize(
    ("call", "when"),
    [("fdatasync", "20+"), ("fdatasync", "27+"), ("pwrite64", "110+"), ("pwrite64", "160+")],
)
async def test_a_ledger_that_the_disk_does_not_take_ends_the_process(
    upstream: Upstream, make_server: MakeServer, call: str, when: str
) -> None:
    server = make_server(upstream.url, *GRACE)
    await server.start()  # a ledger that is there
    await server.stop()
    await server.start(*failing(server, call, "EIO", when))
    accepted = []
    try:
        for number in range(200):
            if await accepts(server, f"cat {number}"):
                accepted.append(f"cat {number}")
    except httpx.TransportError:
        pass
    assert await server.ended() == 1
    assert "the ledger can't be trusted any more" in server.log.read_text()
    await goes_on(server, upstream, accepted)


async def test_a_ledger_without_room_recovers_by_itself(
    upstream: Upstream, make_server: MakeServer
) -> None:
    server = make_server(upstream.url, *GRACE)
    await server.start()
    await server.stop()
    await server.start(*failing(server, "pwrite64", "ENOSPC", "120..150"))
    told: dict[str, bool] = {}
    while not (False in told.values() and list(told.values())[-1]):
        told[f"cat {len(told)}"] = await accepts(server, f"cat {len(told)}")
    accepted = [prompt for prompt, taken in told.items() if taken]
    await until_all(server, "completed", *accepted)
    assert upstream.posts == len(accepted) == len(server.states())


async def accepts(server: Server, prompt: str) -> bool:
    return (await post(server, prompt)).status_code == 200


async def goes_on(server: Server, upstream: Upstream, accepted: list[str]) -> None:
    """The next start is clean: nothing that was accepted is lost, and nothing is sent twice."""
    await server.start()
    await until(lambda: {*server.states()} <= {"completed", "failed"})
    told = dict(server.read("SELECT prompt, coalesce(error_code, '') FROM jobs"))
    assert [prompt for prompt in accepted if prompt not in told] == []
    assert {*told.values()} <= {"", "submission_outcome_unknown"}
    unknown = list(told.values()).count("submission_outcome_unknown")  # may not have been sent yet
    assert len(told) - unknown <= upstream.posts <= len(told)


class TestAStartIsRefusedInOneLine:
    """Exit status 2, and no traceback."""

    @pytest.mark.parametrize("name", ["videos", "inputs", "parts", "ledger.sqlite", "lock"])
    async def test_something_else_where_its_files_should_be(
        self, make_server: MakeServer, name: str
    ) -> None:
        server = make_server()
        server.data.mkdir()
        if name in ("ledger.sqlite", "lock"):
            (server.data / name).mkdir()
        else:
            (server.data / name).write_bytes(b"")
        (line,) = await server.refusal()
        assert line.startswith("video-gateway: ")
        assert str(server.data) in line

    @pytest.mark.parametrize("made", [False, True])
    async def test_a_read_only_file_system(self, make_server: MakeServer, made: bool) -> None:
        server = make_server()
        server.data.mkdir()
        if made:
            data = server.data / "there"
            server = make_server(data=data)
        (line,) = await server.refusal(
            *small_disk(data.parent if made else server.data, "1m", "ro")
        )
        assert line.startswith(f"video-gateway: the data folder {server.data} can't be used: ")

    async def test_no_room_at_all(self, make_server: MakeServer) -> None:
        server = make_server()
        server.data.mkdir()
        (line,) = await server.refusal(*small_disk(server.data, "64k"))
        assert "disk" in line

    @pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
    @pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
    async def test_a_disk_that_takes_nothing(
        self, make_server: MakeServer, call: str, error: str
    ) -> None:
        server = make_server()
        (line,) = await server.refusal(*failing(server, call, error, "1+"))
        assert line.startswith("video-gateway: the ledger ")

    @pytest.mark.parametrize("damage", ["cut short", "garbage"])
    async def test_a_damaged_ledger(
        self, upstream: Upstream, make_server: MakeServer, damage: str
    ) -> None:
        server = make_server(upstream.url, *GRACE)
        await server.start()
        await accepts(server, "a cat")
        await server.stop()
        for log in server.data.glob("ledger.sqlite-*"):
            log.unlink()
        ledger = server.data / "ledger.sqlite"
        whole = ledger.read_bytes()
        ledger.write_bytes(whole[: len(whole) // 3] if damage == "cut short" else b"x" * 10_000)
        (line,) = await server.refusal()
        assert re.match(r"video-gateway: the ledger (in )?\S+ can't be used: ", line)

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            ("submit.send=kill@1", "there is no point 'submit.send'"),
            ("submit.sent=kill", "'submit.sent=kill' is not POINT=kill@N"),
            ("submit.sent=eio@1", "eio is for the points of the disk"),
        ],
    )
    async def test_a_failpoint_that_is_none(
        self, make_server: MakeServer, value: str, words: str
    ) -> None:
        (line,) = await make_server().refusal(VIDEO_GATEWAY_FAILPOINTS=value)
        assert words in line


MOUNTS = r"""
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:21 / /proc rw shared:1 - proc proc rw
30 22 0:40 / /srv rw,relatime shared:7 master:2 - nfs4 host:/srv rw,vers=4.2
31 30 254:1 / /srv/local rw - xfs /dev/vdb rw
32 22 0:41 / /mnt/over\040there rw - cifs //host/share rw
33 22 0:42 / /covered rw - nfs host:/x rw
34 22 0:43 / /covered rw - tmpfs tmpfs rw
35 22 0:44 / /home/a rw - fuse.sshfs a@host: rw
""".strip()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/var/lib/data", "ext4"),
        ("/srv", "nfs4"),
        ("/srv/data", "nfs4"),
        ("/srvdata", "ext4"),
        ("/srv/local/data", "xfs"),
        ("/mnt/over there/data", "cifs"),
        ("/covered/data", "tmpfs"),
        ("/home/a/data", "fuse.sshfs"),
    ],
)
def test_which_file_system_a_folder_lies_on(path: str, kind: str) -> None:
    assert file_system(MOUNTS, Path(path)) == kind


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "ceph", "9p", "ext4"]
)
def test_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    told = tmp_path / "mountinfo"
    told.write_text(f"22 1 254:0 / {tmp_path} rw - {kind} somewhere rw\n")
    monkeypatch.setattr(mounts, "_MOUNTS", told)
    if kind in ("9p", "ext4"):  # a virtual machine's folder of its host may have locks
        refuse_network(tmp_path)
    else:
        with pytest.raises(StartError, match=rf"lies on a network file system \({kind}\)"):
            refuse_network(tmp_path)


def test_a_garbled_list_of_mounts_tells_nothing() -> None:
    assert file_system("a b c\n - \n\n1 2 3", Path("/data")) is None


async def test_it_opens_as_many_files_as_it_may(make_server: MakeServer) -> None:
    server = make_server()
    await server.start("sh", "-c", 'ulimit -Sn 100 && exec "$@"', "sh")
    assert server.process is not None
    limits = Path(f"/proc/{server.process.pid}/limits").read_text()
    soft, hard = re.findall(r"Max open files +(\S+) +(\S+)", limits)[0]
    assert soft == hard != "100"
