"""The model versions of one replica: loaded and unloaded as the control plane assigns them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from lab.routing.keys import routing_key, version_key
from models.proto.control.v1 import replicas_pb2
from models.proto.serving.v1 import serving_pb2
from models.stub.admission import LoadedVersion, Suspended

if TYPE_CHECKING:
    from models.stub.behaviour import LiveBehaviour

log = logging.getLogger(__name__)


class Identity(NamedTuple):
    """The identity of a replica.

    Attributes:
        address: ``host:port`` at which callers reach it; unique.
    """

    cluster: str
    replica: str
    address: str


class Versions:
    """The versions that this replica has loaded, is loading, or could not load.

    It lives on the event loop, and no method blocks.

    Attributes:
        loaded: loaded versions by routing key.
        starting: whether it has not yet loaded, or failed to load, what it was first assigned.
        suspended: whose requests are refused, as :class:`Suspended` puts it; None if nobody's.
        on_change: called when the result of :meth:`report` has changed.
    """

    def __init__(self, identity: Identity, live: LiveBehaviour) -> None:
        self.loaded: dict[str, LoadedVersion] = {}
        self.starting = True
        self.suspended: Suspended | None = None
        self.on_change: Callable[[], None] = lambda: None
        self._identity = identity
        self._live = live
        self._revision = 0
        self._assignments: dict[str, replicas_pb2.Assignment] = {}  # by control plane
        self._gone: set[str] = set()
        self._assigned: dict[str, replicas_pb2.AssignedVersion] = {}
        self._loading: dict[str, asyncio.TimerHandle] = {}
        self._failures: dict[str, str] = {}

    def assign(self, assignment: replicas_pb2.Assignment, by: str = "") -> None:
        """Applies an assignment: unloads versions that it does not name at once, starts loading new ones.

        Versions that are loaded or loading stay; failed ones are retried. With several control planes, the replica
        holds every version that one of them assigns.

        Args:
            assignment: the versions.
            by: the control plane that assigns them.
        """
        self._assignments[by] = assignment
        self._revision = assignment.revision
        self._gone.discard(by)
        self._hold_assigned()

    def control_plane_lost(self, by: str) -> None:
        """Keeps a lost control plane's assignment only until another one assigns something."""
        self._gone.add(by)
        if self._assignments.keys() - self._gone:
            self._hold_assigned()

    def _hold_assigned(self) -> None:
        if self._assignments.keys() - self._gone:
            self._assignments = {by: each for by, each in self._assignments.items() if by not in self._gone}
        self.suspended = Suspended.by(each.suspension for each in self._assignments.values())
        self._assigned = {
            each.routing_key: each for assignment in self._assignments.values() for each in assignment.versions
        }
        for key in self._loading.keys() - self._assigned.keys():
            self._loading.pop(key).cancel()
        gone = self.loaded.keys() - self._assigned.keys()
        self.loaded = {key: self._loaded_version(self._assigned[key]) for key in self.loaded if key not in gone}
        self._failures.clear()
        log.info("revision %d assigns %s", self._revision, ", ".join(sorted(self._assigned)) or "nothing")
        for key in self._assigned:
            self._load(key)
        self.starting = self.starting and bool(self._loading)
        self.on_change()

    def retry(self) -> None:
        """Retries versions that could not be loaded; the cause may be gone."""
        for key in list(self._failures):
            del self._failures[key]
            self._load(key)
        self.on_change()

    def reload(self) -> None:
        """Unloads all versions, and starts loading them again."""
        self.close()
        self.loaded = {}
        self._failures.clear()
        for key in self._assigned:
            self._load(key)
        self.on_change()

    def report(self, *, draining: bool, to: str = "") -> replicas_pb2.ReplicaReport:
        """The replica's state, with the revision of the latest assignment of the addressed control plane."""
        return replicas_pb2.ReplicaReport(
            cluster=self._identity.cluster,
            replica=self._identity.replica,
            address=self._identity.address,
            loaded=sorted(self.loaded),
            revision=self._assignments[to].revision if to in self._assignments else 0,
            failures=[
                replicas_pb2.LoadFailure(routing_key=key, reason=self._failures[key]) for key in sorted(self._failures)
            ],
            draining=draining,
            suspension=self._assignments[to].suspension.number if to in self._assignments else 0,
        )

    def close(self) -> None:
        """Stops loading."""
        for timer in self._loading.values():
            timer.cancel()
        self._loading.clear()

    def _load(self, key: str) -> None:
        if key in self.loaded or key in self._loading:
            return
        assigned = self._assigned[key]
        behaviour = self._live.behaviour
        named = routing_key(assigned.model, assigned.version)
        if version_key(key) != named:
            self._failures[key] = f"the key does not name {assigned.model}@{assigned.version}, which is {named}"
        elif key in behaviour.refuse_to_load:
            self._failures[key] = "refuse_to_load names it; clear that with StubControl.SetBehaviour"
        elif behaviour.warm_up_ms > 0:
            delay_s = behaviour.warm_up_ms / 1_000
            self._loading[key] = asyncio.get_running_loop().call_later(delay_s, self._finish_loading, key)
        else:
            self.loaded[key] = self._loaded_version(assigned)

    def _finish_loading(self, key: str) -> None:
        del self._loading[key]
        self.loaded[key] = self._loaded_version(self._assigned[key])
        self.starting = self.starting and bool(self._loading)
        log.info("loaded %s", key)
        self.on_change()

    def _loaded_version(self, assigned: replicas_pb2.AssignedVersion) -> LoadedVersion:
        answered_by = serving_pb2.AnsweredBy(
            cluster=self._identity.cluster,
            model=assigned.model,
            version=assigned.version,
            replica=self._identity.replica,
            revision=self._revision,
        )
        return LoadedVersion(
            assigned.routing_key,
            assigned.model,
            assigned.version,
            answered_by,
            frozenset(assigned.callers),
            frozenset(assigned.apis),
        )
