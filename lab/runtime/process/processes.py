"""Finds, signals and ends processes, within a deadline: a process may ignore signals, or the kernel may hold it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import psutil

from lab.runtime.state import Running

T = TypeVar("T")

_POLL_INTERVAL_S = 0.01
_KILL_S = 6.0
_TICK_S = 0.005  # half of the kernel's
_ENDED = frozenset("ZX")
_STOPPED = _ENDED | frozenset("Tt")


def running(pid: int) -> Running:
    """The identity of a process, by which :func:`find` finds it."""
    return Running(pid, _began(psutil.Process(pid)))


def _began(process: psutil.Process) -> float:
    """When the process began, in seconds since the machine did: in Unix seconds it would move with the clock."""
    return process.create_time() - psutil.boot_time()


def find(wanted: Running) -> psutil.Process | None:
    """The process; None if it has ended, also if another one has its id by now."""
    try:
        process = psutil.Process(wanted.pid)
        if abs(_began(process) - wanted.created) > _TICK_S or _reap(process):
            return None
    except psutil.NoSuchProcess:
        return None
    return process


def is_alive(process: psutil.Process) -> bool:
    """Whether it has not ended; reaps it if it is this process's child."""
    try:
        return process.is_running() and not _reap(process)
    except psutil.NoSuchProcess:
        return False


def _reap(process: psutil.Process) -> bool:
    """Whether the process has ended and waits to be reaped; reaps it if it is this process's child.

    A killed process is a zombie as soon as its first thread has ended. Until its last one has, its ports accept.
    """
    if process.status() != psutil.STATUS_ZOMBIE or not _ENDED.issuperset(_thread_states(process.pid)):
        return False
    with contextlib.suppress(ChildProcessError):  # the command that started it has ended; init reaps it
        os.waitpid(process.pid, os.WNOHANG)
    return True


def is_stopped(process: psutil.Process) -> bool:
    """Whether no thread of it runs, as they have handled SIGSTOP, or ended."""
    states = _thread_states(process.pid)
    return _STOPPED.issuperset(states) if states else process.status() == psutil.STATUS_STOPPED


def _thread_states(pid: int) -> set[str]:
    """Different states of a process's threads, as letters of proc(5); empty where there is no such folder."""
    states: set[str] = set()
    tasks = Path(f"/proc/{pid}/task")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the process has just ended
        for thread in tasks.iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has
                states.add((thread / "stat").read_text().rpartition(")")[2].split()[0])
    return states


def send(process: psutil.Process, number: signal.Signals) -> None:
    """Sends a signal; does nothing if the process has ended."""
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        # A unit ends what it has started by itself, but cannot once it is killed or stopped.
        if number is not signal.SIGTERM and process.is_running() and os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)


def end(processes: Sequence[psutil.Process], within_s: float, *, kill_s: float = _KILL_S) -> list[psutil.Process]:
    """Sends SIGTERM to all, and SIGKILL to those that have not ended within ``within_s``.

    Returns:
        Those that the kernel holds: they have not ended ``kill_s`` seconds after SIGKILL.
    """
    for process in processes:
        send(process, signal.SIGCONT)  # a paused process does not handle SIGTERM
        send(process, signal.SIGTERM)
    return kill(_wait_for_end(processes, within_s), kill_s)


def kill(processes: Sequence[psutil.Process], within_s: float = _KILL_S) -> list[psutil.Process]:
    """Kills all; returns those that have not ended within ``within_s``, as the kernel holds them."""
    for process in processes:
        send(process, signal.SIGKILL)
    return _wait_for_end(processes, within_s)


def _wait_for_end(processes: Sequence[psutil.Process], within_s: float) -> list[psutil.Process]:
    """The processes that have not ended within ``within_s`` seconds."""
    give_up = time.monotonic() + within_s
    while (processes := [each for each in processes if is_alive(each)]) and time.monotonic() < give_up:
        time.sleep(_POLL_INTERVAL_S)
    return list(processes)


def carrying(variable: str, prefix: str) -> list[psutil.Process]:
    """All live processes in whose environment the variable's value begins with ``prefix``."""
    found = []
    # psutil caches processes by id, and leaves out a new one that has the id of one that is gone.
    psutil.process_iter.cache_clear()
    for process in psutil.process_iter():
        try:
            if process.environ().get(variable, "").startswith(prefix) and is_alive(process):
                found.append(process)
        except psutil.Error:  # another user's, or gone already
            continue
    return found


def bounded(work: Callable[[], T], within_s: float) -> T | None:
    """The result of the work; None if it takes longer, as reading another process's environment may."""
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    thread.join(within_s)
    return results[0] if results else None


def described(process: psutil.Process) -> str:
    """Process id and state, for messages."""
    try:
        return f"{process.pid} ({process.status()})"
    except psutil.Error:
        return str(process.pid)
