"""The catalogue of planted bugs: one TOML file a class in ``catalogue/``, which says first how the class is closed."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOME = Path(__file__).parent
CHECKOUT = HOME.parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One planted bug.

    Attributes:
        name: what goes wrong, in a few words.
        kind: its class, which is the name of its file.
        file: that it changes, relative to the checkout.
        find: text that stands there exactly once.
        replace: text in its place.
        topology: in which it shows.
        drill: the drill that meets it, a name in ``tests.mutants.drill.DRILLS``.
        shows: the claim that it breaks, ``correctness``, ``availability`` or ``timing``.
        leaves_unknown: checker that the bug leaves without evidence, of a bug that no checker can object to.
        stops: what a command of the lab with the bug says when the bug makes it fail; empty if all succeed.
    """

    name: str
    kind: str
    file: str
    find: str
    replace: str
    topology: str = "mesh"
    drill: str = "publish"
    shows: str = "correctness"
    leaves_unknown: str = ""
    stops: str = ""

    def mutated(self, checkout: Path) -> str:
        """Returns the file's text with the bug.

        Raises:
            ValueError: the text to replace does not stand there exactly once.
        """
        text = (checkout / self.file).read_text()
        if (times := text.count(self.find)) != 1:
            raise ValueError(f"{self.kind}: {self.name}: {self.file} has the text {times} times, not once")
        return text.replace(self.find, self.replace)


def catalogue() -> list[Mutant]:
    """Returns all planted bugs, by class."""
    return [Mutant(kind=kind, **each) for kind, its in _classes().items() for each in its["mutant"]]


def closed() -> dict[str, str]:
    """Returns class → how the checkers notice any bug of it."""
    return {kind: its["closed"] for kind, its in _classes().items()}


def _classes() -> dict[str, Any]:
    return {file.stem: tomllib.loads(file.read_text()) for file in sorted((HOME / "catalogue").glob("*.toml"))}
