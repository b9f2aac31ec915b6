"""The commands of a page of documentation, and how they are run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import CHECKOUT
from lab.lab import Lab
from tests.lab_command import PATH, forked_commands
from tests.missing import missing

BIN = Path(sys.executable).parent
PAGES = sorted(
    path
    for path in [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *(CHECKOUT / "docs").rglob("*.md")]
    if "_build" not in path.parts
)
_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<language>sh|bash|shell|console)\b.*?\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
# A busy machine may make a run's verdict unknown, which has its own status.
_PREAMBLE = """
set -euo pipefail
lab() { local status=0; command lab "$@" || status=$?
  case "$1 $status" in "load 2"|"check 2") return 0;; *) return $status;; esac; }
"""
# What make does, it does to the checkout, and for minutes: such a block says why it is not run.
_NO_MAKE = """
make() { echo "make is not run here: put <!-- not run: reason --> above the block" >&2; return 1; }
"""


@dataclass(frozen=True, slots=True)
class Block:
    """One block of commands.

    Attributes:
        line: of the page, 1-based.
        why_not: the reason that the page gives for not running it; empty if it is run.
    """

    line: int
    language: str
    text: str
    why_not: str


def blocks_of(page: Path) -> list[Block]:
    """All blocks of commands of a page, in order."""
    text = page.read_text()
    return [
        Block(text.count("\n", 0, found.start("text")), found["language"], found["text"], found["reason"] or "")
        for found in _BLOCK.finditer(text)
    ]


def section_of(page: Path, anchor: str) -> list[Block]:
    """The blocks of commands below one heading of a page, up to the next of its level or a higher one."""
    lines, place, level = page.read_text().splitlines(), 0, 0
    is_code = False
    for number, line in enumerate(lines, 1):
        is_code ^= line.startswith("```")
        heading = "" if is_code else line.partition(" ")[0]
        if not heading or heading.strip("#"):
            continue
        if place and len(heading) <= level:
            return [each for each in blocks_of(page) if place < each.line < number]
        if not place and anchor_of(line) == anchor:
            place, level = number, len(heading)
    assert place, f"{page}: has no heading #{anchor}"
    return [each for each in blocks_of(page) if place < each.line]


def anchor_of(heading: str) -> str:
    """The anchor that a line ``## Heading`` gets."""
    return re.sub(r"[^\w -]", "", heading.lstrip("#").strip().lower()).replace(" ", "-")


def like_the_checkout(folder: Path, lab_name: str) -> None:
    """Makes an empty folder look like the checkout, but for what labs write: state and runs of its own.

    Pages speak of ``runs/default``; here that is the lab of this name.
    """
    for entry in CHECKOUT.iterdir():
        if entry.name not in {"runs", ".lab"}:
            (folder / entry.name).symlink_to(entry)
    (folder / "runs" / lab_name).mkdir(parents=True)
    (folder / "runs" / "default").symlink_to(folder / "runs" / lab_name)


def run_page(page: Path, lab: Lab, timeout_s: float) -> None:
    """Runs a page's commands in order, in one shell, where the lab has its home.

    Args:
        page: the page.
        lab: which lab the commands are about.
        timeout_s: for all together.
    """
    run = [block for block in blocks_of(page) if not block.why_not]
    run_blocks(page, run, lab, lab.folder.parent.parent, _NO_MAKE, timeout_s=timeout_s)


def run_blocks(page: Path, blocks: Sequence[Block], lab: Lab, folder: Path, before: str, *, timeout_s: float) -> str:
    """Runs blocks of a page in order, in one shell in this folder, after other commands; returns what they printed."""
    for tool in ("curl", "jq"):
        if not shutil.which(tool) and any(re.search(rf"\b{tool} ", block.text) for block in blocks):
            missing(f"there is no {tool}; on Debian, `.ci/setup {tool}` installs it")
    script = f"{_PREAMBLE}{before}" + "".join(
        f'echo "== {page.name}:{block.line}" >&2\n{block.text}' for block in blocks
    )
    environment = {
        "PATH": f"{forked_commands()}:{BIN}:{PATH}",
        "LAB_NAME": lab.name,
        "LAB_HOME": str(lab.folder.parent.parent),
        "LAB_RUNTIME": "process",
    }
    result = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    assert result.returncode == 0, f"{page}\n{result.stdout}\n{result.stderr}"
    return result.stdout
