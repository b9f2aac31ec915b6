"""What the JSON documents of a run's folder say, as values; each ``*_of`` raises for one of another shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from lab.checkers import Driver, ProbeAnswer, Registration, Registrations
from lab.checkers.evidence import CLOCKS_NS
from lab.checkers.plain_table import document_of
from lab.client.admin_values import Registration as KnownRegistration
from lab.client.admin_values import Registrations as Known
from lab.client.admin_values import RevisionInfo
from lab.clock import is_fixed, lab_time_ns, offset_ns
from lab.routing.yaml_nodes import parse

if TYPE_CHECKING:
    Sources = Sequence[tuple[str, str]]
    """Name and text of each file of a route table."""

_NS = 1_000_000_000
# Of a run that does not say which clock it had. Checkers allow for clocks that are 5 ms apart.
_SLEW, _APART_NS = 0.000_5, CLOCKS_NS


class Began(NamedTuple):
    """When a run began, nanoseconds: Unix time, and that minus the monotonic clock."""

    unix_ns: int
    offset_ns: int

    @classmethod
    def now(cls) -> Self:
        """Returns this moment."""
        return cls(lab_time_ns(), offset_ns())


@dataclass(frozen=True, slots=True)
class Window:
    """When a run began and ended, by the clock of the process that drove it, Unix nanoseconds.

    Attributes:
        clock_jump_ns: by how much that clock ran ahead of the monotonic one during the run.
        one_clock: whether that was the lab's clock, see :mod:`lab.clock`, which all its processes read, and not the
            wall clock; None in runs of before, which had the wall clock.
    """

    from_ns: int
    until_ns: int
    clock_jump_ns: int = 0
    one_clock: bool | None = None

    @classmethod
    def since(cls, began: Began) -> Self:
        """Returns the window of a run that ends now."""
        return cls(began.unix_ns, lab_time_ns(), offset_ns() - began.offset_ns, is_fixed())

    @property
    def clock_jump(self) -> str:
        """What to say of a clock that was set during the run, also bit by bit; empty if it was not.

        Records have a driver's monotonic times, and one difference to Unix time for the whole run. What units write
        down has Unix times. A wall clock that is set between the two makes them contradict each other.
        """
        jump_ns, length_ns = self.clock_jump_ns, self.until_ns - self.from_ns
        slewed_ns = _SLEW * abs(length_ns - jump_ns) if self.one_clock is None else 0
        if abs(jump_ns) <= _APART_NS + slewed_ns:
            return ""
        much = f"{abs(jump_ns) / _NS:,.1f} s" if abs(jump_ns) >= _NS else f"{abs(jump_ns) / _NS * 1_000:.0f} ms"
        how = f"{much} {'ahead' if jump_ns > 0 else 'back'}"
        return (
            f"this machine's clock was stepped {how} during the run, so times of the driver and of units contradict "
            "each other; run it again"
        )


class DriverCounts(NamedTuple):
    """What a driver's own summary says.

    Attributes:
        planned: requests that came due.
        drivers: of several drivers a report on each.
        stopped: whether a signal stopped it before the end of its schedule.
        copies_dropped: shadow copies that it did not send, as too many were in flight.
    """

    planned: int = 0
    drivers: Sequence[Driver] = ()
    stopped: bool = False
    copies_dropped: int | None = None


def window_of(document: Any) -> Window:
    """Returns the window of a run."""
    jump_ns, one_clock = int(document.get("clock_jump_ns", 0)), document.get("one_clock")
    if one_clock not in (None, True, False):
        raise TypeError(f"one_clock: {one_clock!r}")
    return Window(int(document["from_ns"]), int(document["until_ns"]), jump_ns, one_clock)


def driver_of(document: Any) -> DriverCounts:
    """Returns what a driver's own summary says."""
    names = [each.name for each in fields(Driver)]
    drivers = [Driver(**{name: each[name] for name in names}) for each in document.get("drivers", ())]
    stopped, dropped = bool(document.get("stopped_by")), int(document.get("copies_dropped", 0))
    return DriverCounts(int(document["planned"]), drivers, stopped, dropped)


def revisions_of(documents: Any) -> list[RevisionInfo]:
    """Returns revisions in their order."""
    return list(map(RevisionInfo.from_document, documents))


def published_of(document: Any) -> dict[int, dict[str, Any]]:
    """Returns published tables by revision, as the checkers read their text."""
    return {int(number): _table(files) for number, files in document.items()}


def _table(files: Sources) -> dict[str, Any]:
    for name, text in files:
        if "&" in text:  # aliases of aliases grow without bound, and the checkers' own reader follows them all
            parse(text, name)
    return document_of([text for _, text in files])


def probes_of(documents: Any) -> Sequence[ProbeAnswer]:
    """Returns the answers to a run's probes."""
    return [ProbeAnswer(str(unit), int(asked), int(answered), int(by)) for unit, asked, answered, by in documents]


def dropped_of(document: Any) -> Mapping[str, int | None]:
    """Returns how many copies each unit dropped in a run, by its counts before and after; None if it cannot say."""
    return {str(unit): _grown(before, after) for unit, (before, after) in document.items()}


def _grown(before: int | None, after: int | None) -> int | None:
    if before is None or after is None or int(after) < int(before):  # it was not there, or was started again
        return None
    return int(after) - int(before)


def copies_of(document: Any) -> Mapping[str, Sequence[tuple[str, str]]] | None:
    """Returns request id and receipt of each shadow copy, by routing key; the oldest files have no receipts."""
    return {key: [_copy(each) for each in _list(copies)] for key, copies in document.items()}


def _list(copies: object) -> list[object]:
    if not isinstance(copies, list):
        raise TypeError(f"{copies!r} is not a list")
    return copies


def _copy(entry: object) -> tuple[str, str]:
    match entry:
        case str():
            return entry, ""
        case [str(request_id), str(receipt)]:
            return request_id, receipt
        case _:
            raise TypeError(f"{entry!r} is not a copy")


def spec_of(document: Any) -> Mapping[str, Any]:
    """Returns a lab's spec; its part on security is a mapping."""
    return {**document, "security": {**document.get("security", {})}}


def texts_of(document: Any) -> dict[str, str]:
    """Returns texts by name."""
    return {str(name): str(text) for name, text in document.items()}


def units_of(document: Any) -> dict[str, list[str]]:
    """Returns names of units by role."""
    return {str(role): [str(name) for name in _list(names)] for role, names in document.items()}


def registrations_of(document: Any) -> Registrations | None:
    """Returns the registrations during a run; None if no control plane answered after it."""
    before, after = (list(map(_known, document[when])) for when in ("before", "after"))
    return merged(before, after, asked_ns=int(document["asked_ns"]))


def _known(document: Any) -> Known:
    return Known(document["since_ns"], tuple(KnownRegistration(**each) for each in document["replicas"]))


def merged(before: Sequence[Known], after: Sequence[Known], *, asked_ns: int) -> Registrations | None:
    """Returns what control planes' answers before and after a run say together; None without an answer after it.

    One that was restarted knows nothing of the time before: what lies between the first answer and that is a gap.
    """
    if not after:
        return None
    since_ns = max(known.since_ns for known in after)
    found: dict[tuple[str, str, int], Registration] = {}
    for answers, end_ns in ((before, since_ns), (after, None)):
        for each in (registration for known in answers for registration in known.replicas):
            key = (each.cluster, each.replica, each.from_ns)
            found[key] = Registration(*key, end_ns if each.until_ns is None else each.until_ns)
    from_ns = asked_ns if before else 0
    return Registrations(list(found.values()), (from_ns, since_ns) if from_ns < since_ns else None)


def asked_of(document: Any) -> Mapping[str, Any] | None:
    """Returns what was asked of a run."""
    asked: Mapping[str, Any] = {name: document[name] for name in ("form", "words", "options")}
    if not all(isinstance(word, str) for word in asked["words"]) or not isinstance(asked["options"], dict):
        raise TypeError
    return asked
