"""Ten tasks of a new user: the commands of one section of a page do each, as printed, from an empty folder."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import CHECKOUT
from lab.lab import Lab
from tests.docs_pages import BIN, run_blocks, section_of

DOCS = CHECKOUT / "docs"
TASKS = re.findall(r"^\| (.+?) \| \[.+?\]\(([\w/-]+)\.md#([\w-]+)\) \|$", (DOCS / "index.md").read_text(), re.MULTILINE)
"""Each task in words, with its page and the anchor of its section."""

DONE = {
    "roll-out-a-version": ("rows is at v2",),
    "add-a-use-case": ("KidsRow over mesh", "cw-ranker.v1", "0 wrong|: [0-9]+ right\n", "valid by"),
    "a-slow-replica": (
        "reaches requests of 2 of 5 callers: homepage, recommendations",
        "healed slow-1",
        "it answered [0-9,]+ of [0-9,]+ requests of homepage .*none of search",
    ),
    "why-a-request-got-its-version": ("version +v2", "✓ tv-north-america: ", "→ cw-ranker@v2"),
    "what-the-limits-do": ("limits +valid +ads: [0-9]+ admitted, [1-9][0-9]* refused",),
    "several-payload-sizes": ("/sizes.html\n", "<h1>Gateway .*(27 KB.* 4 MB|4 MB.* 27 KB)"),
    "outside-the-checkout": ("[1-9] passed",),
    "rest": ('"version": ?"v2"', '"replica": ?"ml-cluster-2-a"'),
    "ci-in-a-fork": ("[1-9] passed", "Let batch send"),
    "how-to-read-a-report": ("valid by", "valid by", "/report.html\n", "<h1>Mesh p50 "),
}
"""What the commands then have printed in this order, as patterns, by the section's anchor."""

# Packages are installed here, so make need not install them again; the code is the fork's.
_FORK = """
git clone --quiet --bare {checkout} fork.git; FORK=$PWD/fork.git
export HOME=$PWD; git config --global user.name you; git config --global user.email you@example.org
make() {{ PYTHONPATH=$PWD command make -o {venv}/ready -o {venv}/with-dev VENV={venv} "$@"; }}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The default lab, whose runs are in ``runs/default`` of its home, too."""
    home = tmp_path_factory.mktemp("tasks")
    lab = Lab(f"tasks-{secrets.token_hex(3)}", home=home)
    (home / "runs" / lab.name).mkdir(parents=True)
    (home / "runs" / "default").symlink_to(lab.name)
    try:
        lab.up(runtime="process")
        yield lab
    finally:
        lab.down()


@pytest.fixture
def before(lab: Lab, request: pytest.FixtureRequest) -> Iterator[str]:
    """What the shell needs first. Afterwards the lab's table is the first one again, and nothing is injected."""
    yield _FORK.format(checkout=CHECKOUT, venv=BIN.parent) if request.node.callspec.id == "ci-in-a-fork" else ""
    assert lab.faults.active() == []
    if len(lab.routes.history()) > 1:
        lab.routes.rollback(1)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("page", "anchor"), [each[1:] for each in TASKS], ids=[each[2] for each in TASKS])
def test_the_commands_of_one_section_do_the_task(page: str, anchor: str, lab: Lab, before: str, tmp_path: Path) -> None:
    file = CHECKOUT / "CONTRIBUTING.md" if page == "contributing" else DOCS / f"{page}.md"
    blocks = [each for each in section_of(file, anchor) if not each.why_not or "test_tasks" in each.why_not]

    printed = run_blocks(file, blocks, lab, tmp_path, before, timeout_s=160)
    for report in re.findall(r"^/.+\.html$", printed, re.MULTILINE):
        printed += Path(report).read_text().partition('<header class="top">')[2].partition("</header>")[0]

    assert re.search("(?s:.*)".join(DONE[anchor]), printed), printed


def test_there_are_ten_tasks() -> None:
    assert [anchor for *_, anchor in TASKS] == list(DONE)
    assert len(TASKS) == 10
