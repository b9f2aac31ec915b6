"""Injects faults into a lab and heals them. Each step is recorded before it is taken, so that any process can heal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from lab.clock import lab_time_ns
from lab.errors import InputError, LabError, LabNotRunningError
from lab.faults.fault_context import FaultContext
from lab.faults.fault_timer import FaultTimers
from lab.faults.journal import Journal
from lab.faults.kinds import FAULTS
from lab.faults.observation import Observation, unknown
from lab.faults.reach import callers_reached
from lab.faults.settings import resolve
from lab.faults.state import FaultRecord, FaultStore
from lab.runs.events import Event, append_event, heal_of

if TYPE_CHECKING:
    from lab.faults.fault_kind import FaultKind

ALL = "all"
_LONGEST_S = 86_400.0
_INJECTED = "injected"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that was injected."""

    record: FaultRecord
    _injector: Injector

    @property
    def id(self) -> str:
        """The id to heal it by."""
        return self.record.id

    @property
    def active(self) -> bool:
        """Whether it has not been healed."""
        return self._injector.store.find(self.id) is not None

    def observe(self) -> Observation:
        """Looks for its effect in unit states, the control plane's status, and probes."""
        return self._injector.observe(self)

    def callers(self) -> tuple[str, ...] | None:
        """The callers whose requests it can reach; None if it hits no unit, or no control plane answers."""
        return self._injector.callers_reached(self)

    def heal(self) -> None:
        """Undoes it; does nothing the second time."""
        self._injector.heal(self)

    def to_document(self) -> dict[str, Any]:
        """Returns it as a JSON object."""
        document = asdict(self.record)
        del document["group"], document["memory"]
        return {**document, "units": list(self.record.units), "until_ns": self.record.until_ns or None}


class Injector:
    """Injects and heals the faults of one lab: ``lab.faults``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.store = FaultStore(folder)
        self._context = FaultContext(folder)
        self._timers = FaultTimers(folder)
        self._journal = Journal(folder)

    def inject(
        self,
        kind: str,
        target: str = "",
        *,
        level: str | None = None,
        seed: int = 1,
        for_s: float | None = None,
        **settings: Any,
    ) -> Fault:
        """Injects a fault, which stays until it is healed.

        ``lab.faults.inject("slow", "ml-cluster-1", ms=50, share=0, seed=7).observe()``

        Args:
            kind: e.g. ``slow``; see :mod:`lab.faults.kinds`.
            target: a unit, a cluster, or another target that the kind names.
            level: ``light``, ``medium`` or ``severe``; the kind's default if left out.
            seed: of its random choices: the same seed hits the same units and fails the same requests.
            for_s: seconds after which it heals by itself, even if this process has exited by then.
            settings: the kind's own options, which override the level's values.

        Raises:
            InputError: kind, target or settings do not fit, or a unit is under such a fault; nothing was changed.
            LabError: injecting failed; the part that was done is undone.
        """
        wanted = FAULTS[kind]
        state = self._context.state()
        if wanted.runtimes and state.runtime not in wanted.runtimes:
            raise InputError(f"{kind} {target}: not on the {state.runtime} runtime, {wanted.elsewhere}")
        chosen = resolve(wanted.settings, wanted.levels, level=level or wanted.default_level, given=settings)
        lasts_s = wanted.lasts_s(chosen) if for_s is None else for_s
        if for_s is not None and not 0 < for_s <= _LONGEST_S:
            raise InputError(f"--for: {for_s:g}: use seconds above 0, up to {_LONGEST_S:g}")
        target = target or wanted.default_target
        if not target:
            raise InputError(f"{kind}: needs a target: {wanted.targets}")
        units = wanted.choose(self._context, target, chosen, Random(f"{kind} {seed}"))  # noqa: S311 (no secret)
        with self.store.adding(kind) as (fault_id, others, new):
            _refuse_twice(wanted, target, units, others)
            record = FaultRecord(
                id=fault_id,
                kind=kind,
                group=wanted.group,
                target=target,
                level=level or wanted.default_level,
                seed=seed,
                settings=chosen,
                units=units,
                injected_ns=lab_time_ns(),
                until_ns=lab_time_ns() + math.ceil(lasts_s * 1e9) if lasts_s else 0,
            )
            new.append(record)
        return Fault(self._execute(wanted, record), self)

    @contextmanager
    def injected(
        self, kind: str, target: str = "", *, level: str | None = None, seed: int = 1, **settings: Any
    ) -> Iterator[Fault]:
        """Injects a fault for as long as the body runs; see :meth:`inject`."""
        fault = self.inject(kind, target, level=level, seed=seed, **settings)
        try:
            yield fault
        finally:
            self.heal(fault)

    def _execute(self, kind: FaultKind, record: FaultRecord) -> FaultRecord:
        try:
            with self._journal.doing(f"fault inject {kind.name}", _hit(record), _with(record)):
                record = record.remembering(kind.prepare(self._context, record))
                self.store.put(record)
                from_ns = lab_time_ns()
                record = record.remembering({**kind.inject(self._context, record), _INJECTED: True})
                if kind.past:
                    self._append(
                        Event(
                            kind=kind.name,
                            target=record.target,
                            detail=", ".join(part for part in (kind.describe(record), _on(record)) if part),
                            past=kind.past,
                            undone_by=heal_of(kind.name),
                            recovers_s=kind.recovers_s,
                            units=" ".join(record.units),
                            adds_ms=kind.adds_ms(record.settings),
                            fails_share=kind.fails_share(record.settings),
                            from_ns=from_ns,
                            until_ns=lab_time_ns(),
                        )
                    )
            if record.until_ns:
                # Its time counts from now, as injecting may have taken long.
                lasts_ns = record.until_ns - record.injected_ns
                record = replace(record, until_ns=lab_time_ns() + lasts_ns)
                self.store.put(record)
                record = record.remembering(self._timers.start(record))
            self.store.put(record)
        except BaseException:
            with suppress(LabError):  # it stays on the list then, to be healed later
                self.heal(record.id)
            raise
        return record

    def observe(self, fault: Fault | str) -> Observation:
        """Looks for the effect of a fault; unknown for one that is healed.

        Raises:
            InputError: its kind is not known here.
        """
        fault_id = fault if isinstance(fault, str) else fault.id
        record = self.store.find(fault_id)
        if record is None:
            return unknown(f"{fault_id} is not injected")
        if not record.memory.get(_INJECTED):
            return unknown(f"{fault_id} is being injected")
        return FAULTS[record.kind].observe(self._context, record)

    def callers_reached(self, fault: Fault) -> tuple[str, ...] | None:
        """See :meth:`Fault.callers`."""
        if not fault.record.units:  # as of a flood, which a driver of the lab sends
            return None
        try:
            with self._context.admin() as admin:
                document = admin.revision().document or {}
        except LabNotRunningError:
            return None
        return callers_reached(self._context.state(), document, fault.record.units)

    def heal(self, fault: Fault | str = ALL) -> list[str]:
        """Heals one fault, by handle or id, or all, the newest first; returns the ids of those that it healed.

        Raises:
            InputError: it is not an id.
            LabError: one could not be healed; it stays on the list, and the others are healed.
        """
        which = fault if isinstance(fault, str) else fault.id
        records = [each for each in reversed(self.store.all()) if which in (ALL, each.id)]
        if not records and which != ALL:
            _check_id(which)
        healed, first_error = [], None
        for record in records:
            try:
                if self._heal(record):
                    healed.append(record.id)
            except LabError as error:
                first_error = first_error or error
        if first_error is not None:
            raise first_error
        return healed

    def _heal(self, record: FaultRecord) -> bool:
        kind = FAULTS[record.kind]
        self._timers.stop(record)
        with self._journal.doing(f"fault heal {kind.name}", _hit(record), self._why_healed(record)):
            from_ns = lab_time_ns()
            kind.heal(self._context, record)
            if self.store.find(record.id) is None:
                return False  # another process has healed it
            if kind.past:
                self._append(
                    Event(
                        kind=heal_of(kind.name),
                        target=record.target,
                        past="healed",
                        from_ns=from_ns,
                        until_ns=lab_time_ns(),
                    )
                )
            return self.store.remove(record.id)

    def _why_healed(self, record: FaultRecord) -> str:
        return f"{record.id}, as its time is up" if self._timers.is_this_process(record) else record.id

    def active(self) -> list[Fault]:
        """Returns the faults that are injected right now, oldest first.

        Raises:
            LabNotRunningError: no lab is up.
        """
        self._context.state()  # raises where no lab is up
        return [Fault(record, self) for record in self.store.all()]

    def end(self) -> None:
        """Stops the processes of faults, as the lab is about to stop."""
        self._timers.stop_all()

    def forget(self) -> None:
        """Deletes the records of an earlier lab of this name."""
        self.store.clear()
        self._journal.forget()

    def _append(self, event: Event) -> None:
        append_event(self._folder, event)


def _refuse_twice(kind: FaultKind, target: str, units: tuple[str, ...], others: list[FaultRecord]) -> None:
    for other in others:
        if (other.kind, other.target) == (kind.name, target):
            raise InputError(
                f"{kind.name} {target}: is already injected, as {other.id}; `lab fault heal {other.id}` first"
            )
        both = sorted(set(units).intersection(other.units))
        if both and other.group == kind.group:
            raise InputError(
                f"{kind.name} {target}: {both[0]} is already hit by {other.id}; `lab fault heal {other.id}` first"
            )


def _check_id(fault_id: str) -> None:
    kind, _, number = fault_id.rpartition("-")
    if not number.isdecimal() or kind not in FAULTS:
        raise InputError(f"{fault_id!r} is not a fault's id; write one that `lab fault list` shows, or all")


def _on(record: FaultRecord) -> str:
    return "" if record.units == (record.target,) or not record.units else f"on {', '.join(record.units)}"


def _hit(record: FaultRecord) -> str:
    return ", ".join(record.units) or record.target


def _with(record: FaultRecord) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in record.settings.items())
    lasts_s = (record.until_ns - record.injected_ns) / 1e9 if record.until_ns else 0.0
    end = f", for {lasts_s:g} s" if lasts_s else ""
    return f"{record.id} at {record.target}, level {record.level}, seed {record.seed}, {settings}{end}"
