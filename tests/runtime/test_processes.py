"""Processes of the process runtime are ended, and stopped, with all their threads."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import psutil
import pytest

from lab.runtime.process import ProcessRuntime, processes

# Its threads get no processor while another process wants it, so they handle signals long after the first one.
_MANY_THREADS = """
import os, socket, threading, time
listening = socket.create_server(("127.0.0.1", 0))
for _ in range(40):
    threading.Thread(target=time.sleep, args=(60,)).start()
for thread in os.listdir("/proc/self/task"):
    if int(thread) != os.getpid():
        os.sched_setscheduler(int(thread), os.SCHED_IDLE, os.sched_param(0))
print(listening.getsockname()[1], flush=True)
time.sleep(60)
"""


@contextmanager
def many_threads() -> Iterator[tuple[psutil.Process, int]]:
    """A process of many threads, and the port that it listens at."""
    with subprocess.Popen([sys.executable, "-c", _MANY_THREADS], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield psutil.Process(child.pid), int(child.stdout.readline())
        finally:
            child.send_signal(signal.SIGKILL)


def test_a_killed_process_has_ended_once_its_port_refuses() -> None:
    for _ in range(3):
        with many_threads() as (process, port):
            assert processes.kill([process]) == []

            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_unit_is_paused_once_each_of_its_threads_has_stopped(tmp_path: Path) -> None:
    for _ in range(3):
        with many_threads() as (process, _):
            ProcessRuntime(tmp_path, "plaintext").pause(processes.running(process.pid))

            states = [each.read_text() for each in Path(f"/proc/{process.pid}/task").glob("*/status")]
            assert [each for each in states if "State:\tT" not in each] == []


def test_a_process_may_be_reaped_while_one_looks_at_its_threads() -> None:
    for _ in range(300):
        with subprocess.Popen(["true"]) as child:
            reaping = Thread(target=child.wait)  # as init does, of a lab that another command started
            reaping.start()
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(child.pid)
                while not processes.is_stopped(process):
                    pass
            reaping.join()
