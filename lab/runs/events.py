"""What happened to a lab during a run: operations on its units, faults, and a scenario's steps.

Each is an event, appended to ``events.jsonl`` in the lab's folder, one JSON object a line. When a run ends, the events
that fell into it are copied to ``events.json`` in its folder, with earlier ones that had not been undone when it began.

An event carries its own words and what undoes it, so a report shows a plugin's fault even where that plugin is absent.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.checkers import FaultEffect, FaultWindow
from lab.links import ROLE as LINK
from lab.measure.hit_requests import Fault
from lab.reading import read_text
from lab.roles import CONTROL_PLANE

if TYPE_CHECKING:
    from lab.roles import Unit
    from lab.spec import LabSpec
    from lab.topologies import Topology

STEADY_NS = 2_000_000_000
"""The time before a fault that shows normal behaviour, unless another fault or the run's start is nearer."""

LAB_EVENTS = "events.jsonl"

STEP, STEP_OVER = "step", "step-over"
"""A scenario's step begins and ends. A step does nothing to the lab by itself."""

_KILL, _PAUSE = "kill", "pause"

# How requests fail for faults during which connections stay open.
_STATUSES = {**dict.fromkeys(("slow", "delay"), frozenset({"DEADLINE_EXCEEDED"})), "error": frozenset({"INTERNAL"})}

# Operations that break nothing. The last words of heals, as the events that they undo may be older than the file.
_SCALE = "scale"
_HEALED = ("started", "resumed", "connected again", "healed")

# Events of runs recorded before version 1.0 lack `past` and `undone_by`.
_OLD_WORDS = {
    "kill": ("killed", "start"),
    "pause": ("paused", "resume"),
    "partition": ("cut off", "rejoin"),
    STEP: ("", STEP_OVER),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that was done to a lab.

    Attributes:
        kind: e.g. ``kill``, ``slow``, ``heal slow``, ``step``.
        target: a unit, or another target of the operation or fault; of a step, its number.
        detail: e.g. ``to 3 replicas``; of a step, its title.
        past: what has happened to the target: ``killed``; empty for steps.
        undone_by: kind of the event that undoes it, on the same target; empty if the change is permanent.
        role: of the unit, if nothing beside it is affected; else empty.
        pod: caller in whose pod the unit is; empty if it is in no caller's, or the target is not a unit.
        from_ns: when it began, Unix nanoseconds.
        until_ns: when it was done, Unix nanoseconds.
        recovers_s: time after it was undone in which its target is as before, by its kind; 0 in runs of earlier
            releases, which say nothing of it.
        units: names of the units that a fault hit, with blanks between.
        adds_ms: as of :class:`lab.checkers.FaultEffect`.
        fails_share: likewise.
    """

    kind: str
    target: str
    from_ns: int
    until_ns: int
    detail: str = ""
    past: str = ""
    undone_by: str = ""
    role: str = ""
    pod: str = ""
    recovers_s: float = 0.0
    units: str = ""
    adds_ms: float = 0.0
    fails_share: float = 0.0

    @property
    def is_step(self) -> bool:
        """Whether it begins or ends a step of a scenario."""
        return self.kind in (STEP, STEP_OVER)

    @property
    def is_fault(self) -> bool:
        """Whether it breaks something until another event undoes it."""
        return bool(self.undone_by) and not self.is_step

    def hits(self, units: Collection[str]) -> bool:
        """Whether it was done to one of these units."""
        return self.target in units or any(each in units for each in self.units.split())

    @property
    def text(self) -> str:
        """The event in words: ``ml-cluster-1-a killed``."""
        return " ".join(part for part in (self.target, self.past, self.detail) if part)


def of_unit(event: Event, unit: Unit, spec: LabSpec) -> Event:
    """Returns an event of one unit with the unit's role, and its caller if it is in a caller's pod."""
    return replace(event, role=unit.role, pod=unit.pod if unit.pod in spec.callers else "")


def heal_of(fault: str) -> str:
    """Returns the kind of the event that ends a fault of that kind."""
    return f"heal {fault}"


def append_event(lab: Path, event: Event) -> None:
    """Appends an event to a lab's folder, in one write, as other processes may append at the same time."""
    with (lab / LAB_EVENTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(event)) + "\n")


def lab_events(lab: Path) -> list[Event]:
    """Returns all events of the lab in this folder, in order."""
    try:
        lines = read_text(lab / LAB_EVENTS).splitlines()
    except FileNotFoundError:
        return []
    return [Event(**json.loads(line)) for line in lines]


def events_since(events: Sequence[Event], from_ns: int) -> list[Event]:
    """Returns the events since a time, and earlier ones that were not undone by then."""
    return [event for event in events if event.until_ns >= from_ns or is_open(event, events, from_ns)]


def is_open(event: Event, events: Sequence[Event], at_ns: int) -> bool:
    """Whether an event that can be undone was in effect at that time."""
    if not event.undone_by or event.from_ns > at_ns:
        return False
    end = undone_ns(event, events)
    return end is None or end > at_ns


def undone_ns(event: Event, events: Sequence[Event]) -> int | None:
    """Returns when an event was undone; None if it was not, or cannot be."""
    later = (
        each.until_ns
        for each in events
        if each.from_ns >= event.from_ns and (each.kind == event.undone_by and each.target == event.target)
    )
    return min(later, default=None)


def faults_in(events: Sequence[Event], *, from_ns: int, until_ns: int) -> list[Fault]:
    """Returns the faults of a run, one after the other. Faults that overlap count as one.

    Args:
        events: of the run; permanent changes and steps are not faults.
        from_ns: when the run began.
        until_ns: when it ended, which also ends a fault that was not undone by then.
    """
    begun = sorted((event for event in events if event.is_fault), key=lambda event: event.from_ns)
    begun = [event for event in begun if from_ns < event.from_ns < until_ns]
    groups: list[list[Event]] = []
    for event in begun:
        if groups and event.from_ns < _undoing_begins_ns(groups[-1], events, until_ns):
            groups[-1].append(event)
        else:
            groups.append([event])
    begins = [*(group[0].from_ns for group in groups), until_ns]
    faults, healed_ns = [], from_ns
    for group, next_ns in zip(groups, begins[1:], strict=True):
        inject_ns = group[0].from_ns
        heal_ns = min(_undoing_begins_ns(group, events, until_ns), next_ns)
        steady_ns = min(max(healed_ns, inject_ns - STEADY_NS), inject_ns)
        name = f"{', '.join(event.target for event in group)} {group[0].past}"
        faults.append(Fault(name=name, steady_ns=steady_ns, inject_ns=inject_ns, heal_ns=heal_ns, until_ns=next_ns))
        healed_ns = max(undone_ns(event, events) or until_ns for event in group)
    return faults


def fault_windows(events: Sequence[Event], topology: Topology | None = None, caller: str = "") -> list[FaultWindow]:
    """Returns what was broken, and when: faults until they were undone, and units that were replaced at once.

    Steps of scenarios, heals and scaling break nothing: a replica that scaling removes drains first. With a topology
    and a caller, what was done to a unit that their requests do not need is left out. They may need the control plane,
    from which proxies learn of keys that nobody asked for before.
    """
    needed = (
        {*topology.path, *topology.roles, CONTROL_PLANE, LINK, ""} if topology else {event.role for event in events}
    )
    heals = {event.undone_by for event in events} | {_SCALE}
    return [
        FaultWindow(
            event.text,
            event.target,
            event.from_ns,
            undone_ns(event, events) if event.undone_by else event.until_ns,
            kills=event.kind == _KILL,
            freezes=event.kind == _PAUSE,
            statuses=_STATUSES.get(event.kind, frozenset()),
            role=event.role,
            recovers_ns=round(event.recovers_s * 1e9) or None,
            effect=_effect(event, events),
        )
        for event in events
        if event.is_fault or not (event.is_step or event.kind in heals or event.past in _HEALED)
        if event.role in needed and (not caller or event.pod in {"", caller})
    ]


def _effect(event: Event, events: Sequence[Event]) -> FaultEffect | None:
    """Returns what models must show of a fault until another one hits its units; None if that is not known.

    A unit that is killed, or restarted cold, loses what another fault has changed. A cluster's own nodes, of which a
    kill with its node tells, may start the unit elsewhere without an event.
    """
    if event.kind in {_KILL, _PAUSE} and not event.detail:
        units = [event.target]
    elif event.adds_ms or event.fails_share:
        units = event.units.split()
    else:
        return None
    others = [each.from_ns for each in events if each.from_ns > event.from_ns and each.is_fault and each.hits(units)]
    until_ns = min([_undoing_begins_ns([event], events, sys.maxsize), *others])
    return FaultEffect(units, event.until_ns, until_ns, event.adds_ms, event.fails_share)


def _undoing_begins_ns(group: Sequence[Event], events: Sequence[Event], until_ns: int) -> int:
    """Returns when the first of several events began to be undone; the run's end, if none was."""
    begins = (
        each.from_ns
        for event in group
        for each in events
        if each.kind == event.undone_by and each.target == event.target and each.from_ns >= event.from_ns
    )
    return min(begins, default=until_ns)


def events_of(documents: Any) -> Sequence[Event]:
    """Returns the events of a run from their JSON form."""
    kinds = {each["kind"] for each in documents}
    return [Event(**{**_old_words(each["kind"], kinds), **each}) for each in documents]


def _old_words(kind: str, kinds: Collection[str]) -> Mapping[str, Any]:
    """Returns the words that an event of an old file lacks, as far as the file tells them."""
    heal = heal_of(kind)
    past, undone_by = _OLD_WORDS.get(kind, (kind, heal if heal in kinds else ""))
    return {"past": past, "undone_by": undone_by}
