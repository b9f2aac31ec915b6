"""The setting of a bench: a lab of its own that is up, and units beside it to compare with."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psutil

from lab.errors import UnitError
from lab.lab import DEFAULT_SPEC, Lab
from lab.roles import Port, Unit
from lab.runtime.process import ProcessRuntime
from lab.runtime.state import LabState
from lab.transport.security import PLAINTEXT
from lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from lab.runs import LoadOptions, RunResult

NICENESS = -5
"""Of a bench's units; its driver goes before them, see :mod:`lab.bench.harness.driver_process`."""

_START_TIMEOUT = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Setting:
    """A lab that is up.

    Attributes:
        say: told what is being measured.
        only: what a bench is to look at, of all that it could, by what that is: ``topologies``, ``faults``.
        kept: measurements that several benches look at, by name, so that each is made once.
    """

    lab: Lab
    state: LabState
    say: Callable[[str], None]
    only: Mapping[str, Sequence[str]] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)

    def start(self, name: str, argv: tuple[str, ...], address: str, files: Mapping[str, str] | None = None) -> int:
        """Starts a unit that is not the lab's, and returns its process id once it listens; it ends with the lab."""
        runtime = ProcessRuntime(self.lab.folder, self.state.security)
        unit = Unit(name, "yardstick", argv, Port(address, address, address), files=files or {})
        [(_, running)] = runtime.start([unit])

        def listens() -> bool:
            if runtime.states({name: running})[name] == "exited":
                raise UnitError(f"{name} ended while starting: {runtime.last_words(name)}")
            host, port = address.rsplit(":", 1)
            with socket.socket() as probe:
                return probe.connect_ex((host, int(port))) == 0

        eventually(f"{name} listens on {address}", listens, within=_START_TIMEOUT)
        return running.pid

    def address(self, name: str) -> str:
        """A free address for such a unit."""
        return ProcessRuntime(self.lab.folder, self.state.security).site().port(name, "grpc").bind

    def path(self, name: str, file: str) -> str:
        """Where such a unit finds a file of its own."""
        return ProcessRuntime(self.lab.folder, self.state.security).site().path(name, file)

    def replicas(self, cluster: str) -> list[str]:
        """Addresses of a model cluster's replicas."""
        return [unit.address for unit in self.state.plan.with_role("model") if unit.name.startswith(f"{cluster}-")]

    def ground(self) -> dict[str, str]:
        """What the lab's units stand on, by name."""
        return ProcessRuntime(self.lab.folder, self.state.security).ground()

    def load(self, options: LoadOptions) -> RunResult:
        """Drives load; a bench of wrong or missing answers measures nothing.

        Raises:
            UnitError: not every request was answered rightly.
        """
        result = self.lab.load(options)
        wrong = [each for each in result.verdicts if each.checker != "driver" and each.outcome != "valid"]
        if wrong or result.summary.failed:
            reasons = "; ".join(each.summary for each in wrong) or f"{result.summary.by_status}"
            raise UnitError(f"{options.topology} did not answer every request rightly ({reasons}): {result.folder}")
        return result


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has taken so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


@contextmanager
def setting(
    say: Callable[[str], None],
    spec: Path = DEFAULT_SPEC,
    only: Mapping[str, Sequence[str]] | None = None,
    *,
    security: str = PLAINTEXT,
) -> Iterator[Setting]:
    """Brings a lab up for a bench, and takes it down again; arguments as for :class:`Setting`.

    It is in plaintext unless certificates are what the bench is about.
    """
    lab = Lab(f"bench-{secrets.token_hex(3)}")
    with _precedence():
        try:
            lab.up(spec=spec, security=security, runtime="process", say=say)
            yield Setting(lab, LabState.of(lab.folder), say, only or {})
        finally:
            lab.down()


@contextmanager
def _precedence() -> Iterator[None]:
    """Puts this process, and what it starts, before whatever else runs on the machine, if it may.

    Only what starts now inherits it with all its threads, so it comes before the lab. All arms have the same.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, min(before, NICENESS))
    try:
        yield
    finally:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, before)
