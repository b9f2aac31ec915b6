"""The commands of a page of documentation, and how they are run."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lab import CHECKOUT
from lab.lab import Lab
from tests.lab_command import PATH, forked_commands

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
# A busy machine may make a run's verdict unknown, which has its own status. What make does, it does to the
# checkout, and for minutes: such a block says why it is not run.
_PREAMBLE = """
set -euo pipefail
lab() { local status=0; command lab "$@" || status=$?
  case "$1 $status" in "load 2"|"check 2") return 0;; *) return $status;; esac; }
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
    home = lab.folder.parent.parent
    script = _PREAMBLE + "".join(
        f'echo "== {page.name}:{block.line}" >&2\n{block.text}' for block in blocks_of(page) if not block.why_not
    )
    environment = {
        "PATH": f"{forked_commands()}:{BIN}:{PATH}",
        "LAB_NAME": lab.name,
        "LAB_HOME": str(home),
        "LAB_RUNTIME": "process",
    }
    result = subprocess.run(
        ["bash", "-c", script],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    assert result.returncode == 0, f"{page}\n{result.stdout}\n{result.stderr}"
