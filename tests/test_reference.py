"""The reference pages are what the code gives, and snippets of the how-to pages are in order."""

import os
import runpy
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from gateway.config import Settings
from gateway.load import load_settings

ROOT = Path(__file__).parent.parent
MAKE = runpy.run_path(str(ROOT / "docs" / "make.py"))
PAGES: dict[str, str] = MAKE["pages"]()
HOW_TO = sorted((ROOT / "docs" / "how-to").glob("*.md"))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_gives(name: str) -> None:
    written = (ROOT / "docs" / "reference" / name).read_text()
    assert written == PAGES[name], "run `python docs/make.py`"


def test_the_pictures_are_what_the_code_draws() -> None:
    """The same each time, and a drawing that any reader of XML reads."""
    drawn: dict[str, str] = MAKE["pictures"]()
    assert drawn == MAKE["pictures"]()
    for name, text in drawn.items():
        assert (ROOT / "docs" / name).read_text() == text, "run `python docs/make.py`"
        curves = ElementTree.fromstring(text).findall("{*}path[@fill='none']")
        assert len(curves) == 6
        assert "nan" not in text


def test_no_page_is_left_that_nothing_makes() -> None:
    written = (ROOT / "docs" / "reference").iterdir()
    made = {path.name for path in written if "docs/make.py" in path.read_text()}
    assert made == PAGES.keys()


def test_the_command_tells_what_is_out_of_date() -> None:
    command = [sys.executable, "docs/make.py", "--check"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}  # this checkout, whatever is installed
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_list_may_be_given_as_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEO_GATEWAY_REQUESTS__SECONDS", "[10,15]")
    assert load_settings(ROOT / "config.toml").requests.seconds == [10, 15]


def snippets(language: str) -> list[tuple[str, str]]:
    """Each snippet of a language in the how-to pages, with its page."""
    found = []
    for page in HOW_TO:
        for block in page.read_text().split("```")[1::2]:
            name, _, text = block.partition("\n")
            if name == language:
                found.append((page.name, text))
    return found


@pytest.mark.parametrize(("page", "text"), snippets("yaml"))
def test_yaml_can_be_read(page: str, text: str) -> None:
    documents = list(yaml.safe_load_all(text))
    assert documents
    assert all(isinstance(document, dict) for document in documents)


@pytest.mark.parametrize(("page", "text"), snippets("toml"))
def test_settings_in_a_page_are_settings(page: str, text: str, tmp_path: Path) -> None:
    authority = tmp_path / "authority.pem"
    authority.touch()
    (tmp_path / "config.toml").write_text(text.replace("/etc/ssl/authority.pem", str(authority)))
    load_settings(tmp_path / "config.toml")


def test_the_rehearsals_seconds_are_a_tenth(tmp_path: Path) -> None:
    (text,) = [text for page, text in snippets("sh") if page == "rehearse.md" and "<<" in text]
    path = tmp_path / "rehearsal.toml"
    path.write_text(text.split("<<'END'\n")[1].split("END\n")[0])
    rehearsal, real = load_settings(path), Settings()
    tenth = {name: seconds / 10 for name, seconds in real.polling.model_dump().items()}
    assert rehearsal.polling.model_dump() == tenth
    assert rehearsal.accounts[0].period == real.accounts[0].period / 10


def test_every_page_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    pages = [*HOW_TO, *(ROOT / "docs" / "reference").iterdir()]
    assert [page.name for page in pages if f"{page.parent.name}/{page.name})" not in readme] == []
