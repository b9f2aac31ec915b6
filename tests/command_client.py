"""``python -IS command_client.py SOCKET ARGUMENT…``: stands in for a ``lab`` command that is forked by its server.

The command gets this process's environment, working directory, files and signals, and this one its exit status.
"""

import json
import os
import signal
import socket
import sys


def main(address: str, *arguments: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(address)
        call = json.dumps([arguments, os.getcwd(), dict(os.environ)])  # noqa: PTH109 (pathlib is slow to import)
        socket.send_fds(server, [call.encode()], [0, 1, 2])
        pid = int(server.recv(16))
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, lambda number, _frame: os.kill(pid, number))
        status = int(server.recv(16))
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    main(*sys.argv[1:])
