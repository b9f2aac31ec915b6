"""A proxy that a lab in plaintext configures: publishes its route table, and registers the models as replicas.

The lab is the one that ``LAB_NAME`` names, and best has nothing else to do: its route table is replaced.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import grpc

from lab.client.admin import AdminClient
from lab.lab import Lab
from lab.transport import open_blocking_channel
from models.proto.control.v1 import replicas_pb2, replicas_pb2_grpc

if TYPE_CHECKING:
    from lab.plugins.conform.control import Document

_AUTHOR = "lab conform"
_HEARTBEAT_S, _PAUSE_S = 0.1, 0.05
_READ_BYTES = 4_096

Clusters = Mapping[str, Sequence[str]]


def cluster_of(backends: Iterable[Mapping[str, Any]]) -> str:
    """Name of the cluster that consists of these models."""
    return "-".join(("conform", *(each["model"] for each in backends)))


class Published:
    """A lab's control plane, as its models and its operator use it.

    Args:
        route_table: the lab's route table for a table of routes, and the addresses of the replicas by cluster.
    """

    def __init__(self, route_table: Callable[[Document], tuple[dict[str, Any], Clusters]]) -> None:
        self._route_table = route_table
        self._registered: dict[tuple[str, str], _Replica] = {}

    async def apply(self, table: Document) -> None:
        """Registers replicas of clusters that are new, and publishes."""
        lab = Lab(os.environ.get("LAB_NAME", "default"))
        control_plane = (await asyncio.to_thread(lab.endpoints)).control_plane
        routes, clusters = self._route_table(table)
        for place in ((cluster, address) for cluster, addresses in clusters.items() for address in addresses):
            if place not in self._registered:
                self._registered[place] = _Replica(control_plane, *place)
        await asyncio.to_thread(_publish, control_plane, json.dumps(routes))

    async def close(self) -> None:
        """Ends the registrations."""
        for each in self._registered.values():
            each.end()
        self._registered.clear()


def _publish(control_plane: str, text: str) -> None:
    with AdminClient(control_plane) as admin:
        admin.publish([("conform.yaml", text)], author=_AUTHOR)


class _Replica:
    """Keeps a model registered while it accepts connections.

    In threads, as the control plane takes a replica out that is silent for a second, and checks may keep the event loop
    busy for longer.
    """

    def __init__(self, control_plane: str, cluster: str, address: str) -> None:
        self._control_plane = control_plane
        name = f"{cluster}-{address.rpartition(':')[2]}"
        self._report = replicas_pb2.ReplicaReport(cluster=cluster, replica=name, address=address)
        self._ended = Event()
        Thread(target=self._watch, daemon=True).start()

    def end(self) -> None:
        self._ended.set()

    def _watch(self) -> None:
        host, _, port = self._report.address.rpartition(":")
        while not self._ended.is_set():
            try:
                with socket.create_connection((host, int(port)), timeout=_PAUSE_S) as model:
                    self._register(model)
            except OSError:
                self._ended.wait(_PAUSE_S)

    def _register(self, model: socket.socket) -> None:
        """Registers until the model closes this connection."""
        gone = Event()
        with open_blocking_channel(self._control_plane) as channel:
            call = replicas_pb2_grpc.ReplicasStub(channel).Register(self._reports(gone))
            Thread(target=self._follow, args=(call,), daemon=True).start()
            while not self._ended.is_set():
                try:
                    if not model.recv(_READ_BYTES):
                        break
                except TimeoutError:
                    continue
            gone.set()
            call.cancel()

    def _reports(self, gone: Event) -> Iterator[replicas_pb2.ReplicaReport]:
        while not gone.is_set():
            yield self._report
            gone.wait(_HEARTBEAT_S)

    def _follow(self, assignments: Iterable[replicas_pb2.Assignment]) -> None:
        with suppress(grpc.RpcError):  # it ends when the model or the lab does
            for each in assignments:
                loaded = [version.routing_key for version in each.versions]
                self._report = replicas_pb2.ReplicaReport(
                    cluster=self._report.cluster,
                    replica=self._report.replica,
                    address=self._report.address,
                    loaded=loaded,
                    revision=each.revision,
                )
