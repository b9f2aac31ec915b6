"""The interface of a runtime, and the value by which one is found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TextIO

from lab.errors import InputError
from lab.roles import CALLER, Plan, Port, Site, Unit, role_of
from lab.runtime import ports
from lab.runtime.identities import Identities
from lab.runtime.state import LabState, Running

if TYPE_CHECKING:
    from lab.client import Endpoints
    from lab.runtime.cancellation import CancelToken
    from lab.runtime.doctor_finding import Finding

_LAST_WORDS = 3
_LAST_LINES = 100


@dataclass(frozen=True)
class RuntimeSite(Site):
    """Where a runtime puts units and their files, also units that replace others.

    Attributes:
        folder: the lab's own, for which ports of this machine are reserved.
        ports: ``unit/name`` → port of this machine.
    """

    folder: Path
    ports: dict[str, int]

    def advertised(self, port: Port) -> str:
        """Its address for other units, which the plan has already."""
        return port.inside

    def outside(self, unit: str, name: str) -> str:
        """``127.0.0.1:port`` of a unit's port on this machine; reserves a port that is new to the plan."""
        key = f"{unit}/{name}"
        if key not in self.ports:
            self.ports.update(ports.reserve([key], self.folder))
        return f"{ports.HOST}:{self.ports[key]}"

    def take_over(self, old: Unit, name: str) -> Port:
        """Gives the ports and address of a unit that is gone to a new unit of that name."""
        for port in ("grpc", "rest", "metrics"):
            if f"{old.name}/{port}" in self.ports:
                self.ports[f"{name}/{port}"] = self.ports.pop(f"{old.name}/{port}")
        return old.port


class Runtime(ABC):
    """Starts, stops and watches units.

    Errors of the operating system or the engine are raised as :class:`lab.errors.UnitError`, with one line.

    Args:
        folder: the lab's own; each unit gets ``units/<name>/`` in it, with its log.
        security: security mode of the units, ``mtls`` or ``plaintext``.
    """

    name: ClassVar[str]
    key_mode: ClassVar[int] = 0o600
    """File mode of a unit's private key, as for ``chmod``: its own process can read it."""

    def __init__(self, folder: Path, security: str) -> None:
        self._folder, self._security = folder, security
        self._identities = Identities(folder)

    @abstractmethod
    def site(self, layout: Plan | None = None) -> RuntimeSite:
        """The site of a new lab, or with ``layout`` of one that is planned already, for further units."""

    def prepare(self, layout: Plan, say: Callable[[str], None]) -> None:  # noqa: B027 (not every runtime needs to)
        """Makes what the units of the plan need before any of them can start, such as an image."""

    def shares_clock(self) -> bool:
        """Returns whether all units run under this process's kernel, and so read the same monotonic clock."""
        return False

    @abstractmethod
    def start(self, units: Sequence[Unit]) -> Iterator[tuple[str, Running]]:
        """Starts units of the plan; yields each with its process or container, without waiting until it is ready."""

    def deliver(self, units: Iterable[Unit]) -> None:  # noqa: B027 (they may read this machine's files)
        """Gives running units the certificates that this machine has for them."""

    def watch(self) -> None:  # noqa: B027 (an engine may do it)
        """Makes sure that a unit which exceeds its memory ceiling is ended and started again, until the lab is down."""

    def over_ceiling(self, unit: str) -> list[str]:
        """One line for each time that the unit was ended for exceeding its memory ceiling."""
        del unit
        return []

    def exhausted(self, running: Mapping[str, Running]) -> dict[str, int]:
        """Units that have as many files and connections open as they may, with that number."""
        del running
        return {}

    def remove(self, running: Running) -> None:  # noqa: B027 (same)
        """Removes what is left of a unit that has ended, and frees its address."""

    @abstractmethod
    def states(self, running: Mapping[str, Running]) -> dict[str, str]:
        """The state of each unit: ``running``, ``paused``, ``stalled`` or ``exited``."""

    @abstractmethod
    def memory_bytes(self, running: Mapping[str, Running]) -> dict[str, int]:
        """Memory of each unit; pages that several share count once in total; 0 for a unit that is gone."""

    def log(self, unit: str) -> Path:
        """The file with what the unit has printed until now."""
        return self._home(unit) / "log"

    def last_lines(self, unit: str, count: int) -> list[str]:
        """The last ``count`` lines of the unit's log as it was fetched last, or all if there are fewer."""
        log = self._home(unit) / "log"
        return log.read_text(errors="replace").splitlines()[-count:] if log.exists() else []

    def last_words(self, unit: str) -> str:
        """The end of the unit's log, in one line; empty if it has printed nothing.

        An Envoy that aborts prints its reason, and then addresses of its stack, which are left out.
        """
        self.log(unit)
        lines = [line for line in self.last_lines(unit, _LAST_LINES) if "][backtrace]" not in line]
        return " | ".join(lines[-_LAST_WORDS:])

    def _home(self, unit: str) -> Path:
        return self._folder / "units" / unit

    def fetch_logs(self, units: Iterable[Unit]) -> None:  # noqa: B027 (processes write there themselves)
        """Copies logs and access logs of units into the lab's folder, ``units/<unit>/``."""

    def fetch_file(self, unit: Unit, name: str) -> None:  # noqa: B027 (as above)
        """Copies a file that a unit writes into the lab's folder, ``units/<unit>/``, if the unit has it still."""

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Name of the runtime, and versions of what its units run on, by name."""

    @abstractmethod
    def kill(self, running: Running) -> None:
        """Kills a unit and returns when it is gone; does nothing if it does not run."""

    @abstractmethod
    def pause(self, running: Running) -> None:
        """Freezes a unit: its connections stay open, but it answers nothing."""

    @abstractmethod
    def resume(self, running: Running) -> None:
        """Lets a frozen unit continue."""

    @abstractmethod
    def partition(self, unit: Unit) -> None:
        """Cuts a unit, with its whole pod, off from the network.

        Raises:
            InputError: this runtime cannot.
        """

    @abstractmethod
    def rejoin(self, unit: Unit) -> None:
        """Reconnects a unit that was cut off, at the address that it had.

        Raises:
            InputError: this runtime cannot.
        """

    def nodes(self) -> Mapping[str, list[str]]:
        """Node → the lab's units on it; empty for a runtime that has only this machine."""
        return {}

    def lose_node(self, node: str) -> None:
        """Ends all units on a node at once, and lets none start there.

        Raises:
            InputError: this runtime has no nodes.
        """
        raise InputError(f"node {node}: the {self.name} runtime has only this machine")

    def restore_node(self, node: str) -> None:
        """Lets units start on a node again.

        Raises:
            InputError: this runtime has no nodes.
        """
        self.lose_node(node)

    @abstractmethod
    def stop(self, units: Iterable[Running], *, within_s: float = 6.0) -> None:
        """Asks units to end, and kills those that have not ended within ``within_s`` seconds."""

    @abstractmethod
    def sweep(self) -> int:
        """Ends everything that is left of the lab, also what its state does not list; returns how many units ended.

        The lab's addresses are free afterwards.
        """

    @abstractmethod
    def run_driver(
        self,
        run: Path,
        caller: str,
        on_line: Callable[[str], None],
        ui_port: int | None = None,
        cancel_token: CancelToken | None = None,
        errors: TextIO | None = None,
    ) -> int:
        """Runs the load driver on the plan in a run's folder to its end, in a caller's place; or several, as planned.

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

    def endpoints_of_drivers(self, caller: str, endpoints: Endpoints) -> Endpoints:
        """The caller's addresses as several drivers reach them, each of which may be in its own pod."""
        del caller
        return endpoints

    def _driver_environment(self, caller: str) -> Mapping[str, str]:
        """Variables of a load driver beside those of the runtime: the caller's, and what roles share."""
        plan = LabState.of(self._folder).plan
        own = next((unit.environment for unit in plan.with_role(CALLER) if unit.name == caller), {})
        roles = ((unit, role_of(unit)) for unit in plan.units)
        shared = {name: unit.environment[name] for unit, role in roles if role for name in role.drivers_share}
        return {**own, **shared}

    @abstractmethod
    def kill_driver(self, run: Path) -> None:
        """Kills all drivers of that run, which may have outlived the command that started them; there need be none."""


def _nothing_left(folder: Path) -> bool:
    del folder
    return False


def _nothing_to_keep(folder: Path, given: Mapping[str, str]) -> None:
    """A runtime without options has none to keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeOption:
    """An option of ``lab up`` that a runtime has.

    Attributes:
        name: as a Python name, e.g. ``storage_class`` for ``--storage-class``.
        help: what its value is, in one line.
    """

    name: str
    help: str

    @property
    def flag(self) -> str:
        """As users write it."""
        return f"--{self.name.replace('_', '-')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeKind:
    """A runtime by name, and how to make it.

    Attributes:
        name: e.g. ``compose``.
        title: what its units are, in a few words.
        reason: why ``auto`` takes it, for the message.
        priority: ``auto`` takes the runtime of highest priority that has no obstacle.
        obstacle: returns why it does not work on this machine; empty if it does.
        make: makes it, from the lab's folder and its security mode.
        left_in: whether a lab's folder shows that the lab was on this runtime.
        options: its own options of ``lab up``.
        configure: keeps those that are given in the lab's folder, by name; raises
            :class:`lab.errors.InputError` for a value that will not do.
        checks: looks for what this machine has and lacks for it; ``lab doctor`` leaves out a runtime without any.
    """

    name: str
    title: str = ""
    reason: str
    priority: int
    obstacle: Callable[[], str]
    make: Callable[[Path, str], Runtime]
    left_in: Callable[[Path], bool] = _nothing_left
    options: tuple[RuntimeOption, ...] = ()
    configure: Callable[[Path, Mapping[str, str]], None] = _nothing_to_keep
    checks: Callable[[], Iterable[Finding]] = tuple
