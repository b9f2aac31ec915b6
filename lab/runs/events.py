"""What was done to a lab while a run was under way: to its units, and by faults; and how it was undone.

Hands and faults write down each act in the lab's folder, ``acts.jsonl``, one JSON object a line. When a run is over,
those that fell into it are copied to its folder as ``marks.json``, and those from before that had not been undone when
it began. Steps of a scenario stand beside them, and are over as acts are undone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from lab.errors import RunError
from lab.measure.blast_radius import Fault
from lab.runs.folder import read_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

STEADY_NS = 2_000_000_000
"""Before a fault, this is taken for how things are when all is well, if nothing else was done meanwhile."""

MARKS, ACTS = "marks.json", "acts.jsonl"

STEP, STEP_OVER = "step", "step-over"
"""A scenario's step begins, and ends; it does nothing to the lab by itself."""

FAULTS = ("slow", "error", "flood", "bad-push", "cold", "churn")
"""Faults that do not consist of acts on units, and so are acts themselves."""

HEAL = {fault: f"heal {fault}" for fault in FAULTS}
"""Fault → the act that ends it."""

PAST = {
    "kill": "killed",
    "start": "started",
    "pause": "paused",
    "resume": "resumed",
    "partition": "cut off",
    "rejoin": "connected again",
    "scale": "scaled",
    "replace": "replaced",
    "slow": "slow",
    "error": "fails requests",
    "flood": "floods",
    "bad-push": "pushed badly",
    "cold": "cold",
    "churn": "closes connections",
    **dict.fromkeys(HEAL.values(), "healed"),
    **dict.fromkeys([STEP, STEP_OVER], ""),  # a step's words stand beside its number
}
"""Kind of an act → what has been done to its target, in words."""

KINDS = tuple(PAST)

UNDONE_BY = {"kill": "start", "pause": "resume", "partition": "rejoin", **HEAL, STEP: STEP_OVER}
"""Act → the one that undoes it, on the same unit. Others change the lab for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Something done to a unit.

    Attributes:
        kind: one of :data:`KINDS`.
        target: unit, or what else it was aimed at: the cluster that was scaled; of a step, its number.
        detail: what more there is to say: ``to 3 replicas``.
        from_ns: when it was begun, Unix nanoseconds.
        until_ns: when it was done.
    """

    kind: str
    target: str
    from_ns: int
    until_ns: int
    detail: str = ""


def write_act(lab: Path, act: Act) -> None:
    """Writes down one act in a lab's folder; in one piece, as other hands may write meanwhile."""
    with (lab / ACTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(act)) + "\n")


def keep_marks(folder: Path, lab: Path, *, from_ns: int) -> None:
    """Leaves in a run's folder what was done to the lab since ``from_ns``, and what had not been undone by then."""
    (folder / MARKS).write_text(json.dumps([asdict(act) for act in of_run(read_acts(lab), from_ns)], indent=1))


def read_acts(lab: Path) -> list[Act]:
    """All that was done to the lab in this folder, in order."""
    try:
        lines = (lab / ACTS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [Act(**json.loads(line)) for line in lines]


def of_run(acts: Sequence[Act], from_ns: int) -> list[Act]:
    """The acts that a run which began then has to do with."""
    return [act for act in acts if act.until_ns >= from_ns or is_open(act, acts, from_ns)]


def is_open(act: Act, acts: Sequence[Act], at_ns: int) -> bool:
    """Whether an act that can be undone had not been by then."""
    if act.kind not in UNDONE_BY or act.from_ns > at_ns:
        return False
    end = undone_ns(act, acts)
    return end is None or end > at_ns


def undone_ns(act: Act, acts: Sequence[Act]) -> int | None:
    """When an act was undone; None if it was not, or cannot be."""
    undoing = UNDONE_BY.get(act.kind)
    later = (
        each.until_ns
        for each in acts
        if each.from_ns >= act.from_ns and (each.kind == undoing and each.target == act.target)
    )
    return min(later, default=None)


def faults_of(acts: Sequence[Act], *, from_ns: int, until_ns: int) -> list[Fault]:
    """Faults that came and went one after the other: what was done at the same time, to one unit or several, is one.

    Args:
        acts: what was done; those that nothing undoes are no faults, nor are steps.
        from_ns: when the run began.
        until_ns: when it ended; so does a fault that was not undone by then.
    """
    harms = sorted((act for act in acts if act.kind in UNDONE_BY and act.kind != STEP), key=lambda act: act.from_ns)
    harms = [act for act in harms if from_ns < act.from_ns < until_ns]
    groups: list[list[Act]] = []
    for act in harms:
        if groups and act.from_ns < _undoing_begins_ns(groups[-1], acts, until_ns):
            groups[-1].append(act)
        else:
            groups.append([act])
    begins = [*(group[0].from_ns for group in groups), until_ns]
    faults, healed_ns = [], from_ns
    for group, next_ns in zip(groups, begins[1:], strict=True):
        inject_ns = group[0].from_ns
        heal_ns = min(_undoing_begins_ns(group, acts, until_ns), next_ns)
        steady_ns = min(max(healed_ns, inject_ns - STEADY_NS), inject_ns)
        name = f"{', '.join(act.target for act in group)} {PAST.get(group[0].kind, group[0].kind)}"
        faults.append(Fault(name=name, steady_ns=steady_ns, inject_ns=inject_ns, heal_ns=heal_ns, until_ns=next_ns))
        healed_ns = max(undone_ns(act, acts) or until_ns for act in group)
    return faults


def _undoing_begins_ns(group: Sequence[Act], acts: Sequence[Act], until_ns: int) -> int:
    """When the first of several acts began to be undone; the end, if none was."""
    begins = (
        each.from_ns
        for act in group
        for each in acts
        if each.kind == UNDONE_BY[act.kind] and each.target == act.target and each.from_ns >= act.from_ns
    )
    return min(begins, default=until_ns)


def read_marks(folder: Path) -> list[Act]:
    """What was done while the run was under way; nothing, for a run from before this was written down.

    Raises:
        RunError: the file holds something else.
    """
    path = folder / MARKS
    if not path.exists():
        return []
    try:
        acts = [Act(**each) for each in read_json(path)]
    except TypeError as error:
        raise RunError(f"{path}: no list of acts; name the folder of a finished run") from error
    if strange := [act.kind for act in acts if act.kind not in KINDS]:
        raise RunError(f"{path}: nobody knows how to {strange[0]!r}; name the folder of a finished run")
    return acts
