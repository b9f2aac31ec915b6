"""Injecting faults into a lab, and healing them: what is done is written down before it is done."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

from lab.errors import InputError, LabError
from lab.faults.fault_context import Scene
from lab.faults.fault_timer import Minders
from lab.faults.journal import Journal
from lab.faults.observation import Observation, unknown
from lab.faults.registry import kind_of
from lab.faults.settings import resolve
from lab.faults.state import FaultRecord, FaultStore
from lab.runs.events import FAULTS, HEAL, Act, write_act

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lab.faults.kind import Kind

ALL = "all"
_LONGEST_S = 86_400.0
_INJECTED = "injected"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that was injected.

    Attributes:
        record: what was written down of it.
    """

    record: FaultRecord
    _faults: Faults

    @property
    def id(self) -> str:
        """What it is healed by."""
        return self.record.id

    @property
    def active(self) -> bool:
        """Whether it is injected still."""
        return self._faults.store.find(self.id) is not None

    def observe(self) -> Observation:
        """Looks for its effect: units' states, the control plane's word, probes."""
        return self._faults.observe(self)

    def heal(self) -> None:
        """Undoes it; harmless the second time."""
        self._faults.heal(self)

    def to_document(self) -> dict[str, Any]:
        """As a JSON object."""
        record = self.record
        return {
            "id": record.id,
            "kind": record.kind,
            "target": record.target,
            "level": record.level,
            "seed": record.seed,
            "settings": dict(record.settings),
            "units": list(record.units),
            "injected_ns": record.injected_ns,
            "until_ns": record.until_ns or None,
        }


class Faults:
    """The faults of one lab.

    Args:
        folder: the lab's own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.store = FaultStore(folder)
        self._scene = Scene(folder)
        self._minders = Minders(folder)
        self._journal = Journal(folder)

    def inject(
        self,
        kind: str,
        target: str = "",
        *,
        level: str | None = None,
        seed: int = 1,
        for_s: float | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> Fault:
        """Injects one.

        Args:
            kind: a name of :data:`lab.faults.registry.KINDS`.
            target: what it is aimed at.
            level: ``light``, ``medium`` or ``severe``; the kind's own default if left out.
            seed: of its choices.
            for_s: healed by itself after so many seconds; else as its kind says.
            settings: instead of what the level says.

        Raises:
            InputError: it cannot be had so; nothing was changed.
            LabError: it could not be injected; what was done of it is undone.
        """
        wanted = kind_of(kind)
        state = self._scene.state
        if state.runtime not in wanted.runtimes:
            raise InputError(f"{kind} {target}: not on the {state.runtime} runtime, {wanted.elsewhere}")
        chosen = resolve(wanted.settings, wanted.levels, level=level or wanted.default_level, given=settings or {})
        lasts_s = wanted.lasts_s(chosen) if for_s is None else for_s
        if for_s is not None and not 0 < for_s <= _LONGEST_S:
            raise InputError(f"--for: {for_s:g} will not do; write seconds above 0, up to {_LONGEST_S:g}")
        target = target or wanted.default_target
        if not target:
            raise InputError(f"{kind}: needs a target: {wanted.targets}")
        units = wanted.choose(self._scene, target, chosen, Random(f"{kind} {seed}"))  # noqa: S311 (no secret)
        with self.store.adding(kind) as (fault_id, others, new):
            _refuse_twice(wanted, target, units, others)
            record = FaultRecord(
                id=fault_id,
                kind=kind,
                target=target,
                level=level or wanted.default_level,
                seed=seed,
                settings=chosen,
                units=units,
                injected_ns=time.time_ns(),
                until_ns=time.time_ns() + math.ceil(lasts_s * 1e9) if lasts_s else 0,
            )
            new.append(record)
        return Fault(self._carry_out(wanted, record), self)

    def _carry_out(self, kind: Kind, record: FaultRecord) -> FaultRecord:
        try:
            with self._journal.doing(f"fault inject {kind.name}", _hit(record), _with(record)):
                record = record.remembering(kind.prepare(self._scene, record))
                self.store.put(record)
                from_ns = time.time_ns()
                record = record.remembering({**kind.inject(self._scene, record), _INJECTED: True})
                if kind.name in FAULTS:
                    detail = ", ".join(part for part in (kind.describe(record), _on(record)) if part)
                    self._mark(kind.name, record.target, from_ns, detail)
            if record.until_ns:
                # From when it is there, not from when it was asked for.
                lasts_ns = record.until_ns - record.injected_ns
                record = replace(record, until_ns=time.time_ns() + lasts_ns)
                self.store.put(record)
                record = record.remembering(self._minders.begin(record))
            self.store.put(record)
        except BaseException:
            with suppress(LabError):  # it stays on the list then, to be healed when that can be done
                self.heal(record.id)
            raise
        return record

    def observe(self, fault: Fault | str) -> Observation:
        """Looks for the effect of a fault that is injected; of one that is healed nothing can be said.

        Raises:
            InputError: there was never such a one.
        """
        fault_id = fault if isinstance(fault, str) else fault.id
        record = self.store.find(fault_id)
        if record is None:
            return unknown(f"{fault_id} is not injected")
        if not record.memory.get(_INJECTED):
            return unknown(f"{fault_id} is being injected")
        return kind_of(record.kind).observe(self._scene, record)

    def heal(self, fault: Fault | str = ALL) -> list[str]:
        """Heals one fault, or all, the newest first; returns the ids of those that were injected.

        Raises:
            InputError: it is no id.
            LabError: one could not be healed; it stays on the list.
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
            except LabError as error:  # the others are not to wait for this one
                first_error = first_error or error
        if first_error is not None:
            raise first_error
        return healed

    def _heal(self, record: FaultRecord) -> bool:
        kind = kind_of(record.kind)
        self._minders.end(record)
        with self._journal.doing(f"fault heal {kind.name}", _hit(record), self._why_healed(record)):
            from_ns = time.time_ns()
            kind.heal(self._scene, record)
            if self.store.find(record.id) is None:
                return False  # somebody else was quicker
            if kind.name in FAULTS:
                self._mark(HEAL[kind.name], record.target, from_ns)
            return self.store.remove(record.id)

    def _why_healed(self, record: FaultRecord) -> str:
        return f"{record.id}, as its time is up" if self._minders.is_this_process(record) else record.id

    def injected(self) -> list[Fault]:
        """Those that are injected right now, oldest first."""
        self._scene.state  # noqa: B018 (raises where no lab is up)
        return [Fault(record, self) for record in self.store.all()]

    def end(self) -> None:
        """Ends what runs beside the lab, which is about to end itself."""
        self._minders.end_all()

    def forget(self) -> None:
        """Forgets those of an earlier lab of this name."""
        self.store.clear()
        self._journal.forget()

    def _mark(self, kind: str, target: str, from_ns: int, detail: str = "") -> None:
        act = Act(kind=kind, target=target, detail=detail, from_ns=from_ns, until_ns=time.time_ns())
        write_act(self._folder, act)


def _refuse_twice(kind: Kind, target: str, units: tuple[str, ...], others: list[FaultRecord]) -> None:
    for other in others:
        if (other.kind, other.target) == (kind.name, target):
            raise InputError(f"{kind.name} {target}: is injected, as {other.id}; `lab fault heal {other.id}` first")
        both = sorted(set(units).intersection(other.units))
        if both and kind_of(other.kind).group == kind.group:
            raise InputError(
                f"{kind.name} {target}: {both[0]} is hit by {other.id} already; `lab fault heal {other.id}` first"
            )


def _check_id(fault_id: str) -> None:
    kind, _, number = fault_id.rpartition("-")
    if not number.isdecimal():
        raise InputError(f"{fault_id!r} is no fault's id; write one that `lab fault list` shows, or all")
    kind_of(kind)


def _on(record: FaultRecord) -> str:
    return "" if record.units == (record.target,) or not record.units else f"on {', '.join(record.units)}"


def _hit(record: FaultRecord) -> str:
    return ", ".join(record.units) or record.target


def _with(record: FaultRecord) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in record.settings.items())
    lasts_s = (record.until_ns - record.injected_ns) / 1e9 if record.until_ns else 0.0
    end = f", for {lasts_s:g} s" if lasts_s else ""
    return f"{record.id} at {record.target}, level {record.level}, seed {record.seed}, {settings}{end}"
