"""Gives a fault access to the lab: unit operations, the control plane, the stub models' control API, and probes."""

from __future__ import annotations

import secrets
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lab.client.admin import AdminClient
from lab.clock import lab_time_ns
from lab.errors import InputError, LabError, LabNotRunningError
from lab.faults.unit_operations import UnitOperations
from lab.roles import CONTROL_PLANE, Unit
from lab.routing.document import RouteTable
from lab.routing.keys import HEADER
from lab.routing.uses import grants_of
from lab.runs.announced import announce
from lab.runtime.context import LabContext
from lab.runtime.placement import spread
from lab.transport import open_blocking_channel
from lab.waiting import eventually
from models.apis import APIS
from models.proto.control.v1 import stub_pb2, stub_pb2_grpc

if TYPE_CHECKING:
    from lab.client.admin_values import ControlPlaneStatus

T = TypeVar("T")

CONTROL_S = 5.0
"""Timeout of a call to a replica's control API, seconds."""
BACK_WITHIN = timedelta(seconds=45)
"""For units that a healed fault has hit."""

# Shorter than gRPC's initial connection backoff of one second, which distinguishes silence from refusal.
_ANSWERS_WITHIN_S = 0.7
_PROBE_S = 5.0
_CONNECT_S = 1.0
_CONNECTED_WITHIN_S = 3.0
_AT_ONCE = 50
_POLL_S = 0.05
# Any other status was sent by the unit, so it answers.
_REFUSALS = (grpc.StatusCode.UNAVAILABLE,)


class Liveness(StrEnum):
    """How a unit reacts to a health check."""

    ANSWERS = "answers"
    REFUSES = "refuses"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Probes:
    """Results of probe calls to one replica.

    Attributes:
        statuses: of each call, ``OK`` or gRPC's name of the error.
        latencies_ms: of each call; of one that timed out, the timeout.
    """

    statuses: tuple[str, ...]
    latencies_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """The median latency, milliseconds."""
        return median(self.latencies_ms)

    @property
    def fastest_ms(self) -> float:
        """The shortest latency of the calls answered with OK, or of all if none was. It is least affected by load."""
        answered = [ms for ms, status in zip(self.latencies_ms, self.statuses, strict=True) if status == "OK"]
        return min(answered or self.latencies_ms)

    def count(self, *statuses: str) -> int:
        """Returns how many calls ended with one of these statuses."""
        return sum(each in statuses for each in self.statuses)


@dataclass(frozen=True)
class FaultContext(LabContext):
    """One lab, as faults see it."""

    @cached_property
    def units(self) -> UnitOperations:
        """Operations on its units, each of which is an event of the lab."""
        return UnitOperations(self, audited=False)

    @cached_property
    def unrecorded_units(self) -> UnitOperations:
        """Operations on its units for a fault that is an event itself, so that its parts are not."""
        return UnitOperations(self, recorded=False, audited=False)

    def states(self) -> Mapping[str, str]:
        """Returns each unit's state: ``running``, ``paused`` or ``exited``."""
        state = self.state()
        return self.runtime(state).states(state.running)

    def unit(self, name: str) -> Unit | None:
        """Returns the unit; None if the lab no longer has one of that name."""
        try:
            return self.state().plan.unit(name)
        except KeyError:
            return None

    def nodes(self, count: int) -> Mapping[str, list[str]]:
        """Returns node → units on it; where the runtime has no nodes, as they would be spread over ``count`` nodes."""
        state = self.state()
        return self.runtime(state).nodes() or spread(state.plan, count)

    # -- observing -----------------------------------------------------------------------------------------------

    def control_plane(self, states: Mapping[str, str] | None = None) -> ControlPlaneStatus | None:
        """Returns the control plane's status; None if it does not answer; ``states`` spares reading them again."""
        return self._ask(self.control_planes(states), AdminClient.status)

    def control_planes(self, states: Mapping[str, str] | None = None) -> list[Unit]:
        """Returns the control planes that run. Calls to a frozen one would block until their timeout."""
        if states is None:
            states = self.states()
        return [unit for unit in self.state().plan.with_role(CONTROL_PLANE) if states.get(unit.name) == "running"]

    def liveness(self, names: Iterable[str]) -> dict[str, Liveness]:
        """Returns how each of these units reacts to a health check."""
        units = [unit for name in names if (unit := self.unit(name)) is not None]
        with ThreadPoolExecutor(max(1, len(units))) as pool:
            return dict(zip((unit.name for unit in units), pool.map(_liveness, units), strict=True))

    def loaded_keys(self, names: Iterable[str]) -> dict[str, str]:
        """Returns one routing key that each of these replicas has loaded; replicas without any are left out."""
        known = self.control_plane()
        wanted = set(names)
        return (
            {each.replica: each.loaded[0] for each in known.replicas if each.replica in wanted and each.loaded}
            if known
            else {}
        )

    def apis(self) -> dict[str, str]:
        """Returns an inference API of each routing key, by the table in force; empty if no control plane answers."""
        revision = self._ask(self.control_planes(), AdminClient.revision)
        if revision is None or revision.document is None:
            return {}
        grants = grants_of(RouteTable.of_valid(revision.document))
        return {key: min(grant.apis) for key, grant in grants.items() if grant.apis}

    def _ask(self, running: Sequence[Unit], question: Callable[[AdminClient], T]) -> T | None:
        """Asks one of these control planes; returns None if there is none, or none answers."""
        if not running:
            return None
        try:
            with AdminClient(",".join(unit.address for unit in running), self._channels) as admin:
                return question(admin)
        except LabNotRunningError:
            return None

    def probe(self, name: str, key: str, calls: int, *, api: str) -> Probes | None:
        """Calls a replica directly, without a tenant or user; returns None if the lab does not have it."""
        unit = self.unit(name)
        if unit is None:
            return None
        method, ids = APIS[api].unary, f"probe-{secrets.token_hex(4)}"
        announce(self.folder, ids, f"probes of {name}")
        results: list[tuple[str, float]] = []
        with open_blocking_channel(unit.address) as channel:
            # So that no call's latency includes connecting; without a connection, calls fail and say so.
            with suppress(grpc.FutureTimeoutError):
                grpc.channel_ready_future(channel).result(timeout=_CONNECT_S)
            serialise = type(APIS[api].build_request(0)).SerializeToString
            rpc = channel.unary_unary(method.path, serialise, method.response_class.FromString)

            def ask(number: int) -> tuple[str, float]:
                request = APIS[api].build_request(0)
                request.envelope.request_id = f"{ids}-{number:x}"
                return _timed(rpc, request, key)

            for first in range(0, calls, _AT_ONCE):
                batch = range(first, min(first + _AT_ONCE, calls))
                with ThreadPoolExecutor(len(batch)) as pool:
                    results += pool.map(ask, batch)
        return Probes(tuple(status for status, _ in results), tuple(ms for _, ms in results))

    # -- the stub models' control API ----------------------------------------------------------------------------

    def control(self, name: str, call: Callable[[stub_pb2_grpc.StubControlStub], T]) -> T:
        """Calls a model replica's control API; retries while a fault closes its connections.

        Raises:
            InputError: the replica rejects the arguments.
            LabError: it does not answer.
        """
        unit = self.state().plan.unit(name)
        give_up = time.monotonic() + CONTROL_S
        while True:
            try:
                with open_blocking_channel(unit.address) as channel:
                    return call(stub_pb2_grpc.StubControlStub(channel))
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                    raise InputError(f"{name}: {error.details()}") from None
                is_over = time.monotonic() >= give_up or self.states().get(name) != "running"
                if error.code() is not grpc.StatusCode.UNAVAILABLE or is_over:
                    raise LabError(
                        f"{name}: its control API does not answer ({error.code().name}: {error.details()}); "
                        "start it, resume it, or heal the fault that it is under"
                    ) from None
                time.sleep(_POLL_S)

    def behaviour(self, name: str) -> stub_pb2.Behaviour:
        """Returns a replica's behaviour: latency, error rate, limits, seed."""
        return self.control(name, lambda api: api.GetBehaviour(stub_pb2.GetBehaviourRequest(), timeout=CONTROL_S))

    def set_behaviour(self, name: str, behaviour: stub_pb2.Behaviour) -> None:
        """Changes a replica's behaviour; fields that are not set stay as they are."""
        self.control(name, lambda api: api.SetBehaviour(behaviour, timeout=CONTROL_S))

    def counts(self, name: str) -> stub_pb2.Counts:
        """Returns a replica's counters since it started."""
        return self.control(name, lambda api: api.GetCounts(stub_pb2.GetCountsRequest(), timeout=CONTROL_S))

    def keeps_behaviour(self, name: str) -> bool:
        """Whether a unit still holds a behaviour that was set; one that has exited starts with the default."""
        return self.unit(name) is not None and self.states().get(name, "exited") != "exited"

    def await_control(self, name: str, *, within: timedelta) -> None:
        """Returns once a replica's control API answers. Docker accepts connections to a published port before that.

        Raises:
            DeadlineError: it does not.
        """
        eventually(f"{name} answers", lambda: self._answers(name), within=within)

    def _answers(self, name: str) -> bool:
        with suppress(LabError):
            self.behaviour(name)
            return True
        return False

    # -- waiting -------------------------------------------------------------------------------------------------

    def connection_lifetimes_s(self, names: Iterable[str], *, within_s: float) -> dict[str, float]:
        """Returns the seconds until each replica closes a new connection; those that keep it are left out."""
        units = [unit for name in names if (unit := self.unit(name)) is not None]
        with ThreadPoolExecutor(max(1, len(units))) as pool:
            waited = pool.map(lambda unit: _closed_after_s(unit.address, within_s), units)
            return {unit.name: s for unit, s in zip(units, waited, strict=True) if s is not None}

    def await_units(self, names: Sequence[str]) -> None:
        """Returns once these units answer, and their replicas are registered if the control plane answers.

        Raises:
            DeadlineError: some do not; the message names them.
        """
        replicas = {name for name in names if (unit := self.unit(name)) is not None and unit.cluster}

        def missing() -> list[str]:
            liveness = self.liveness(names)
            if silent := sorted(name for name, each in liveness.items() if each is not Liveness.ANSWERS):
                return silent
            known = self.control_plane() if replicas else None
            return sorted(replicas - {each.replica for each in known.replicas}) if known else []

        eventually("all answer again (still missing)", missing, within=BACK_WITHIN, until=lambda names: not names)

    @staticmethod
    def wait_until(unix_ns: int) -> None:
        """Blocks until that time."""
        time.sleep(max(0.0, (unix_ns - lab_time_ns()) / 1e9))


def _liveness(unit: Unit) -> Liveness:
    if unit.admin is not None:
        return _liveness_by_http(unit.admin.outside)
    with open_blocking_channel(unit.address) as channel:
        try:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_ANSWERS_WITHIN_S)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return Liveness.SILENT
            return Liveness.REFUSES if error.code() in _REFUSALS else Liveness.ANSWERS
    return Liveness.ANSWERS


def _liveness_by_http(address: str) -> Liveness:
    try:
        with urllib.request.urlopen(f"http://{address}/ready", timeout=_ANSWERS_WITHIN_S):
            return Liveness.ANSWERS
    except urllib.error.HTTPError as error:  # it runs, and answers that it is not ready
        error.close()
        return Liveness.ANSWERS
    except TimeoutError:
        return Liveness.SILENT
    except OSError as error:
        return Liveness.SILENT if isinstance(getattr(error, "reason", None), TimeoutError) else Liveness.REFUSES


def _closed_after_s(address: str, within_s: float) -> float | None:
    """Returns the seconds until a new connection is closed; None if it is not, or cannot be opened."""
    left, ready = threading.Event(), threading.Event()

    def on_change(state: grpc.ChannelConnectivity) -> None:
        if state is grpc.ChannelConnectivity.READY:
            ready.set()
        elif ready.is_set():
            left.set()

    with open_blocking_channel(address) as channel:
        channel.subscribe(on_change, try_to_connect=True)
        try:
            if not ready.wait(_CONNECTED_WITHIN_S):
                return None
            began = time.monotonic()
            return time.monotonic() - began if left.wait(within_s) else None
        finally:
            channel.unsubscribe(on_change)


def _timed(rpc: object, request: object, key: str) -> tuple[str, float]:
    began = time.perf_counter()
    try:
        rpc(request, metadata=((HEADER, key),), timeout=_PROBE_S)  # type: ignore[operator] # grpcio's types lack it
    except grpc.RpcError as error:
        status = error.code().name
    else:
        status = "OK"
    return status, (time.perf_counter() - began) * 1_000
