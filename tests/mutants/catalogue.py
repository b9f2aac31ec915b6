"""The catalogue of planted bugs: one TOML file a class in ``catalogue/``, which says first how the class is closed."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOME = Path(__file__).parent
CHECKOUT = HOME.parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One change of a file.

    Attributes:
        file: relative to the checkout.
        find: text that stands there exactly once.
        replace: text in its place.
    """

    file: str
    find: str
    replace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One planted bug.

    Attributes:
        name: what goes wrong, in a few words.
        kind: its class, which is the name of its file.
        file: that it changes, with ``find`` and ``replace`` as of :class:`Edit`; empty if ``edits`` has all.
        edits: further changes.
        topology: in which it shows.
        drill: the drill that meets it, a name in ``tests.mutants.drill.DRILLS``.
        shows: the claim that it breaks, ``correctness``, ``availability`` or ``timing``.
        leaves_unknown: checker that the bug leaves without evidence, of a bug that no checker can object to.
        stops: what a command of the lab with the bug says when the bug makes it fail; empty if all succeed.
    """

    name: str
    kind: str
    file: str = ""
    find: str = ""
    replace: str = ""
    edits: tuple[Edit, ...] = ()
    topology: str = "mesh"
    drill: str = "publish"
    shows: str = "correctness"
    leaves_unknown: str = ""
    stops: str = ""

    @property
    def all_edits(self) -> tuple[Edit, ...]:
        """Every change."""
        first = (Edit(file=self.file, find=self.find, replace=self.replace),) if self.file else ()
        return (*first, *self.edits)

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that it changes, once."""
        return tuple(dict.fromkeys(each.file for each in self.all_edits))

    def mutated(self, checkout: Path) -> dict[str, str]:
        """Returns the text of each changed file with the bug.

        Raises:
            ValueError: the text to replace does not stand there exactly once.
        """
        return {file: text for file, (text, _) in self.planted(checkout).items()}

    def planted(self, checkout: Path) -> dict[str, tuple[str, list[int]]]:
        """Returns the same, and where in each text the changes begin.

        Raises:
            ValueError: the text to replace does not stand there exactly once.
        """
        texts: dict[str, tuple[str, list[int]]] = {}
        for edit in self.all_edits:
            text, places = texts.get(edit.file) or ((checkout / edit.file).read_text(), [])
            if (times := text.count(edit.find)) != 1:
                raise ValueError(f"{self.kind}: {self.name}: {edit.file} has the text {times} times, not once")
            at = text.index(edit.find)
            longer = len(edit.replace) - len(edit.find)
            moved = [place + longer if place > at else place for place in places]
            changed = at + _same(edit.find, edit.replace)
            texts[edit.file] = text.replace(edit.find, edit.replace), [*moved, changed]
        return texts


def _same(one: str, other: str) -> int:
    """How many characters two texts begin with alike, up to the end of the last whole line of these."""
    alike = next((number for number, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), 0)
    return one[:alike].rfind("\n") + 1 if "\n" in one[:alike] else 0


def catalogue() -> list[Mutant]:
    """Returns all planted bugs, by class."""
    return [
        Mutant(kind=kind, **{**each, "edits": tuple(Edit(**edit) for edit in each.get("edits", ()))})
        for kind, its in _classes().items()
        for each in its["mutant"]
    ]


def closed() -> dict[str, str]:
    """Returns class → how the checkers notice any bug of it."""
    return {kind: its["closed"] for kind, its in _classes().items()}


def _classes() -> dict[str, Any]:
    return {file.stem: tomllib.loads(file.read_text()) for file in sorted((HOME / "catalogue").glob("*.toml"))}
