"""How soon killed replicas are left out and started ones are used, and how soon nodes reconnect to a control plane."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import grpc

from lab.measure.compare import median
from lab.plugins.bench.harness.bench import Bench
from lab.plugins.bench.harness.charts import chart_of_medians
from lab.plugins.bench.harness.prebuilt_request import ROUTING_KEY
from lab.plugins.bench.harness.result import BenchResult, Claim
from lab.plugins.bench.harness.trials import Trials
from lab.plugins.bench.harness.variant import CALLER, CLUSTER
from lab.report.bars import Bound
from lab.roles import CONTROL_PLANE
from lab.transport import open_blocking_channel
from lab.waiting import eventually
from models.proto.ranking.v1 import ranking_pb2, ranking_pb2_grpc

if TYPE_CHECKING:
    from lab.lab import Lab
    from lab.plugins.bench.harness.environment import Environment


BOUND_S = 1.0
_VICTIM = f"{CLUSTER}-a"
_PATIENCE = timedelta(seconds=20)
_CALL_TIMEOUT_S = 2.0


def run(environment: Environment, rounds: int) -> BenchResult:
    """Kills and starts a replica and the control plane once a round, while a client calls its sidecar."""
    lab = environment.lab
    leaves = "killed replica has left"
    comes = "started replica answers, its own start included"
    reconnects = "started control plane has all nodes back, its own start included"
    trials = Trials(environment, [[_VICTIM]] * rounds)
    with open_blocking_channel(lab.endpoints().clients[CALLER].address_of("sidecar")) as channel:
        stub = ranking_pb2_grpc.RankingStub(channel)

        def answers() -> str:
            try:
                request = ranking_pb2.RankRequest()
                return stub.Rank(request, metadata=(ROUTING_KEY,), timeout=_CALL_TIMEOUT_S).answered_by.replica
            except grpc.RpcError:
                return ""

        def has_left() -> bool:
            known = lab.control_plane_status()
            return known is None or all(each.replica != _VICTIM for each in known.replicas)

        for trial in trials:
            with trial:
                eventually("both replicas answer", lambda: answers() == _VICTIM, within=_PATIENCE)
                lab.units.kill(_VICTIM)
                left_s = _seconds_until("it has left", has_left)
                lab.units.start(_VICTIM)
                came_s = _seconds_until("it answers", lambda: answers() == _VICTIM)
                trial.keep(**{leaves: left_s, comes: came_s, reconnects: _seconds_to_reconnect(lab)})
    samples = trials.figures
    return BenchResult(
        unit="s",
        samples=samples,
        claims=[Claim(f"{event}, s", median(values), at_most=BOUND_S) for event, values in samples.items()],
        charts=[chart_of_medians("time to recover", "seconds", samples, bounds=[Bound("bound", BOUND_S)])],
        notes=[f"n = {rounds} rounds; kill -9 each time; polling adds a few hundredths of a second"],
    )


def _seconds_to_reconnect(lab: Lab) -> float:
    def nodes() -> set[str]:
        known = lab.control_plane_status()
        return {node.node for node in known.nodes} if known else set()

    before = nodes()
    lab.units.kill(CONTROL_PLANE)
    lab.units.start(CONTROL_PLANE)
    return _seconds_until("all nodes are back", lambda: before <= nodes())


def _seconds_until(what: str, probe: Callable[[], bool]) -> float:
    began = time.monotonic()
    eventually(what, probe, within=_PATIENCE)
    return time.monotonic() - began


BENCH = Bench(
    name="recovery", question="How soon do a killed replica leave, a started one answer, and nodes reconnect?", run=run
)
