"""Forwards ports of this machine's loopback to ports of a lab's pods, over the API's websockets.

``python -m lab.plugins.kubernetes.forwarding FOLDER`` does so for the lab in a folder, until its file is gone. A
connection goes to the pod that has the name at that moment, so that clients need not know when a pod is replaced.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import anyio
import httpx2
import psutil
from httpx2.websockets import AsyncWebSocketSession, HTTPXWSException, WebSocketUpgradeError
from lightkube.config.client_adapter import AsyncClient, ConnectionParams

from lab import PYTHON
from lab.plugins.kubernetes.api import configuration
from lab.plugins.kubernetes.naming import INSTANCE, POD
from lab.plugins.kubernetes.options import Options
from lab.reading import read_json
from lab.runtime import ports

FORWARDS_FILE = "forwards.json"
"""In the lab's folder: port of this machine → pod and port of the pod."""
_PROCESS_FILE = "forwarding.json"
_LOOK_S = 0.2
_CHUNK = 32 * 1024  # an API server closes a connection with longer frames
_PROTOCOL = "v4.channel.k8s.io"
# A channel for data and one for errors; the first message of each is the port again.
_DATA, _ERROR = 0, 1
_PREFACE_BYTES = 2

Forwards = Mapping[int, tuple[str, int]]
"""Port of this machine → name of a pod in the plan, and port of the pod."""


class Forwarder:
    """Listens on ports of 127.0.0.1, and forwards each connection."""

    def __init__(self, options: Options, lab: str) -> None:
        self._options, self._lab = options, lab
        self._config = configuration(options.context)
        self._clients: dict[str, httpx2.AsyncClient] = {}
        self._servers: dict[int, asyncio.Server] = {}
        self._pods: dict[str, str] = {}

    async def listen(self, forwards: Forwards) -> None:
        """Forwards these ports and no others from now on; open connections stay open."""
        for port in set(self._servers) - set(forwards):
            self._servers.pop(port).close()
        for port, (pod, number) in forwards.items():
            if port not in self._servers:

                async def accept(
                    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pod: str = pod, number: int = number
                ) -> None:
                    await self._forward(pod, number, reader, writer)

                self._servers[port] = await asyncio.start_server(accept, ports.HOST, port)

    async def close(self) -> None:
        """Stops listening."""
        await self.listen({})
        for client in self._clients.values():
            await client.aclose()

    def _client(self, pod: str) -> httpx2.AsyncClient:
        """One for each pod: a client has a hundred connections at most."""
        if pod not in self._clients:
            self._clients[pod] = AsyncClient(self._config, ConnectionParams(timeout=httpx2.Timeout(10.0)))
        return self._clients[pod]

    async def _forward(self, pod: str, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            known = self._pods.get(pod)
            client = self._client(pod)
            if known is None or not await self._relay(client, known, number, reader, writer):
                found = await self._find(client, pod)
                if found is not None and found != known:
                    self._pods[pod] = found
                    await self._relay(client, found, number, reader, writer)
        except (httpx2.HTTPError, OSError):
            pass  # the client sees a connection that is closed
        finally:
            writer.close()

    async def _find(self, client: httpx2.AsyncClient, pod: str) -> str | None:
        """The name that the cluster has given to a pod of the plan, if it runs."""
        answer = await client.get(
            f"/api/v1/namespaces/{self._options.namespace}/pods",
            params={"labelSelector": f"{INSTANCE}={self._lab},{POD}={pod}"},
        )
        answer.raise_for_status()
        for each in answer.json()["items"]:
            if each.get("status", {}).get("podIP") and "deletionTimestamp" not in each["metadata"]:
                return str(each["metadata"]["name"])
        return None

    async def _relay(
        self,
        client: httpx2.AsyncClient,
        pod: str,
        number: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Relays one connection to its end; returns whether there was such a pod."""
        path = f"/api/v1/namespaces/{self._options.namespace}/pods/{pod}/portforward"
        try:
            async with client.websocket(
                path, params={"ports": str(number)}, subprotocols=[_PROTOCOL], keepalive_ping_interval_seconds=None
            ) as socket:
                tasks = [asyncio.ensure_future(_send(reader, socket)), asyncio.ensure_future(_receive(socket, writer))]
                try:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)
        except WebSocketUpgradeError:
            return False
        except (HTTPXWSException, BaseExceptionGroup, anyio.ClosedResourceError):
            pass  # the client sees a connection that is closed
        return True


async def _send(reader: asyncio.StreamReader, socket: AsyncWebSocketSession) -> None:
    while chunk := await reader.read(_CHUNK):
        await socket.send_bytes(bytes((_DATA,)) + chunk)


async def _receive(socket: AsyncWebSocketSession, writer: asyncio.StreamWriter) -> None:
    greeted: set[int] = set()
    while True:
        message = await socket.receive_bytes()
        channel, content = message[0], message[1:]
        if channel not in greeted:
            greeted.add(channel)
            content = content[_PREFACE_BYTES:]
        if channel == _ERROR and content:
            return
        if channel == _DATA and content:
            writer.write(content)
            await writer.drain()


async def serve(folder: Path) -> None:
    """Forwards for the lab in a folder, also what is added later, until the lab is gone."""
    forwarder = Forwarder(Options.of(folder), folder.name)
    file, seen = folder / FORWARDS_FILE, 0
    while True:
        try:
            version = file.stat().st_mtime_ns
        except FileNotFoundError:
            break
        if version != seen:
            with suppress(ValueError):  # it is being written
                await forwarder.listen(_read(file))
                seen = version
        await asyncio.sleep(_LOOK_S)
    await forwarder.close()


def _read(file: Path) -> Forwards:
    return {int(port): (pod, number) for port, (pod, number) in read_json(file).items()}


def write(folder: Path, forwards: Forwards) -> None:
    """Writes which ports are forwarded for the lab in a folder."""
    scratch = folder / f"{FORWARDS_FILE}.new"
    scratch.write_text(json.dumps(forwards))
    scratch.replace(folder / FORWARDS_FILE)


def ensure(folder: Path) -> None:
    """Starts the process that forwards for the lab in a folder, unless it runs; it outlives this one."""
    if _process(folder) is not None:
        return
    log = os.open(folder / "forwarding.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        started = subprocess.Popen(
            [*PYTHON, "-m", __spec__.name, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    finally:
        os.close(log)
    created = psutil.Process(started.pid).create_time()
    (folder / _PROCESS_FILE).write_text(json.dumps({"pid": started.pid, "created": created}))
    started.returncode = 0  # it is not waited for


def end(folder: Path) -> None:
    """Ends that process."""
    (folder / FORWARDS_FILE).unlink(missing_ok=True)
    process = _process(folder)
    if process is not None:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
            with suppress(psutil.TimeoutExpired):
                process.wait(5)
    (folder / _PROCESS_FILE).unlink(missing_ok=True)


def _process(folder: Path) -> psutil.Process | None:
    with suppress(OSError, ValueError, KeyError, psutil.NoSuchProcess):
        kept = read_json(folder / _PROCESS_FILE)
        process = psutil.Process(kept["pid"])
        if process.create_time() == kept["created"] and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
