"""The replicas of a host by address, and what each holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import InputError
from lab.reading import read_json
from models.proto.control.v1 import replicas_pb2
from models.stub.journal import ArrivalJournal
from models.stub.serving import RequestHandler
from models.stub.versions import Identity, Versions

if TYPE_CHECKING:
    import grpc.aio

    from models.stub.behaviour import LiveBehaviour

ARRIVED_AT = "x-arrived-at"
"""Header in which the host's Envoy writes the address that a request arrived at, replacing any from the sender."""


def read_hosted(path: Path) -> list[Identity]:
    """Reads replicas from a JSON file: ``[[cluster, replica, "ip:port"], …]``.

    Raises:
        InputError: the file cannot be read, or two replicas have the same address.
    """
    try:
        hosted = [Identity(*each) for each in read_json(path)]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"--replicas: {path}: {error}; write [[cluster, replica, ip:port], …]") from error
    if len({each.address for each in hosted}) < len(hosted):
        raise InputError(f"--replicas: {path}: an address is listed twice; give each replica its own")
    return hosted


@dataclass(slots=True)
class _Replica:
    versions: Versions
    handler: RequestHandler
    draining: bool = False


class Hosted:
    """All replicas of a host, and which of them have changed since the last report.

    Args:
        replicas: each with a unique address.
        live: the behaviour of all of them.

    Attributes:
        on_change: called when there is something to report.
    """

    def __init__(self, replicas: Iterable[Identity], live: LiveBehaviour) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self._live = live
        self._by_name: dict[str, _Replica] = {}
        self._by_address: dict[str, _Replica] = {}
        self._by_cluster: dict[str, list[_Replica]] = {}
        self._changed: set[str] = set()
        for each in replicas:
            versions = Versions(each, live)
            versions.on_change = partial(self._mark_changed, each.replica)
            # No journals: a scale lab has thousands of replicas, and nobody judges its requests one by one.
            handler = RequestHandler(versions, live, each.replica, journal=ArrivalJournal(kept=0))
            replica = _Replica(versions, handler)
            self._by_name[each.replica] = self._by_address[each.address] = replica
            self._by_cluster.setdefault(each.cluster, []).append(replica)
        self.mark_all_changed()

    def of(self, context: grpc.aio.ServicerContext[Any, Any]) -> RequestHandler:
        """The handler of the replica at the address that a request arrived at; an empty one if there is none."""
        arrived_at = [value for name, value in context.invocation_metadata() or () if name == ARRIVED_AT]
        # The Envoy leaves exactly one; two mean that the request did not come through it.
        found = self._by_address.get(str(arrived_at[0])) if len(arrived_at) == 1 else None
        if found is not None:
            return found.handler
        nobody = f"(none at {', '.join(map(str, arrived_at)) or 'no address'})"
        return RequestHandler(Versions(Identity("", nobody, ""), self._live), self._live, nobody)

    def assign(self, assignment: replicas_pb2.HostAssignment) -> None:
        """Applies an assignment to the replicas of its clusters."""
        for each in assignment.clusters:
            own = replicas_pb2.Assignment(revision=assignment.revision, versions=each.versions)
            for replica in self._by_cluster.get(each.cluster, ()):
                replica.versions.assign(own)

    def drain(self, names: Iterable[str], *, draining: bool) -> None:
        """Drains replicas, or returns them to service; draining replicas still answer.

        Raises:
            InputError: unknown replica.
        """
        for name in names:
            if name not in self._by_name:
                raise InputError(f"replica {name!r} is not on this host")
            self._by_name[name].draining = draining
            self._mark_changed(name)

    def mark_all_changed(self) -> None:
        """Marks all replicas as unreported."""
        self._changed = set(self._by_name)
        self.on_change()

    def take_reports(self) -> list[replicas_pb2.ReplicaReport]:
        """Reports of the replicas that changed since the last call."""
        changed, self._changed = self._changed, set()
        found = ((self._by_name[name].versions, self._by_name[name].draining) for name in sorted(changed))
        return [versions.report(draining=draining) for versions, draining in found]

    def _mark_changed(self, name: str) -> None:
        self._changed.add(name)
        self.on_change()
