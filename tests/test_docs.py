"""What the documentation says is what the code does."""

import re
from pathlib import Path

from gateway.job import TRANSITIONS

ROOT = Path(__file__).parent.parent
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]


def test_the_states_of_the_page_are_those_of_the_code() -> None:
    rows = {
        f"| {state} | {following} | {when} |"
        for state, leads in TRANSITIONS.items()
        for following, when in leads.items()
    }
    states = "|".join(TRANSITIONS)
    told = re.findall(rf"^\| (?:{states}) \| (?:{states}) \| .* \|$", ARCHITECTURE, re.MULTILINE)
    assert set(told) == rows


def test_every_module_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`([a-z_]+/[a-z_]+\.py)`", ARCHITECTURE))
    assert named
    assert [name for name in sorted(named) if not (ROOT / "gateway" / name).exists()
            and not (ROOT / name).exists()] == []  # fmt: skip


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []
