"""A proxy's process, which never outlives this one."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from threading import Thread
from typing import IO

import psutil

from lab.errors import UnitError

# Debian's servers are where an unprivileged user's PATH does not lead.
_MORE_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
_POLL_INTERVAL_S = 0.01
# Unless it reads a line, this process has been killed: ends the rest of its group, and removes the folder. A signal at
# the parent's death would reach the proxy's first process alone.
_REAPER = 'trap "" TERM; read -r _ || { kill -KILL "-$1"; rm -rf "$0"; }'


def path_of(program: str) -> str | None:
    """Where a program is; None if it is not installed."""
    # uv leaves Caddy's wheel there, where pip puts its program beside Python's.
    unmoved = Path(sysconfig.get_path("platlib"), ".data", "scripts")
    search = os.pathsep.join((str(Path(sys.executable).parent), str(unmoved), os.environ.get("PATH", ""), _MORE_PATH))
    return shutil.which(program, path=search)


class Child:
    """A proxy's process, in this process's group, with its own folder.

    Not asyncio's: that forks, and gRPC's threads forbid it.

    Attributes:
        graceful: the signal at which it ends once its requests have.
        folder: for its files; short, as it may have Unix sockets, and removed when this process ends.
        last_line: the last line that it wrote.
    """

    graceful = signal.SIGTERM

    def __init__(self) -> None:
        if os.getpgrp() != os.getpid():
            os.setpgid(0, 0)  # the reaper ends the whole group
        self.folder = Path(mkdtemp(prefix="lab-proxy-"))
        self.last_line = ""
        self._process: subprocess.Popen[bytes] | None = None
        argv = ("/bin/sh", "-c", _REAPER, str(self.folder), str(os.getpgrp()))
        # It must outlive the group, and `lab down`, which ends all processes with the lab's mark.
        self._reaper = subprocess.Popen(argv, stdin=subprocess.PIPE, env={}, start_new_session=True)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._started.pid

    def run(
        self,
        argv: Sequence[str],
        *,
        remedy: str,
        environment: Mapping[str, str] | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        """Starts it.

        Args:
            argv: the command.
            remedy: what to do if there is no such program.
            environment: variables besides this process's own.
            listener: a socket that it has, too, under the same number.

        Raises:
            UnitError: there is none.
        """
        program = path_of(argv[0])
        if program is None:
            raise UnitError(f"{argv[0]} is not installed: {remedy}")
        self._process = subprocess.Popen(
            (program, *argv[1:]),
            cwd=self.folder,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(listener.fileno(),) if listener else (),
        )
        assert self._process.stdout is not None  # noqa: S101 (it is a pipe)
        Thread(target=self._pass_on, args=(self._process.stdout,), daemon=True).start()

    def _pass_on(self, lines: IO[bytes]) -> None:
        for line in lines:
            self.last_line = line.decode(errors="replace").strip() or self.last_line
            sys.stderr.write(line.decode(errors="replace"))

    async def listening(self, path: Path) -> None:
        """Returns once it accepts connections at a Unix socket.

        Raises:
            UnitError: it has ended.
        """
        while self._started.poll() is None:
            try:
                _, writer = await asyncio.open_unix_connection(str(path))
            except (FileNotFoundError, ConnectionRefusedError):
                await asyncio.sleep(_POLL_INTERVAL_S)
            else:
                writer.close()
                return
        raise UnitError(f"it ended: {self.last_line}")

    async def ended(self) -> str:
        """Returns its last line once it has ended."""
        status = await asyncio.to_thread(self._started.wait)
        return self.last_line or f"exit status {status}"

    def send_signal(self, number: signal.Signals) -> None:
        """Sends it a signal; without effect if it has ended."""
        self._started.send_signal(number)

    async def stop(self, within_s: float) -> None:
        """Ends it gracefully, kills it and what it has started after ``within_s`` seconds, and removes its folder."""
        if self._process is not None:
            self._process.send_signal(self.graceful)
            try:
                await asyncio.to_thread(self._process.wait, within_s)
            except subprocess.TimeoutExpired:
                _kill_tree(self._process.pid)
                await asyncio.to_thread(self._process.wait)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._reaper.communicate(b"well\n")

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it has not been started"  # noqa: S101 (a bug of this package)
        return self._process


def _kill_tree(pid: int) -> None:
    """Kills a process and all that it has started; not its group, which is this process's."""
    with suppress(psutil.NoSuchProcess):
        tree = psutil.Process(pid)
        for process in (*tree.children(recursive=True), tree):
            with suppress(psutil.NoSuchProcess):
                process.kill()
