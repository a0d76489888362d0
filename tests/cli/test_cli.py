"""The commands, as a shell runs them: what they print, where, and how they end."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib import metadata
from pathlib import Path

import httpx
import pytest
from crashes.processes import free_port
from stage import UPSTREAM_KEY, picture, until

from gateway.cli import main
from gateway.cli.create import make_video
from gateway.content.mp4 import is_whole_mp4
from gateway.errors import GatewayError
from gateway.keys import is_key
from gateway.sandbox import Running, movie

Command = Callable[..., subprocess.CompletedProcess[str]]

CONFIG = """
[server]
port = 0
data_dir = "{data}"
grace = 12
[[accounts]]
base_url = "{url}"
period = 0.3
guard = 0.05
[timeouts]
submit = 10
[polling]
interval = 0.15
expected = 0.3
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A settings file that adds up."""
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(data=tmp_path / "data", url="http://upstream.invalid"))
    return path


def environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "GATEWAY" not in name}
    return kept | {"UPSTREAM_API_KEY": UPSTREAM_KEY, "COLUMNS": "200"} | variables


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs `video-gateway` to its end in a folder of its own."""

    def run(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
        argv = ["video-gateway", *map(str, words)]
        with monkeypatch.context() as patched:
            patched.setattr(sys, "argv", argv)
            patched.chdir(tmp_path)
            for name, value in environment(**variables).items():
                patched.setenv(name, value)
            try:
                main()
                status: object = 0
            except SystemExit as end:
                status = end.code or 0
        said = capsys.readouterr()
        return subprocess.CompletedProcess(argv, int(str(status)), said.out, said.err)

    return run


@pytest.fixture
def process(tmp_path: Path) -> Command:
    """The same in a process of its own."""

    def run(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gateway", *map(str, words)],
            env=environment(**variables),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return run


def test_as_a_module(process: Command) -> None:
    assert "Usage:" in process("--help").stdout


def test_the_version(command: Command) -> None:
    assert command("--version").stdout == f"{metadata.version('video-gateway')}\n"


class TestHelp:
    @pytest.mark.parametrize(
        "words",
        [
            [],
            ["serve"],
            ["demo"],
            ["sandbox"],
            ["create"],
            ["check"],
            ["keys"],
            ["keys", "create"],
            ["keys", "list"],
            ["keys", "revoke"],
        ],
    )
    def test_every_command_explains_itself(self, command: Command, words: list[str]) -> None:
        done = command(*words, "--help")
        assert done.returncode == 0
        assert "Usage:" in done.stdout
        assert "--help" in done.stdout
        assert done.stderr == ""

    @pytest.mark.parametrize("words", [["nonsense"], ["serve", "--nonsense"], ["create"]])
    def test_what_is_not_understood_is_status_2(self, command: Command, words: list[str]) -> None:
        done = command(*words)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


class TestCheck:
    def test_settings_that_add_up(self, command: Command, config: Path) -> None:
        done = command("check", "--config", config)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"{config}: fine, 1 account(s)\n"
        assert UPSTREAM_KEY not in done.stdout

    def test_config_toml_of_the_folder_is_the_default(self, command: Command, config: Path) -> None:
        assert command("check").returncode == 0

    def test_a_line_for_each_problem(self, command: Command, config: Path) -> None:
        wrong = "expected = 9000.0\n[limits]\nqueued = -1\nnonsense = 1\n[nowhere]\nx = 1\n"
        config.write_text(config.read_text().replace("expected = 0.3\n", wrong))
        done = command("check", "--config", config)
        assert done.returncode == 2
        assert done.stdout == ""
        lines = done.stderr.splitlines()
        assert all(line.startswith("video-gateway: ") for line in lines)
        for problem in ("limits.queued", "limits.nonsense", "nowhere: there is no such section"):
            assert sum(problem in line for line in lines) == 1

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (None, "No such file"),
            ("[server", "config.toml"),
            ("[server]\nport = 99999\n", "server.port"),
            ("[nowhere]\nx = 1\n", "nowhere"),
            ('[[accounts]]\nbase_url = "ftp://x"\n', "base_url"),
            ('[[accounts]]\napi_key = "sk-oops-a-secret"\n', "account 1: api_key"),
            ('[auth]\nmode = "open"\n[server]\nhost = "0.0.0.0"\n', "auth.mode"),
        ],
    )
    @pytest.mark.parametrize("which", ["check", "serve"])
    def test_one_line_says_what_is_wrong(
        self, command: Command, config: Path, which: str, content: str | None, said: str
    ) -> None:
        if content is None:
            config.unlink()
        else:
            config.write_text(content)
        done = command(which, "--config", config)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith("video-gateway: ")
        assert said in line
        assert "sk-oops-a-secret" not in done.stderr + done.stdout

    @pytest.mark.parametrize("value", ["", "  ", "two words", "schlüssel"])
    def test_a_key_that_is_none(self, command: Command, config: Path, value: str) -> None:
        done = command("check", UPSTREAM_API_KEY=value)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "UPSTREAM_API_KEY" in line
        assert "two words" not in line

    def test_variables_outweigh_the_file(self, command: Command, config: Path) -> None:
        assert command("check", VIDEO_GATEWAY_SERVER__PORT="9000").returncode == 0
        done = command("check", VIDEO_GATEWAY_SERVER__PROT="9000")
        assert done.returncode == 2
        assert "VIDEO_GATEWAY_SERVER__PROT" in done.stderr


class TestKeys:
    def test_a_new_key_stands_alone_on_standard_output(
        self, command: Command, config: Path
    ) -> None:
        done = command("keys", "create", "alice", "--config", config)
        assert (done.returncode, done.stderr) == (0, "")
        assert is_key(done.stdout.removesuffix("\n"))
        for path in (config.parent / "data").iterdir():
            if path.is_file():
                assert done.stdout.strip().encode() not in path.read_bytes()

    def test_what_they_are_kept_in_is_nobody_elses(self, process: Command, config: Path) -> None:
        assert process("keys", "create", "ada").returncode == 0
        made = [config.parent / "data", *(config.parent / "data").rglob("*")]
        assert [path for path in made if path.stat().st_mode & 0o077] == []

    def test_list_and_revoke(self, command: Command, config: Path) -> None:
        keys = [command("keys", "create", name).stdout.strip() for name in ("alice", "bob", "bob")]
        listed = command("keys", "list").stdout
        ids = re.findall(r"key_[0-9a-f]{16}", listed)
        assert len(set(ids)) == 3
        assert listed.count("bob") == 2
        assert not any(key in listed for key in keys)
        assert command("keys", "revoke", ids[0]).stdout == f"revoked {ids[0]} of alice\n"
        assert len(command("keys", "revoke", "bob").stdout.splitlines()) == 2
        done = command("keys", "revoke", "bob")
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1

    @pytest.mark.parametrize("name", ["", "two words", "x" * 31, "a/b", "--"])
    def test_a_name_that_is_none(self, command: Command, config: Path, name: str) -> None:
        done = command("keys", "create", name)
        assert (done.returncode, done.stdout) == (2, "")


@pytest.fixture
async def served(config: Path, upstream: Running) -> AsyncIterator[str]:
    """A gateway that serves in a process of its own; its address."""
    config.write_text(CONFIG.format(data=config.parent / "data", url=upstream.url))
    async with serving(config, free_port()) as url:
        yield url


@asynccontextmanager
async def serving(config: Path, port: int) -> AsyncIterator[str]:
    """The same on a port that is known before: once more, it is a restart."""
    errors = config.parent / "stderr"
    with errors.open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gateway",
                "serve",
                "--config",
                str(config),
                "--port",
                str(port),
            ],
            env=environment(),
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, errors.read_text()
        try:
            ready = httpx.get(f"{url}/readyz", trust_env=False, verify=False)
            return ready.status_code == 200
        except httpx.TransportError:
            return False

    try:
        await until(answers)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 10)
    assert process.returncode in (0, -signal.SIGTERM)
    assert UPSTREAM_KEY not in errors.read_text()


@asynccontextmanager
async def cutting(url: str, asked: bytes) -> AsyncIterator[tuple[str, list[int]]]:
    """A line to `url` that cuts the first answer to what holds these bytes; its address, and after
    how many bytes of the answer it did so.
    """
    cut: list[int] = []

    async def carry(theirs: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        ours, forth = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
        last = b""

        async def ask() -> None:
            nonlocal last
            while request := await theirs.read(65536):
                last = last + request if request[:4] not in (b"GET ", b"POST") else request
                forth.write(request)

        asking = asyncio.create_task(ask())
        while answer := await ours.read(4096):
            if asked in last and not cut:
                cut.append(len(answer) - 1)
                back.write(answer[:-1])
                break
            back.write(answer)
        asking.cancel()
        for end in (back, forth):
            end.close()

    async with await asyncio.start_server(carry, "127.0.0.1", 0) as line:
        host, port = line.sockets[0].getsockname()
        yield f"http://{host}:{port}", cut


class TestCreate:
    """Beside a running server."""

    async def test_a_video_is_made_and_saved(
        self, process: Command, served: str, tmp_path: Path, upstream: Running
    ) -> None:
        key = (await asyncio.to_thread(process, "keys", "create", "alice")).stdout.strip()
        image = tmp_path / "begin.png"
        image.write_bytes(picture("PNG", (640, 360)))
        words = [
            "create",
            "a cat",
            "--url",
            served,
            "--key",
            key,
            "--seconds",
            "10",
            "--model",
            "sora-2",
        ]
        words += ["--size", "720x1280", "--image", image, "-o", tmp_path / "cat.mp4"]
        done = await asyncio.to_thread(process, *words)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{tmp_path / 'cat.mp4'}\n"
        assert is_whole_mp4(tmp_path / "cat.mp4")
        assert not (tmp_path / "cat.mp4.part").exists()
        (task,) = upstream.state.tasks.values()
        assert (task.prompt, task.size, task.seconds) == ("a cat", "720x1280", "10")
        assert key not in done.stderr

    @pytest.mark.parametrize("asked", [b"POST /v1/videos ", b"/content "])
    async def test_an_answer_that_breaks_off_is_asked_for_again(
        self, command: Command, served: str, tmp_path: Path, upstream: Running, asked: bytes
    ) -> None:
        key = command("keys", "create", "alice").stdout.strip()
        async with cutting(served, asked) as (line, cut):
            saved = await asyncio.to_thread(
                make_video, line, key, "a cat", output=tmp_path / "cat.mp4"
            )
        assert is_whole_mp4(saved)
        assert cut[0] < saved.stat().st_size
        assert not (tmp_path / "cat.mp4.part").exists()
        assert len(upstream.state.tasks) == 1

    async def test_what_goes_wrong_is_said_in_one_line(
        self, command: Command, served: str, tmp_path: Path
    ) -> None:
        key = command("keys", "create", "alice").stdout.strip()

        async def refused(*words: object, **variables: str) -> str:
            done = await asyncio.to_thread(command, "create", "--url", served, *words, **variables)
            assert (done.returncode, done.stdout) == (2, "")
            *_, line = done.stderr.splitlines()
            assert line.startswith("video-gateway: ")
            assert "Traceback" not in done.stderr
            return line

        assert "no API key" in await refused("a cat")
        assert "not known" in await refused("a cat", VIDEO_GATEWAY_KEY="wrong")
        keyed = {"VIDEO_GATEWAY_KEY": key}
        assert "must be one of 10, 15" in await refused("a cat", "--seconds", "99", **keyed)
        assert "No such file" in await refused("a cat", "--image", tmp_path / "none.png", **keyed)
        assert "prompt is required" in await refused("", **keyed)
        assert "the key is none" in await refused("a cat", "--key", "schlüssel")
        assert "rejected by the content policy" in await refused("sandbox:policy", **keyed)
        assert not any(".mp4" in name for name in os.listdir(tmp_path))

    async def test_a_revoked_key_works_no_more(self, process: Command, served: str) -> None:
        key = (await asyncio.to_thread(process, "keys", "create", "alice")).stdout.strip()
        header = {"authorization": key}
        async with httpx.AsyncClient(base_url=served, headers=header, trust_env=False) as http:
            assert (await http.get("/v1/videos/video_1")).status_code == 404
            await asyncio.to_thread(process, "keys", "revoke", "alice")
            assert (await http.get("/v1/videos/video_1")).status_code == 401

    async def test_a_second_server_on_the_folder_is_refused(
        self, process: Command, served: str
    ) -> None:
        done = await asyncio.to_thread(process, "serve", "--port", "0")
        assert done.returncode == 2
        assert "another server is running" in done.stderr

    async def test_a_place_that_can_not_be_written_is_told_before_anything_is_paid_for(
        self, command: Command, served: str, tmp_path: Path, upstream: Running
    ) -> None:
        key = command("keys", "create", "alice").stdout.strip()
        for place, said in ((tmp_path / "no" / "x.mp4", "no folder"), (tmp_path, "is a folder")):
            words = ("create", "a cat", "--url", f"{served}/v1", "--key", key, "-o", place)
            done = await asyncio.to_thread(command, *words)
            assert done.returncode == 2
            (line,) = done.stderr.splitlines()
            assert said in line
        assert not upstream.state.tasks

    async def test_the_id_is_told_at_once(
        self, command: Command, served: str, tmp_path: Path
    ) -> None:
        """A base URL as OpenAI's clients take it does, too."""
        key = command("keys", "create", "alice").stdout.strip()
        words = ("create", "a cat", "--url", f"{served}/v1", "--key", key, "-o", tmp_path / "a.mp4")
        done = await asyncio.to_thread(command, *words)
        assert done.returncode == 0, done.stderr
        assert done.stderr.startswith("video_")

    async def test_who_stops_waiting_is_told_where_it_will_be(
        self, command: Command, served: str, tmp_path: Path
    ) -> None:
        key = command("keys", "create", "alice").stdout.strip()
        words = ("create", "sandbox:hang", "--url", served, "--key", key)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", *words,
            cwd=tmp_path, env=environment(), stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        video = (await process.stderr.readline()).decode().strip()
        process.send_signal(signal.SIGINT)
        said = (await process.stderr.read()).decode()
        assert (await process.wait(), "it goes on: " in said) == (2, True), said
        assert f"{served}/v1/videos/{video}/content has it once" in said


class TestRestart:
    """While a video is waited for. Its account is paused, so that it is not over before."""

    async def test_it_is_outlasted(
        self, command: Command, config: Path, upstream: Running, tmp_path: Path
    ) -> None:
        config.write_text(CONFIG.format(data=tmp_path / "data", url=upstream.url))
        port, asked = free_port(), asyncio.Event()

        def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.set()
            writer.close()

        async with serving(config, port) as url:
            key = command("keys", "create", "alice").stdout.strip()
            assert command("accounts", "pause", "default").returncode == 0
            words = ("create", "a cat", "--url", url, "--key", key, "-o", tmp_path / "cat.mp4")
            waiting = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gateway", *map(str, words),
                cwd=tmp_path, env=environment(), stderr=subprocess.PIPE,
            )  # fmt: skip
            assert waiting.stderr is not None
            assert (await waiting.stderr.readline()).startswith(b"video_")
        between = await asyncio.start_server(hang_up, "127.0.0.1", port)
        async with asyncio.timeout(20):
            await asked.wait()
        between.close()
        async with serving(config, port):
            assert command("accounts", "resume", "default").returncode == 0
            said = (await waiting.stderr.read()).decode()
            assert await waiting.wait() == 0, said
        assert is_whole_mp4(tmp_path / "cat.mp4")

    async def test_who_has_waited_long_enough_is_told_where_it_will_be(
        self, command: Command, config: Path, upstream: Running, tmp_path: Path
    ) -> None:
        config.write_text(CONFIG.format(data=tmp_path / "data", url=upstream.url))
        port = free_port()
        async with serving(config, port) as url:
            key = command("keys", "create", "alice").stdout.strip()
            assert command("accounts", "pause", "default").returncode == 0
            making = asyncio.create_task(
                asyncio.to_thread(
                    make_video, url, key, "a cat", output=tmp_path / "a.mp4", patience=0.0
                )
            )
            videos = partial(
                httpx.get, f"{url}/v1/videos", headers={"authorization": key}, trust_env=False
            )
            (video,) = await until(lambda: videos().json()["data"])
        with pytest.raises(GatewayError) as gone:
            await making
        where = f"{url}/v1/videos/{video['id']}/content"
        assert str(gone.value) == (
            f"{url} does not answer any more: {where} has it once it is completed"
        )


@pytest.mark.parametrize("words", [["serve"], ["demo"]])
def test_a_port_that_is_taken(process: Command, config: Path, words: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = process(*words, "--port", str(port))
    assert done.returncode == 3
    *_, line = done.stderr.splitlines()
    assert line == f"video-gateway: can't listen on 127.0.0.1:{port}"
    assert "Traceback" not in done.stderr
    assert '"event": "ready"' not in done.stderr


@pytest.mark.parametrize("command_", ["demo", "sandbox"])
def test_the_sandbox_without_what_makes_its_videos(
    command: Command, monkeypatch: pytest.MonkeyPatch, command_: str
) -> None:
    monkeypatch.setattr(movie, "find_spec", lambda _name: None)
    done = command(command_, "--port", str(free_port()))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert 'pip install "video-gateway[sandbox]"' in line


@pytest.mark.parametrize("command_", ["demo", "sandbox"])
def test_a_port_that_is_none(command: Command, command_: str) -> None:
    assert command(command_, "--port", "99999").returncode == 2


def test_a_url_that_is_none(command: Command) -> None:
    done = command("create", "a cat", "--url", "http://[::1")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "can't be reached" in line


def test_nobody_there(process: Command) -> None:
    done = process("create", "a cat", "--url", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "can't be reached" in line
