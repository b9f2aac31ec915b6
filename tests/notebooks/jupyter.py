"""JupyterLab as `make notebooks` starts it."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lab import CHECKOUT
from lab.lab import Lab
from lab.waiting import eventually


@contextmanager
def make_notebooks(lab: Lab, token: str, log: Path, arguments: str = "--no-browser") -> Iterator[dict[str, Any]]:
    """``make notebooks`` as long as the block lasts, and what the server says of itself."""
    command = ["make", "notebooks", f"NAME={lab.name}", f"ARGS=--port=0 {arguments}"]
    environment = {**os.environ, "JUPYTER_TOKEN": token}
    with (
        log.open("w") as file,
        subprocess.Popen(
            command, cwd=CHECKOUT, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        ) as make,
    ):

        def look() -> dict[str, Any] | None:
            assert make.poll() is None, log.read_text()
            found = [path.read_text() for path in log.parent.glob("JUPYTER_RUNTIME_DIR/jpserver-*.json")]
            if not found or not found[0].endswith("}"):
                return None
            said = json.loads(found[0])
            with socket.socket() as probe:  # it says where it will listen a moment before it does
                return said if probe.connect_ex(("127.0.0.1", said["port"])) == 0 else None

        ends = make.pid
        try:
            server = eventually("JupyterLab is up", look, within=timedelta(seconds=60), until=lambda it: it is not None)
            assert server is not None
            ends = server["pid"]
            yield server
        finally:
            # The server alone, as it ends its kernels first; make has nothing to do but wait for it.
            os.kill(ends, signal.SIGTERM)
            try:
                make.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(make.pid, signal.SIGKILL)


def ask(url: str, token: str, body: bytes | None = None) -> tuple[int, str]:
    """Status and body of what an HTTP server on this machine answers; with a body, to a POST."""
    address = urlsplit(url)
    connection = HTTPConnection(address.netloc, timeout=20)
    with closing(connection):
        headers = {"Authorization": f"token {token}"}
        connection.request("GET" if body is None else "POST", address.path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
