"""The reference pages are what the code gives, and the example of the settings is whole."""

import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic.fields import FieldInfo

from gateway.config import Settings, load_settings

ROOT = Path(__file__).parent.parent
PAGES: dict[str, str] = runpy.run_path(str(ROOT / "docs" / "make.py"))["pages"]()
HOW_TO = sorted((ROOT / "docs" / "how-to").glob("*.md"))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_gives(name: str) -> None:
    written = (ROOT / "docs" / "reference" / name).read_text()
    assert written == PAGES[name], "run `python docs/make.py`"


def test_no_page_is_left_that_nothing_makes() -> None:
    assert {path.name for path in (ROOT / "docs" / "reference").iterdir()} == PAGES.keys()


def test_the_command_tells_what_is_out_of_date() -> None:
    command = [sys.executable, "docs/make.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def options() -> dict[str, dict[str, FieldInfo]]:
    """The options of each section."""
    found = {}
    for section, field in Settings.model_fields.items():
        kind: Any = field.annotation
        model = get_args(kind)[0] if section == "accounts" else kind
        found[section] = model.model_fields
    return found


def test_every_option_has_a_description() -> None:
    bare = [
        f"{section}.{name}"
        for section, fields in options().items()
        for name, option in fields.items()
        if not option.description
    ]
    assert bare == []


def test_the_example_holds_every_option_with_its_default() -> None:
    text = (ROOT / "config.toml").read_text()
    example = tomllib.loads(text)
    example["accounts"] = example["accounts"][0]
    for section, fields in options().items():
        defaults = {
            name: str(value) if isinstance(value, Path) else value
            for name, option in fields.items()
            for value in [option.get_default(call_default_factory=True)]
        }
        if section == "accounts":  # the one that takes the place of another
            assert "api_key_file" in text
            del defaults["api_key_file"]
        assert example[section] == defaults
    assert example.keys() == options().keys()


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
def test_settings_in_a_page_are_settings(
    page: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = tmp_path / "authority.pem"
    authority.touch()
    (tmp_path / "config.toml").write_text(text.replace("/etc/ssl/authority.pem", str(authority)))
    load_settings(tmp_path / "config.toml")


def test_every_how_to_page_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    pages = [*HOW_TO, *(ROOT / "docs" / "reference").iterdir()]
    assert [page.name for page in pages if f"{page.parent.name}/{page.name})" not in readme] == []
