"""What an operator does beside a running gateway: it is seen at once, and by the engine too."""

import errno
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from api.bench import knows_an_account_that_left
from stage import House, picture, until
from typer.main import get_command

from gateway.cli import app, main
from gateway.engine.janitor import DAY
from gateway.sandbox.record import submits_by_prompt

CONFIG = """
[server]
data_dir = "{data}"
[[accounts]]
base_url = "http://upstream.invalid"
"""


class Said(NamedTuple):
    """How a command ended, and what it printed where."""

    status: int
    out: str
    err: str


Operate = Callable[..., Said]


@pytest.fixture
def operate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Operate:
    """Runs `video-gateway` on the folder of `house`."""
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(data=tmp_path / "data"))

    def run(*words: object) -> Said:
        argv = ["video-gateway", *map(str, words), "--config", str(config)]
        monkeypatch.setattr(sys, "argv", argv)
        capsys.readouterr()
        status: Any = 0
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
        return Said(int(status), *capsys.readouterr())

    return run


async def test_an_account_with_tasks_may_not_leave_the_settings(
    house: House, caller, operate: Operate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTREAM_API_KEY", "sk-1")
    await caller.create()
    await until(lambda: house.ledger.live.counts["running"])
    await house.stop()
    config = tmp_path / "config.toml"
    config.write_text(config.read_text() + 'name = "another"\n')
    assert operate("check").status == 0
    assert refused(operate("serve")) == (
        "video-gateway: account 'default' is not in the settings, and still has 1 task upstream: "
        "put it back until they are done"
    )


async def test_a_model_that_videos_still_want_may_not_leave_the_settings(
    house: House, caller, operate: Operate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTREAM_API_KEY", "sk-1")
    assert operate("accounts", "pause", "default").status == 0
    for _ in range(2):
        await caller.create()
    await house.stop()
    config = tmp_path / "config.toml"
    config.write_text(config.read_text() + '[requests]\nmodels = ["sora-3"]\n')
    assert operate("check").status == 0
    assert refused(operate("serve")) == (
        "video-gateway: no account serves the model 'sora-2', and 2 videos of it still waiting or "
        "under way: put it back until they are done"
    )


async def test_a_video_of_a_model_that_nobody_serves_is_not_sent_anew(
    house: House, caller, operate: Operate, tmp_path: Path
) -> None:
    video = await caller.create("sandbox:policy")
    await caller.finished(video)
    config = tmp_path / "config.toml"
    config.write_text(config.read_text() + '[requests]\nmodels = ["sora-3"]\n')
    assert "no account serves the model" in refused(operate("jobs", "resubmit", video))


def refused(said: Said) -> str:
    """The one line of a command that was refused."""
    assert (said.status, said.out) == (2, "")
    (line,) = said.err.splitlines()
    return line


async def lost(house: House, caller: Any, upstream: Any, **asked: Any) -> tuple[str, str]:
    """A video whose submit has an unknown outcome, and what upstream calls it."""
    known = set(upstream.state.tasks)
    video = await caller.create("sandbox:lost", **asked)
    await caller.finished(video)
    (upstream_id,) = set(upstream.state.tasks) - known
    return video, upstream_id


def commands(group: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """The words of every command that reads the settings, with what it must be given."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *path, name)
        elif any(parameter.name == "config" for parameter in command.params):
            needed = [parameter for parameter in command.params if parameter.required]
            options = [
                word for each in needed if each.opts[0][0] == "-" for word in (each.opts[0], "x")
            ]
            arguments = ["x" for each in needed if each.opts[0][0] != "-"]
            yield (*path, name, *arguments, *options)


BESIDE = [words for words in commands(get_command(app))
          if words[0] not in ("serve", "check") and words[:2] != ("keys", "create")]  # fmt: skip
"""What is done beside a ledger that there is."""


@pytest.mark.parametrize("words", BESIDE, ids=" ".join)
def test_where_there_is_no_ledger_none_is_made(
    operate: Operate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """A copy of nothing would pass for a backup."""
    config = tmp_path / "config.toml"
    config.write_text(config.read_text().replace(str(tmp_path / "data"), "data"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    line = refused(operate(*words))
    assert f"there is no ledger in {elsewhere / 'data'}: " in line
    assert "a relative data_dir" in line
    assert list(elsewhere.iterdir()) == []


class TestJobs:
    async def test_list_tells_of_all_or_some_the_newest_first(
        self, operate: Operate, make_gateway, make_caller
    ) -> None:
        house = await make_gateway("http://upstream.invalid")
        alice, bob = make_caller(house), make_caller(house, "bob")
        first, second = await alice.create("secret"), await bob.create("secret")
        third = await alice.create("secret")
        await alice.http.delete(f"/v1/videos/{third}")

        def listed(*words: object) -> list[str]:
            said = operate("jobs", "list", *words)
            assert (said.status, "secret" in said.out) == (0, False)
            return [line.split()[0] for line in said.out.splitlines()[1:]]

        assert listed() == [third, second, first]
        assert listed("--limit", 2) == [third, second]
        assert listed("--caller", "alice") == [third, first]
        assert listed("--caller", "bob", "--state", "queued") == [second]
        assert listed("--caller", "nobody") == []

    async def test_show_tells_everything_but_the_prompt_unless_asked(
        self, operate: Operate, upstream, house: House, caller
    ) -> None:
        video, _ = await lost(house, caller, upstream)
        out = operate("jobs", "show", video).out
        for word in (video, "alice", "submission_outcome_unknown", "keeps a slot", "submitting"):
            assert word in out
        assert "sandbox:lost" not in out
        done = await caller.create("done")
        await caller.finished(done)
        shown = operate("jobs", "show", done).out
        assert re.search(r"^looks +.*100 % at \d+ s$", shown, re.MULTILINE)
        assert re.search(r"^content_gone +no$", shown, re.MULTILINE)
        assert not re.search(r"Look|True|False|\(\)", shown)
        assert "sandbox:lost" in operate("jobs", "show", video, "--prompt").out
        assert "there is no video" in refused(operate("jobs", "show", "video_0"))

    async def test_adopt_brings_a_lost_video_home(
        self, operate: Operate, upstream, house: House, caller
    ) -> None:
        video, upstream_id = await lost(house, caller, upstream)
        said = operate("jobs", "adopt", upstream_id, "--caller", "alice", "--of", video)
        new = said.out.strip()
        assert said == Said(0, f"{new}\n", "")
        told = await caller.finished(new)
        assert (told["status"], told["prompt"]) == ("completed", "sandbox:lost")
        assert (told["replaces"], told["replaced_by"]) == (video, None)
        assert (await caller.video(video))["replaced_by"] == new
        assert (await caller.content(new)).status_code == 200
        assert f"replaces        {video}" in operate("jobs", "show", new).out
        assert "it is completed" in refused(operate("jobs", "resubmit", video))
        line = refused(operate("jobs", "adopt", upstream_id, "--caller", "alice"))
        assert line.strip().endswith(f"is, or was, the task of {new}")
        assert submits_by_prompt(upstream.state.record) == {"sandbox:lost": 1}

    async def test_an_adopted_task_that_fails_in_passing_is_sent_anew_as_it_was_asked_for(
        self, operate: Operate, upstream, house: House, caller
    ) -> None:
        prompt, image = "sandbox:lost sandbox:overload", picture(size=(1280, 720))
        video = await caller.create(prompt, image=image)
        await caller.finished(video)
        assert operate("accounts", "pause", "default").status == 0
        (task,) = upstream.state.tasks
        new = operate("jobs", "adopt", task, "--caller", "alice", "--of", video).out.strip()
        await until(lambda: house.job(new).state == "queued")
        again, asked = house.job(new), house.job(video)
        assert (again.prompt, again.input_sha256) == (prompt, asked.input_sha256)
        assert again.input_type == "image/png"

    async def test_an_adopted_task_of_which_nobody_knows_what_it_is_is_not_sent_anew(
        self, operate: Operate, upstream, house: House, caller
    ) -> None:
        await caller.finished(await caller.create("sandbox:lost sandbox:overload"))
        (task,) = upstream.state.tasks
        new = operate("jobs", "adopt", task, "--caller", "alice").out.strip()
        assert (await caller.finished(new))["error"]["code"] == "overloaded"
        assert len(upstream.state.tasks) == 1

    async def test_an_adopted_task_takes_a_slot_over_the_count(
        self, operate: Operate, make_upstream, make_gateway, make_caller
    ) -> None:
        upstream = await make_upstream(generation=4000.0)
        house = await make_gateway(upstream.url, account={"concurrent": 1})
        caller = make_caller(house)
        running, waiting = await caller.create("runs"), await caller.create("waits")
        await until(lambda: house.job(running).state == "running")
        new = operate("jobs", "adopt", "video_theirs", "--caller", "alice").out.strip()
        await until(lambda: house.ledger.live.find(new))  # though nobody asks
        assert house.ledger.live.books["default"].slots_taken(house.gateway.clock.now()) == 2
        assert house.job(waiting).state == "queued"

    async def test_adopt_refuses_what_it_does_not_know(
        self, operate: Operate, make_gateway, make_caller
    ) -> None:
        house = await make_gateway("http://upstream.invalid")
        waiting = await make_caller(house).create()
        alice = ("--caller", "alice")
        adopt = ("jobs", "adopt")
        assert "no caller 'eve'" in refused(operate(*adopt, "video_1", "--caller", "eve"))
        assert "no account 'x'" in refused(operate(*adopt, "video_1", *alice, "--account", "x"))
        assert "no video video_0" in refused(operate(*adopt, "video_1", *alice, "--of", "video_0"))
        assert "has not failed" in refused(operate(*adopt, "video_1", *alice, "--of", waiting))
        assert "printable" in refused(operate(*adopt, "x" * 201, *alice))

    async def test_resubmit_sends_the_same_once_more(
        self, operate: Operate, upstream, house: House, caller
    ) -> None:
        video, _ = await lost(house, caller, upstream, image=picture(size=(1280, 720)))
        said = operate("jobs", "resubmit", video)
        new = said.out.strip()
        assert said == Said(0, f"{new}\n", "")
        assert "stands in for" in refused(operate("jobs", "resubmit", video))
        told = await caller.finished(new)  # its prompt orders the same fault
        assert (told["replaces"], told["prompt"]) == (video, "sandbox:lost")
        assert house.job(new).input_sha256 == house.job(video).input_sha256
        assert submits_by_prompt(upstream.state.record) == {"sandbox:lost": 2}
        third = operate("jobs", "resubmit", video).out.strip()  # the second one is over
        assert (await caller.video(video))["replaced_by"] == third

    async def test_resubmit_refuses_what_it_must_not_send(
        self, operate: Operate, upstream, house: House, caller
    ) -> None:
        done = await caller.create("a cat")
        await caller.finished(done)
        assert "is completed" in refused(operate("jobs", "resubmit", done))
        deleted, _ = await lost(house, caller, upstream)
        await caller.http.delete(f"/v1/videos/{deleted}")
        assert "has deleted it" in refused(operate("jobs", "resubmit", deleted))
        old, _ = await lost(house, caller, upstream, image=picture(size=(1280, 720)))
        images = house.folder / "inputs"
        await house.gateway._janitor.round()
        assert list(images.iterdir())
        house.gateway.clock._offset += 3.1 * DAY
        await house.gateway._janitor.round()
        assert not list(images.iterdir())
        assert "input image" in refused(operate("jobs", "resubmit", old))

    async def test_the_image_of_a_completed_video_is_freed(
        self, operate: Operate, house: House, caller
    ) -> None:
        video = await caller.create("a cat", image=picture(size=(1280, 720)))
        await until(lambda: house.job(video).state == "running")
        assert list((house.folder / "inputs").iterdir())  # it may have to be sent again
        await caller.finished(video)
        await until(lambda: not list((house.folder / "inputs").iterdir()))


class TestAccounts:
    async def test_a_paused_account_sends_nothing_until_it_is_resumed(
        self, operate: Operate, upstream, house: House, caller
    ) -> None:
        before = await caller.create("before")
        await until(lambda: house.job(before).state == "running")
        assert operate("accounts", "pause", "default").status == 0
        await until(lambda: house.account.paused)  # though nobody asks
        waiting = await caller.create("waiting")
        assert (await caller.finished(before))["status"] == "completed"  # it is paid for
        (ready,) = (await caller.http.get("/readyz")).json()["accounts"]
        assert (ready["paused"], ready["ok"]) == (True, True)
        assert "paused" in operate("accounts", "list").out
        await house.stop()
        await house.start()
        assert house.account.paused
        assert house.job(waiting).state == "queued"
        assert operate("accounts", "resume", "default").status == 0
        await until(lambda: house.job(waiting).state == "completed")
        assert submits_by_prompt(upstream.state.record) == {"before": 1, "waiting": 1}

    async def test_a_resumed_account_tries_at_once(
        self, operate: Operate, upstream, make_gateway, make_caller
    ) -> None:
        house = await make_gateway(upstream.url)
        video = await make_caller(house).create("sandbox:broke")
        await until(lambda: house.job(video).requeues == 1)
        (line,) = operate("accounts", "list").out.splitlines()[1:]
        assert "quota" in line
        assert re.search(r" (2[0-9]\d|300) s ", line)  # until it tries again by itself
        assert house.account.submits > house.gateway.clock.now() + 200
        house.gateway.clock._offset += 31  # the job's own pause is over, the account's is not
        assert operate("accounts", "resume", "default").status == 0
        await until(lambda: house.job(video).state == "completed")
        assert house.account.trouble is None

    async def test_an_account_that_is_none(self, operate: Operate, house: House) -> None:
        assert "no account 'x'" in refused(operate("accounts", "pause", "x"))

    async def test_an_account_that_left_the_settings(self, operate: Operate, house: House) -> None:
        await knows_an_account_that_left(house, "left")
        assert "not in the settings" in operate("accounts", "list").out
        for command in ("pause", "resume"):
            assert "no account 'left'; the settings have default" in refused(
                operate("accounts", command, "left")
            )

    async def test_an_account_that_was_never_served(self, operate: Operate) -> None:
        assert operate("keys", "create", "ada").status == 0
        (line,) = operate("accounts", "list").out.splitlines()[1:]
        assert line.split() == ["default", "not", "served", "yet"]
        assert "serve with it once" in refused(operate("accounts", "pause", "default"))


async def test_a_purge_of_nobody_is_refused(house: House, operate: Operate) -> None:
    assert "there is no caller 'nobody'" in refused(operate("purge", "--caller", "nobody"))


async def test_what_was_purged_is_not_counted_again(
    operate: Operate, upstream, house: House, caller
) -> None:
    video = await caller.create("a cat")
    await caller.finished(video)
    assert operate("purge", "--caller", "alice").out == "purged 1 video of alice\n"
    assert operate("purge", "--caller", "alice").out == "purged 0 videos of alice\n"


def test_a_backup_within_the_data_folder_is_refused(operate: Operate, house: House) -> None:
    target = house.folder / "videos" / "today"
    assert "is in the data folder itself" in refused(operate("backup", str(target)))
    assert not target.exists()


def test_half_a_backup_is_taken_away(
    operate: Operate, house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(_data: Path, target: Path, folder: str) -> None:
        if folder == "videos":
            raise OSError(errno.ENOSPC, "No space left on device", str(target / folder))

    monkeypatch.setattr(sys.modules["gateway.cli.backup"], "copy_content", full)
    target = tmp_path / "backups" / "today"
    assert "No space left on device" in refused(operate("backup", str(target)))
    assert not target.exists()
