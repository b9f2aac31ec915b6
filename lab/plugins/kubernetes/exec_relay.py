"""Executes a command in a driver's container, with this process's input and output.

``python -m lab.plugins.kubernetes.exec_relay LAB_FOLDER POD COMMAND…``. Exits with the command's status; if the input
ends or this process is killed, the command's input ends, too.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx2
from httpx2.websockets import AsyncWebSocketSession, HTTPXWSException
from lightkube.config.client_adapter import AsyncClient, ConnectionParams

from lab.plugins.kubernetes.api import configuration
from lab.plugins.kubernetes.naming import DRIVER
from lab.plugins.kubernetes.options import Options

_STDIN, _STDOUT, _STDERR, _STATUS = 0, 1, 2, 3
_PROTOCOLS = ["v5.channel.k8s.io", "v4.channel.k8s.io"]
_CHUNK = 32 * 1024  # an API server closes a connection with longer frames
_LOST = 1


async def relay(lab: Path, pod: str, command: list[str]) -> int:
    """Returns the command's exit status; 1 if the connection to the pod is lost."""
    options = Options.of(lab)
    path = f"/api/v1/namespaces/{options.namespace}/pods/{pod}/exec"
    streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), "true")
    client = AsyncClient(configuration(options.context), ConnectionParams(timeout=httpx2.Timeout(10.0)))
    async with (
        client,
        client.websocket(
            path,
            params={**streams, "container": DRIVER, "command": command},
            subprotocols=_PROTOCOLS,
            keepalive_ping_interval_seconds=None,
        ) as socket,
    ):
        sending, receiving = asyncio.ensure_future(_send(socket)), asyncio.ensure_future(_receive(socket))
        await asyncio.wait([sending, receiving], return_when=asyncio.FIRST_COMPLETED)
        sending.cancel()
        return receiving.result() if receiving.done() else _LOST


async def _send(socket: AsyncWebSocketSession) -> None:
    """Passes the input on until it ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while chunk := await reader.read(_CHUNK):
        await socket.send_bytes(bytes((_STDIN,)) + chunk)


async def _receive(socket: AsyncWebSocketSession) -> int:
    """Passes the output on until the command ends; returns its status."""
    outputs = {_STDOUT: sys.stdout.buffer, _STDERR: sys.stderr.buffer}
    while True:
        message = await socket.receive_bytes()
        channel, content = message[0], message[1:]
        if channel == _STATUS:
            return _status(json.loads(content))
        if channel in outputs and content:
            outputs[channel].write(content)
            outputs[channel].flush()


def _status(said: dict[str, Any]) -> int:
    if said.get("status") == "Success":
        return 0
    causes = (said.get("details") or {}).get("causes") or []
    codes = [int(each["message"]) for each in causes if each.get("reason") == "ExitCode"]
    if not codes:
        print(f"Kubernetes: {said.get('message', 'the command did not run')}", file=sys.stderr)  # noqa: T201 (a program)
    return codes[0] if codes else _LOST


def main() -> None:
    """Runs the program, for its arguments see the module."""
    lab, pod, *command = sys.argv[1:]
    try:
        status = asyncio.run(relay(Path(lab), pod, command))
    except* (httpx2.HTTPError, HTTPXWSException, OSError) as errors:
        reason = " ".join(str(errors.exceptions[0]).split())
        print(f"pod {pod}: the connection is lost: {reason}", file=sys.stderr)  # noqa: T201 (a program)
        status = _LOST
    sys.exit(status)


if __name__ == "__main__":
    main()
