"""The commit whose figures are accepted, what was accepted although it is slower, and the history of comparisons.

``docs/accepted-figures.json`` names the commit; ``.ci/run`` and the nightly compare with it. To move it over a figure
that is slower takes a decision that names the figure and a commit since the one accepted before.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import CHECKOUT
from lab.errors import InputError
from lab.plugins.bench.since.checkout import git
from lab.plugins.bench.since.figures import FIGURES
from lab.reading import read_text

if TYPE_CHECKING:
    from lab.plugins.bench.since.rounds import Result

ACCEPTED = CHECKOUT / "docs" / "accepted-figures.json"
HISTORY = CHECKOUT / "docs" / "figures-since.jsonl"

_COMMIT = re.compile(r"\b[0-9a-f]{7,40}\b")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The commit, and each figure that was accepted although it was slower, with its ratio and its decision."""

    commit: str
    slower: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path = ACCEPTED) -> Accepted:
        """Reads the file.

        Raises:
            InputError: it is not there, or has no commit.
        """
        try:
            return cls(**json.loads(file.read_text()))
        except (OSError, ValueError, TypeError):
            raise InputError(
                f'{file}: no accepted commit; write e.g. {{"commit": "1a2b3c4d…", "slower": []}}'
            ) from None


@dataclass(frozen=True, slots=True)
class Decision:
    """The page that says why a figure may be slower."""

    name: str
    text: str

    @classmethod
    def read(cls, file: Path) -> Decision:
        """Reads the page.

        Raises:
            InputError: it cannot be read.
        """
        try:
            return cls(file.name, read_text(file))
        except (OSError, ValueError) as error:
            raise InputError(f"--decision: {file} cannot be read: {error}") from None

    def explains(self, result: Result) -> None:
        """Checks that it names each figure that is slower, and a commit since the old one.

        Raises:
            InputError: it does not.
        """
        if unnamed := [name for name in result.slower() if name not in self.text]:
            raise InputError(f"{self.name}: does not name {', '.join(unnamed)}, slower than at {result.old[:12]}")
        since = git("rev-list", f"{result.old}..{result.new}").splitlines()
        if not any(commit.startswith(each) for each in _COMMIT.findall(self.text) for commit in since):
            raise InputError(f"{self.name}: names no commit since {result.old[:12]}; name the one that made it slower")


def accept(result: Result, decision: Decision | None, file: Path = ACCEPTED) -> None:
    """Moves the accepted commit to the one that was measured.

    Raises:
        InputError: it has uncommitted changes, figures were not compared, or one is slower and no decision explains it.
    """
    require_clean(result.new)
    if left_out := [name for name in FIGURES if not result.rounds.get(name) and name not in result.absent]:
        raise InputError(f"{left_out[0]} was not measured: accepting takes every figure, without --short and --figures")
    entries = []
    if slower := result.slower():
        if decision is None:
            names = ", ".join(slower)
            raise InputError(
                f"{names}: slower than at {result.old[:12]}; accepting takes --decision FILE, which says why"
            )
        decision.explains(result)
        entries = [
            {"figure": name, "ratio": round(result.ratio(name), 3), "decision": decision.name} for name in slower
        ]
    before = Accepted.read(file).slower if file.exists() else []
    file.write_text(json.dumps({"commit": result.new, "slower": [*before, *entries]}, indent=1) + "\n")


def require_clean(commit: str) -> None:
    """Raises InputError if a commit, as ``here`` has it, has uncommitted changes."""
    if "changed" in commit:
        raise InputError(f"{commit}: commit the changes first, then measure")


def keep(result: Result, file: Path = HISTORY) -> None:
    """Appends a comparison to the history, without its rounds."""
    document = {name: value for name, value in result.to_document().items() if name != "rounds"}
    with file.open("a") as lines:
        lines.write(json.dumps(document) + "\n")
