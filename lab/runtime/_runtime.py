"""The interface of a runtime, and the value by which one is found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

from lab.roles import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from lab.roles import Plan, Port, Unit
    from lab.runtime.cancellation import CancelToken
    from lab.runtime.state import Running


class RuntimeSite(Site, Protocol):
    """Where a runtime puts units and their files, also units that replace others."""

    def take_over(self, old: Unit, name: str) -> Port:
        """Gives the port and address of a unit that is gone to a new unit of that name."""


class Runtime(Protocol):
    """Starts, stops and watches units.

    Errors of the operating system or the engine are raised as :class:`lab.errors.UnitError`, with one line.
    """

    name: str
    key_mode: int
    """File mode of a unit's private key, as for ``chmod``: its own process can read it."""

    def site(self, layout: Plan | None = None) -> RuntimeSite:
        """The site of a new lab, or with ``layout`` of one that is planned already, for further units."""

    def prepare(self, layout: Plan, say: Callable[[str], None]) -> None:
        """Makes what the units of the plan need before any of them can start, such as an image."""

    def start(self, units: Sequence[Unit]) -> Iterator[tuple[str, Running]]:
        """Starts units of the plan; yields each with its process or container, without waiting until it is ready."""

    def remove(self, running: Running) -> None:
        """Removes what is left of a unit that has ended, and frees its address."""

    def states(self, running: Mapping[str, Running]) -> dict[str, str]:
        """The state of each unit: ``running``, ``paused`` or ``exited``."""

    def memory_bytes(self, running: Mapping[str, Running]) -> dict[str, int]:
        """Memory of each unit; pages that several share count once in total; 0 for a unit that is gone."""

    def log(self, unit: str) -> Path:
        """The file with what the unit has printed."""

    def last_words(self, unit: str) -> str:
        """The end of the unit's log, in one line; empty if it has printed nothing."""

    def fetch_logs(self, units: Iterable[Unit]) -> None:
        """Copies logs and access logs of units into the lab's folder, ``units/<unit>/``."""

    def versions(self) -> dict[str, str]:
        """Name of the runtime, and versions of what its units run on, by name."""

    def kill(self, running: Running) -> None:
        """Kills a unit and returns when it is gone; does nothing if it does not run."""

    def pause(self, running: Running) -> None:
        """Freezes a unit: its connections stay open, but it answers nothing."""

    def resume(self, running: Running) -> None:
        """Lets a frozen unit continue."""

    def partition(self, unit: Unit) -> None:
        """Cuts a unit, with its whole pod, off from the network.

        Raises:
            InputError: this runtime cannot.
        """

    def rejoin(self, unit: Unit) -> None:
        """Reconnects a unit that was cut off, at the address that it had.

        Raises:
            InputError: this runtime cannot.
        """

    def stop(self, units: Iterable[Running], *, within_s: float = 6.0) -> None:
        """Asks units to end, and kills those that have not ended within ``within_s`` seconds."""

    def sweep(self) -> int:
        """Ends everything that is left of the lab, also what its state does not list; returns how many units ended.

        The lab's addresses are free afterwards.
        """

    def run_driver(
        self,
        run: Path,
        caller: str,
        on_line: Callable[[str], None],
        ui_port: int | None = None,
        cancel_token: CancelToken | None = None,
        errors: TextIO | None = None,
    ) -> int:
        """Runs the load driver on the plan in a run's folder to its end, in a caller's place.

        Ctrl-C is passed on to the driver, which then ends in its own way.

        Args:
            run: folder with the plan; receives what the driver records.
            caller: the caller whose resolver and sidecar the driver uses.
            on_line: called with each line of progress.
            ui_port: port of this machine's 127.0.0.1 for the driver's web UI, if the plan wants one.
            cancel_token: cancels the driver from another thread.
            errors: file that gets the driver's standard error; this process's standard error by default.

        Returns:
            The driver's exit status.
        """

    def kill_driver(self, run: Path) -> None:
        """Kills a driver of that run that has outlived the command that started it; there need be none."""


def _nothing_left(folder: Path) -> bool:
    del folder
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeKind:
    """A runtime by name, and how to make it.

    Attributes:
        name: e.g. ``compose``.
        reason: why ``auto`` takes it, for the message.
        priority: ``auto`` takes the runtime of highest priority that has no obstacle.
        obstacle: returns why it does not work on this machine; empty if it does.
        make: makes it, from the lab's folder and its security mode.
        left_in: whether a lab's folder shows that the lab was on this runtime.
    """

    name: str
    reason: str
    priority: int
    obstacle: Callable[[], str]
    make: Callable[[Path, str], Runtime]
    left_in: Callable[[Path], bool] = _nothing_left
