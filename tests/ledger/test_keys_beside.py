"""Keys made and revoked by another process, the command line, beside a running server."""

import subprocess
import sys
from dataclasses import astuple
from pathlib import Path

import pytest

import gateway
from gateway.errors import StateConflict
from gateway.keys import digest, is_key, new_key
from gateway.ledger.callers import add_key, revoke_keys
from gateway.ledger.ledger import Ledger, all_keys, commit_beside

from .bench import WALL, accepted, query
from .conftest import MakeLedger


def keys_command(folder: Path, *arguments: str) -> str:
    """Run `keys` as an administrator would; what it prints."""
    config = folder / "config.toml"
    config.write_text(f'[server]\ndata_dir = "{folder}"\n')
    command = [sys.executable, "-m", "gateway", "keys", *arguments, "--config", str(config)]
    home = Path(gateway.__file__).parent.parent
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=home)
    return done.stdout.strip()


async def test_a_key_of_another_process_is_seen_before_the_next_answer(
    ledger: Ledger, tmp_path: Path
) -> None:
    assert ledger.key("ab" * 32) is None
    key = keys_command(tmp_path, "create", "bob")
    assert is_key(key)
    found = ledger.key(digest(key))
    assert found is not None
    assert (found.caller.name, found.revoked_at) == ("bob", None)

    keys_command(tmp_path, "revoke", "bob")
    revoked = ledger.key(digest(key))
    assert revoked is not None
    assert revoked.revoked_at is not None


async def test_one_key_of_several_is_revoked_by_its_id(ledger: Ledger, tmp_path: Path) -> None:
    for number in (1, 2):
        commit_beside(tmp_path, add_key("bob", f"key_{number}", str(number) * 64, WALL), WALL)
    commit_beside(tmp_path, revoke_keys("key_1", WALL + 1), WALL + 1)
    one, two = ledger.key("1" * 64), ledger.key("2" * 64)
    assert one is not None
    assert two is not None
    assert (one.revoked_at, two.revoked_at) == (WALL + 1, None)


async def test_revoking_what_is_not_there_or_is_revoked_changes_nothing(
    ledger: Ledger, tmp_path: Path
) -> None:
    await ledger.commit(add_key("bob", "key_1", "1" * 64, WALL))
    assert commit_beside(tmp_path, revoke_keys("nobody", WALL), WALL).keys == ()
    assert len(commit_beside(tmp_path, revoke_keys("bob", WALL + 1), WALL).keys) == 1
    assert commit_beside(tmp_path, revoke_keys("bob", WALL + 2), WALL).keys == ()
    key = ledger.key("1" * 64)
    assert key is not None
    assert key.revoked_at == WALL + 1


async def test_keys_of_this_and_of_other_processes_do_not_hide_each_other(
    ledger: Ledger, tmp_path: Path
) -> None:
    for number in range(5):
        await ledger.commit(add_key("bob", f"own_{number}", f"{number}" * 64, WALL))
        commit_beside(tmp_path, add_key("eve", f"other_{number}", f"{number}a" * 32, WALL), WALL)
        await accepted(ledger, number)
        for seen in range(number + 1):
            assert ledger.key(f"{seen}" * 64) is not None
            assert ledger.key(f"{seen}a" * 32) is not None


async def test_a_caller_is_made_once_whoever_makes_it(ledger: Ledger, tmp_path: Path) -> None:
    await ledger.commit(add_key("bob", "key_1", "1" * 64, WALL))
    commit_beside(tmp_path, add_key("bob", "key_2", "2" * 64, WALL), WALL)
    rows = query(tmp_path, "SELECT id, name FROM callers ORDER BY name")
    assert rows == [("caller_alice", "alice"), ("caller_bob", "bob")]


async def test_one_digest_is_one_key(ledger: Ledger) -> None:
    await ledger.commit(add_key("bob", "key_1", "1" * 64, WALL))
    with pytest.raises(StateConflict, match=r"keys\.digest"):
        await ledger.commit(add_key("eve", "key_2", "1" * 64, WALL))
    key = ledger.key("1" * 64)
    assert key is not None
    assert key.caller.name == "bob"


async def test_keys_are_listed_oldest_first(open_ledger: MakeLedger, tmp_path: Path) -> None:
    ledger = await open_ledger()
    for number, at in ((1, WALL + 9), (2, WALL), (3, WALL + 4)):
        await ledger.commit(add_key("bob", f"key_{number}", f"{number}" * 64, at))
    assert [key.id for key in all_keys(tmp_path)] == ["key_2", "key_3", "key_1"]


def files_with(folder: Path, text: str) -> list[Path]:
    return [path for path in folder.iterdir() if text.encode() in path.read_bytes()]


async def test_a_key_itself_is_kept_nowhere(ledger: Ledger, tmp_path: Path) -> None:
    key = new_key()
    await ledger.commit(add_key("bob", "key_1", digest(key), WALL))
    found = ledger.key(digest(key))
    assert found is not None
    assert key not in repr((found, astuple(found), ledger.live.__dict__))
    await ledger.close()
    assert not files_with(tmp_path, key)
