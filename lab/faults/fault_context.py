"""What a fault finds of a lab that is up: hands on its units, its control plane, its models' dials, and probes."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lab.admin import AdminClient
from lab.errors import InputError, LabError, LabNotRunningError
from lab.faults.unit_operations import Hands
from lab.plan.control_planes import CONTROL_PLANE
from lab.routing.keys import HEADER
from lab.runtime import make_runtime
from lab.runtime.state import LabState
from lab.transport import ChannelCache, open_blocking_channel
from lab.waiting import eventually
from models.apis import APIS
from models.proto.control.v1 import stub_pb2, stub_pb2_grpc
from models.proto.ranking.v1 import ranking_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import timedelta
    from pathlib import Path

    from lab.admin import ControlPlaneStatus
    from lab.plan.units import Unit
    from lab.runtime import Runtime

T = TypeVar("T")

CONTROL_S = 5.0
"""Seconds within which a replica's control API answers."""

# Shorter than gRPC's one second for an attempt to connect: then silence and refusal can be told apart.
_ANSWERS_WITHIN_S = 0.7
_PROBE_S = 5.0
_CONNECT_S = 1.0
_CONNECTED_WITHIN_S = 3.0
_AT_ONCE = 50
_POLL_S = 0.05
# As many refusals as say that nobody is there; everything else is an answer.
_REFUSALS = (grpc.StatusCode.UNAVAILABLE,)


class Life(StrEnum):
    """How a unit takes a question."""

    ANSWERS = "answers"
    REFUSES = "refuses"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Probes:
    """What probe calls to one replica came to.

    Attributes:
        statuses: of each call, ``OK`` or gRPC's name of the error.
        latencies_ms: of each call, likewise; for one that was given up, until then.
    """

    statuses: tuple[str, ...]
    latencies_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """The middle latency."""
        return median(self.latencies_ms)

    @property
    def fastest_ms(self) -> float:
        """The shortest latency of those that were answered, of all if none was; a busy machine lengthens it last."""
        answered = [ms for ms, status in zip(self.latencies_ms, self.statuses, strict=True) if status == "OK"]
        return min(answered or self.latencies_ms)

    def count(self, *statuses: str) -> int:
        """How many came to one of these."""
        return sum(each in statuses for each in self.statuses)


@dataclass(frozen=True)
class Scene:
    """One lab.

    Attributes:
        folder: the lab's own.
    """

    folder: Path

    @property
    def state(self) -> LabState:
        """What the lab wrote down about itself, as it is now."""
        return LabState.of(self.folder)

    @cached_property
    def hands(self) -> Hands:
        """Hands on its units."""
        return Hands(self.folder, audited=False)

    @cached_property
    def quiet_hands(self) -> Hands:
        """The same, for a fault that is an act itself: what it consists of is not written down."""
        return Hands(self.folder, writes_down=False, audited=False)

    @cached_property
    def _channels(self) -> ChannelCache:
        return ChannelCache()

    @property
    def runtime(self) -> Runtime:
        """What carries its units out."""
        state = self.state
        return make_runtime(state.runtime, self.folder, state.security)

    def states(self) -> Mapping[str, str]:
        """Each unit: ``running``, ``paused`` or ``exited``."""
        return self.runtime.states(self.state.running)

    def unit(self, name: str) -> Unit | None:
        """The unit; None if the lab has none of that name any more."""
        try:
            return self.state.plan.unit(name)
        except KeyError:
            return None

    # -- looking -------------------------------------------------------------------------------------------------

    def control_plane(self, states: Mapping[str, str] | None = None) -> ControlPlaneStatus | None:
        """What the control plane knows; None if it does not answer.

        Args:
            states: those of its units, for whoever has just looked.
        """
        running = self.control_planes(states)
        if not running:
            return None
        try:
            with AdminClient(",".join(unit.address for unit in running), self._channels) as admin:
                return admin.status()
        except LabNotRunningError:
            return None

    def control_planes(self, states: Mapping[str, str] | None = None) -> list[Unit]:
        """Those that run, by ``states`` if these were just looked at; a frozen one would keep everybody waiting."""
        if states is None:
            states = self.states()
        return [unit for unit in self.state.plan.with_role(CONTROL_PLANE) if states.get(unit.name) == "running"]

    def admin(self) -> AdminClient:
        """The operator's side of the control plane."""
        return AdminClient(self.state.plan.control_plane)

    def life(self, names: Iterable[str]) -> dict[str, Life]:
        """How each of these units takes a question."""
        units = [unit for name in names if (unit := self.unit(name)) is not None]
        with ThreadPoolExecutor(max(1, len(units))) as pool:
            return dict(zip((unit.name for unit in units), pool.map(_life, units), strict=True))

    def keys(self, names: Iterable[str]) -> dict[str, str]:
        """A routing key that each of these replicas answers; without those that hold none."""
        known = self.control_plane()
        wanted = set(names)
        return (
            {each.replica: each.loaded[0] for each in known.replicas if each.replica in wanted and each.loaded}
            if known
            else {}
        )

    def probe(self, name: str, key: str, calls: int) -> Probes | None:
        """Calls a replica directly, in the name of nobody; None if it is not there."""
        unit = self.unit(name)
        if unit is None:
            return None
        request = APIS["ranking.v1"].build_request(0)
        results: list[tuple[str, float]] = []
        with open_blocking_channel(unit.address) as channel:
            # No call is to wait for the connection; if there is none, it says so.
            with suppress(grpc.FutureTimeoutError):
                grpc.channel_ready_future(channel).result(timeout=_CONNECT_S)
            rank = ranking_pb2_grpc.RankingStub(channel).Rank
            for first in range(0, calls, _AT_ONCE):
                batch = range(first, min(first + _AT_ONCE, calls))
                with ThreadPoolExecutor(len(batch)) as pool:
                    results += pool.map(lambda _: _timed(rank, request, key), batch)
        return Probes(tuple(status for status, _ in results), tuple(ms for _, ms in results))

    # -- dials ---------------------------------------------------------------------------------------------------

    def ask(self, name: str, question: Callable[[stub_pb2_grpc.StubControlStub], T]) -> T:
        """Asks a model replica's control API; again and again, if its connections are being closed.

        Raises:
            LabError: it does not answer; what it says otherwise.
        """
        unit = self.state.plan.unit(name)
        give_up = time.monotonic() + CONTROL_S
        while True:
            try:
                with open_blocking_channel(unit.address) as channel:
                    return question(stub_pb2_grpc.StubControlStub(channel))
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                    raise InputError(f"{name}: {error.details()}") from None
                is_over = time.monotonic() >= give_up or self.states().get(name) != "running"
                if error.code() is not grpc.StatusCode.UNAVAILABLE or is_over:
                    raise LabError(
                        f"{name}: its dials do not answer ({error.code().name}: {error.details()}); "
                        "start it, resume it, or heal what keeps it from answering"
                    ) from None
                time.sleep(_POLL_S)

    def behaviour(self, name: str) -> stub_pb2.Behaviour:
        """How a replica's dials stand."""
        return self.ask(name, lambda api: api.GetBehaviour(stub_pb2.GetBehaviourRequest(), timeout=CONTROL_S))

    def turn(self, name: str, behaviour: stub_pb2.Behaviour) -> None:
        """Turns a replica's dials."""
        self.ask(name, lambda api: api.SetBehaviour(behaviour, timeout=CONTROL_S))

    def counts(self, name: str) -> stub_pb2.Counts:
        """What a replica has received since it began."""
        return self.ask(name, lambda api: api.GetCounts(stub_pb2.GetCountsRequest(), timeout=CONTROL_S))

    def can_be_dialled(self, name: str) -> bool:
        """Whether a unit still stands that would keep what was dialled; one that has ended has forgotten it."""
        return self.unit(name) is not None and self.states().get(name, "exited") != "exited"

    def await_answering(self, name: str, *, within: timedelta) -> None:
        """Returns as soon as a replica's control API answers; where Docker publishes its port, it accepts before.

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

    def watch_closing(self, names: Iterable[str], *, within_s: float) -> dict[str, float]:
        """After how many seconds each replica closes a connection; without those that did not until ``within_s``."""
        units = [unit for name in names if (unit := self.unit(name)) is not None]
        with ThreadPoolExecutor(max(1, len(units))) as pool:
            waited = pool.map(lambda unit: _closed_after_s(unit.address, within_s), units)
            return {unit.name: s for unit, s in zip(units, waited, strict=True) if s is not None}

    @staticmethod
    def wait_until(unix_ns: int) -> None:
        """Returns then."""
        time.sleep(max(0.0, (unix_ns - time.time_ns()) / 1e9))


def _life(unit: Unit) -> Life:
    if unit.admin is not None:
        return _life_by_http(unit.admin.outside)
    with open_blocking_channel(unit.address) as channel:
        try:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_ANSWERS_WITHIN_S)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return Life.SILENT
            return Life.REFUSES if error.code() in _REFUSALS else Life.ANSWERS
    return Life.ANSWERS


def _life_by_http(address: str) -> Life:
    try:
        with urllib.request.urlopen(f"http://{address}/ready", timeout=_ANSWERS_WITHIN_S):
            return Life.ANSWERS
    except urllib.error.HTTPError as error:  # it lives, and says that it is not ready
        error.close()
        return Life.ANSWERS
    except TimeoutError:
        return Life.SILENT
    except OSError as error:
        return Life.SILENT if isinstance(getattr(error, "reason", None), TimeoutError) else Life.REFUSES


def _closed_after_s(address: str, within_s: float) -> float | None:
    """Opens a channel, and watches it leave the state of being connected."""
    left, ready = threading.Event(), threading.Event()

    def watch(state: grpc.ChannelConnectivity) -> None:
        if state is grpc.ChannelConnectivity.READY:
            ready.set()
        elif ready.is_set():
            left.set()

    with open_blocking_channel(address) as channel:
        channel.subscribe(watch, try_to_connect=True)
        try:
            if not ready.wait(_CONNECTED_WITHIN_S):
                return None
            began = time.monotonic()
            return time.monotonic() - began if left.wait(within_s) else None
        finally:
            channel.unsubscribe(watch)


def _timed(rank: object, request: object, key: str) -> tuple[str, float]:
    began = time.perf_counter()
    try:
        rank(request, metadata=((HEADER, key),), timeout=_PROBE_S)  # type: ignore[operator] # grpcio's own types do not tell
    except grpc.RpcError as error:
        status = error.code().name
    else:
        status = "OK"
    return status, (time.perf_counter() - began) * 1_000
