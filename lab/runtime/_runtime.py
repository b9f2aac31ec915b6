"""What every runtime can do, and how one is found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

from lab.roles import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from lab.plan import Plan
    from lab.roles import Port, Unit
    from lab.runtime.cancellation import CancelToken
    from lab.runtime.state import Running


class RuntimeSite(Site, Protocol):
    """Where a runtime puts things, also those that replace others."""

    def take_over(self, old: Unit, name: str) -> Port:
        """The port of a unit that is gone, with its address, for another of that name."""


class Runtime(Protocol):
    """What every runtime can do.

    Everything that can go wrong outside is raised as :class:`lab.errors.UnitError`, with one line.
    """

    name: str
    key_mode: int
    """Who may read a unit's key, as for ``chmod``: its own process."""

    def site(self, layout: Plan | None = None) -> RuntimeSite:
        """Where a new lab's units will be, or more of them beside those that a plan has."""

    def prepare(self, layout: Plan, say: Callable[[str], None]) -> None:
        """Makes what must be there before any unit of the plan can start."""

    def start(self, units: Sequence[Unit]) -> Iterator[tuple[str, Running]]:
        """Starts units of the plan, and yields each with what it runs as; whether it came up is seen by looking."""

    def remove(self, running: Running) -> None:
        """Takes away what is left of a unit that has ended; its address is free then."""

    def states(self, running: Mapping[str, Running]) -> dict[str, str]:
        """Each unit: ``running``, ``paused`` or ``exited``."""

    def memory_bytes(self, running: Mapping[str, Running]) -> dict[str, int]:
        """Memory of each unit, what several share counted once over all; 0 if it is gone."""

    def log(self, unit: str) -> Path:
        """What the unit has printed."""

    def last_words(self, unit: str) -> str:
        """The end of the unit's log, in one line; empty if it said nothing."""

    def fetch_logs(self, units: Iterable[Unit]) -> None:
        """Brings what units have written into the lab's folder, ``units/<unit>/``."""

    def ground(self) -> dict[str, str]:
        """What units stand on, by name: the runtime, and versions that are its own."""

    def kill(self, running: Running) -> None:
        """Ends a unit at once and returns when it is gone; does nothing to one that does not run."""

    def pause(self, running: Running) -> None:
        """Freezes a unit: it stays connected and says nothing."""

    def resume(self, running: Running) -> None:
        """Lets a frozen unit go on."""

    def partition(self, unit: Unit) -> None:
        """Cuts a unit, with the pod that it stands in, off from the others.

        Raises:
            InputError: not on this runtime.
        """

    def rejoin(self, unit: Unit) -> None:
        """Connects it again, at the address that it had.

        Raises:
            InputError: not on this runtime.
        """

    def stop(self, units: Iterable[Running], *, within_s: float = 6.0) -> None:
        """Ends units, gently if they let it within so many seconds."""

    def sweep(self) -> int:
        """Ends whatever is left of the lab, known or not, gives its addresses back, and returns how much there was."""

    def drive(
        self,
        run: Path,
        caller: str,
        on_line: Callable[[str], None],
        ui_port: int | None = None,
        cancel_token: CancelToken | None = None,
        errors: TextIO | None = None,
    ) -> int:
        """Runs the load driver on the plan in a run's folder to its end, in the caller's place.

        Ctrl-C is passed on to the driver, which ends in its own way.

        Args:
            run: holds the plan, and in the end what was recorded.
            caller: beside whose resolver and sidecar it stands.
            on_line: told each line of progress as it comes.
            ui_port: where on this machine's 127.0.0.1 the driver's web UI is to be reached, if the plan wants one.
            cancel_token: cancels the driver from another thread.
            errors: a file, to which goes what the driver complains of; standard error if left out.

        Returns:
            The driver's exit status.
        """

    def end_drive(self, run: Path) -> None:
        """Ends a driver of that run at once which has outlived whoever started it; there need be none."""


def _nothing_left(folder: Path) -> bool:
    del folder
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeKind:
    """A runtime, and how to get it.

    Attributes:
        name: e.g. ``compose``.
        reason: why ``auto`` takes it, if it does.
        priority: ``auto`` takes the runtime of highest priority that has no obstacle.
        obstacle: says why it cannot be had on this machine; empty if it can.
        make: makes it, from the lab's folder and its security mode.
        left_in: whether a lab's folder shows that it was used there.
    """

    name: str
    reason: str
    priority: int
    obstacle: Callable[[], str]
    make: Callable[[Path, str], Runtime]
    left_in: Callable[[Path], bool] = _nothing_left
