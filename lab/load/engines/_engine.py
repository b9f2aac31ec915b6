"""An engine as a value: its name, what it is, its options, its part of a plan, and how the driver runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.bounds import Range
    from lab.load.plan import EnginePlan, LoadPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option of ``lab load`` that chooses its engine.

    Attributes:
        name: as on the command line, without the dashes.
        help: one line, with the default.
        type: of its value: ``int``, ``float``, ``str``, ``Path``, or ``bool`` for a flag.
        within: the numbers that are allowed, both ends included; for ``int`` and ``float``.
    """

    name: str
    help: str
    type: type[Any] = str
    within: Range | None = None

    @property
    def keyword(self) -> str:
        """The keyword argument of :attr:`Engine.plan` that takes the value."""
        return self.name.replace("-", "_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A load engine.

    Attributes:
        name: as ``--engine`` has it.
        summary: what it is, in a few words for ``lab load --help``.
        plan: ``(**options)`` → its part of the plan, of which ``name`` is the engine's. It gets the options that the
            user gave, and raises :class:`lab.errors.InputError` for what cannot be; nothing is created before.
        run: ``(plan, file)``: runs in the driver's process until all requests of the plan have a record in its spool,
            and writes its summary; prints progress. SIGINT and SIGTERM abort the run. It raises
            :class:`lab.errors.LabError` if it failed.
        options: its own.
        spread: ``(options, state)`` → the runs in which it drives a load at the same time, each with its part of the
            plan: :class:`lab.runs.LoadOptions` of one caller each, given those of the command and the
            :class:`lab.runtime.state.LabState`. By default one, as it is.
        read_before_names: ``(document, folder)`` → its part of a plan from before plans named their engine, in JSON
            form; None if another engine made it.
    """

    name: str
    summary: str
    plan: Callable[..., EnginePlan]
    run: Callable[[LoadPlan, Path], None]
    options: tuple[Option, ...] = ()
    spread: Callable[[Any, Any], list[Any]] | None = None
    read_before_names: Callable[[Mapping[str, Any], Path], EnginePlan | None] | None = None
