"""``python command_server.py FOLDER``: forks ``lab`` commands from one process that has imported what they need.

Imports are most of what a short command costs. A command is still its own process, with its own arguments,
environment, working directory, files and exit status; :mod:`tests.command_client` stands in for it where it is called.
This process ends with its standard input and removes the folder; a command ends with its client.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import shutil
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path

SOCKET = "socket"
"""File in the folder where the server listens."""
_MAX_BYTES = 1 << 18
_PRELOADED = (
    *(f"lab.cli.{name}" for name in ("lifecycle", "call", "load", "routes", "fault", "roll")),
    "lab.plugins.render._command",
)
"""Modules whose imports many commands share; those of benches start threads, which a fork would lack."""


class Server:
    """Forks commands for clients.

    Args:
        listening: where they call.
    """

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._selector = selectors.DefaultSelector()
        self._selector.register(sys.stdin, selectors.EVENT_READ)
        self._selector.register(listening, selectors.EVENT_READ)
        self._running: dict[socket.socket, tuple[int, int]] = {}  # client → process id and its descriptor

    def serve(self) -> bool:
        """Whether this process is a command now; otherwise standard input has ended."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is sys.stdin:
                    for client in [*self._running]:
                        self._end(client, killed=True)
                    return False
                if key.fileobj is self._listening:
                    if self._fork():
                        return True
                elif key.data in self._running:
                    self._end(key.data, killed=key.fileobj is key.data)

    def _fork(self) -> bool:
        """Whether this process is the command."""
        client, _ = self._listening.accept()
        call, files, _, _ = socket.recv_fds(client, _MAX_BYTES, 3)
        if not (pid := os.fork()):
            self._selector.close()
            for each in (self._listening, client, *self._running):
                each.close()
            _become(json.loads(call), files)
            return True
        for file in files:
            os.close(file)
        client.send(str(pid).encode())
        self._running[client] = pid, os.pidfd_open(pid)
        for waited_for in (client, self._running[client][1]):
            self._selector.register(waited_for, selectors.EVENT_READ, client)
        return False

    def _end(self, client: socket.socket, *, killed: bool) -> None:
        pid, descriptor = self._running.pop(client)
        if killed:
            os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        for waited_for in (client, descriptor):
            self._selector.unregister(waited_for)
        os.close(descriptor)
        if not killed:
            client.send(str(status).encode())
        client.close()


def _become(call: tuple[list[str], str, dict[str, str]], files: list[int]) -> None:
    """Gives this process what its client has."""
    arguments, folder, environment = call
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments


def _preload() -> None:
    """Imports what commands need, but leaves their own modules to them: these look kinds up when they are imported."""
    for name in _PRELOADED:
        import_module(name)
    for name in _PRELOADED:
        del sys.modules[name]
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        sys.exit("an import has started a thread, which commands would lack")
    gc.freeze()  # else the collector of each command would write to the pages that all share


def main(folder: Path) -> None:
    """Serves until standard input ends; in a command, runs it."""
    script = Path(sys.executable).parent / "lab"
    sys.path[0], sys.argv[0] = str(script.parent), str(script)
    _preload()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(folder / SOCKET))
        listening.listen()
        os.write(1, b"ready\n")
        is_command = Server(listening).serve()
    if is_command:
        import_module("lab.cli").main()
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
