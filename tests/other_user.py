"""What another user of this machine gets who tries something."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from lab import CHECKOUT
from tests.missing import missing

NOBODY = 65534
# Imports before it becomes another user, who may not be able to read the modules.
_PROGRAM = f"""
import encodings.idna, http.client, json, os, socket, sys
kind, target, *more = json.loads(sys.argv[1])
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
try:
    if kind == "connect":
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(target)
        print("connected")
    elif kind == "read":
        with open(target, "rb") as file:
            file.read(1)
        print("read")
    else:
        page = http.client.HTTPConnection("localhost" if target.startswith("/") else target, timeout=5)
        if target.startswith("/"):
            page.sock = socket.socket(socket.AF_UNIX)
            page.sock.connect(target)
        page.request(kind, *more)
        print(f"HTTP {{page.getresponse().status}}")
except OSError as error:
    print(error.strerror or type(error).__name__)
"""


def as_another_user(kind: str, target: str, *more: str) -> str:
    """How it ends: ``connected``, ``read`` or ``HTTP 200``, or else the operating system's reason.

    Args:
        kind: ``connect`` to a Unix socket, ``read`` a file, or an HTTP method.
        target: path, or ``host:port``.
        more: of an HTTP request, its path.
    """
    if os.geteuid() != 0:
        missing("only root can become another user")
    command = [sys.executable, "-c", _PROGRAM, json.dumps([kind, target, *more])]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.strip()
