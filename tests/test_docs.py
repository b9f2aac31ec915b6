"""Docs are run: every command of every page does what it says, in order."""

import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import CHECKOUT
from lab.lab import Lab
from lab.topologies import TOPOLOGIES
from tests.docs_pages import PAGES, blocks_of, like_the_checkout, run_page

# These bring labs up and down themselves.
WITH_A_LAB_OF_THEIR_OWN = {"quickstart.md"}
WITH_COMMANDS = [page for page in PAGES if any(not block.why_not for block in blocks_of(page))]

a_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The default lab, in a folder that looks like the checkout."""
    home, name = tmp_path_factory.mktemp("docs"), f"docs-{secrets.token_hex(3)}"
    like_the_checkout(home, name)
    lab = Lab(name, home=home)
    try:
        lab.up(runtime="process")
        yield lab
    finally:
        take_down(home)


@pytest.fixture
def lab_that_is_down(tmp_path: Path) -> Iterator[Lab]:
    """Nothing is up, and nothing is afterwards."""
    lab = Lab(f"docs-{secrets.token_hex(3)}", home=tmp_path)
    like_the_checkout(tmp_path, lab.name)
    yield lab
    take_down(tmp_path)


def take_down(home: Path) -> None:
    """Takes down every lab that a page has brought up."""
    for folder in [each for each in (home / ".lab").glob("*") if each.is_dir()]:
        Lab(folder.name, home=home).down()


@pytest.mark.timeout(420)
@pytest.mark.parametrize(
    "page", [page for page in WITH_COMMANDS if page.name not in WITH_A_LAB_OF_THEIR_OWN], ids=lambda page: page.name
)
def test_every_command_of_a_page_succeeds_in_order(page: Path, lab: Lab) -> None:
    run_page(page, lab, timeout_s=400)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "page", [page for page in WITH_COMMANDS if page.name in WITH_A_LAB_OF_THEIR_OWN], ids=lambda page: page.name
)
def test_every_command_of_a_page_succeeds_from_nothing_to_nothing(page: Path, lab_that_is_down: Lab) -> None:
    run_page(page, lab_that_is_down, timeout_s=160)

    assert [each.name for each in lab_that_is_down.folder.parent.glob("*") if each.is_dir()] == []


@a_page
def test_every_block_of_commands_is_run_or_gives_a_reason(page: Path) -> None:
    for block in blocks_of(page):
        assert block.language == "sh", f"{page}:{block.line}: write ```sh, so that the suite runs it"
        assert not block.why_not or len(block.why_not.split()) > 2, f"{page}:{block.line}: give a reason"


@a_page
def test_commands_quote_their_variables(page: Path) -> None:
    for block in blocks_of(page):
        where = f"{page}:{block.line}"
        assert not _VARIABLE.search(_QUOTED.sub("", block.text)), f'{where}: write "$NAME": a value may have blanks'


@a_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link


_QUOTED = re.compile(r"""'[^']*'|"[^"]*"|#.*""")
_VARIABLE = re.compile(r"\$[^?]")  # a status is a number


@pytest.mark.timeout(120)
def test_make_brings_a_lab_up_and_down(tmp_path: Path) -> None:
    name = f"make-{secrets.token_hex(3)}"
    environment = {"PATH": "/usr/bin:/bin", "LAB_HOME": str(tmp_path)}

    def make(target: str) -> str:
        command = ["make", target, f"NAME={name}", "RUNTIME=process"]
        return subprocess.run(
            command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    try:
        text = make("lab-up")
        for topology in TOPOLOGIES.values():
            assert (f"✓ {topology.name} " in text) is topology.in_default_lab
        assert "Try next" in text
    finally:
        make("lab-down")
    assert not (tmp_path / ".lab" / name).exists()


@a_page
def test_make_targets_of_a_page_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    commands = re.findall(r"(?:`|^)make ([a-z0-9][a-z0-9-]*)", page.read_text(), re.MULTILINE)

    assert [command for command in commands if command not in targets] == []


def test_a_stranger_reads_the_readme_once() -> None:
    assert len((CHECKOUT / "README.md").read_text().splitlines()) <= 150


def test_help_lists_every_target_with_a_line() -> None:
    text = subprocess.run(["make", "help"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    targets = re.search(r"^\.PHONY: (.*)$", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)

    assert targets is not None
    for target in targets[1].split():
        assert re.search(rf"{target}\S*\s+\S", text), target
