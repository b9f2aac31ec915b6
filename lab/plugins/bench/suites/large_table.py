"""What a change of one use case costs in a route table of ten thousand use cases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING, Any

import grpc

from lab.client.admin import AdminClient
from lab.clock import lab_time_ns
from lab.measure.compare import median, quantile
from lab.plugins.bench.harness.bench import Bench
from lab.plugins.bench.harness.result import BenchResult, Claim
from lab.plugins.bench.harness.trials import Trials
from lab.transport import open_blocking_channel
from lab.waiting import eventually
from models.proto.control.v1 import rules_pb2, rules_pb2_grpc

if TYPE_CHECKING:
    from lab.plugins.bench.harness.environment import Environment


USE_CASES = 10_000
CHANGES = 100
BOUND_MS = 20.0

_MODELS, _CLUSTERS = 2_500, 4
_PATIENCE = timedelta(seconds=60)
_MEASURED = "from the call to publish to the rules at a resolver"
_NS_PER_MS = 1e6


def run(environment: Environment, rounds: int) -> BenchResult:
    """Publishes a large table to its own control plane, then changes one use case after the other."""
    changes = max(rounds, CHANGES)
    address = environment.address("large-control-plane")
    registry = environment.path("large-control-plane", "registry.sqlite")
    command = ("python", "-m", "services.controlplane", "--listen", address, "--registry", registry)
    environment.start("large-control-plane", command, address)
    for number in range(_CLUSTERS):
        name = f"large-cluster-{number}"
        listen = environment.address(name)
        argv = ["python", "-m", "models.stub", "--cluster", name, "--replica", name, "--warm-up-ms", "0"]
        argv += ["--listen", listen, "--advertise", listen, "--control-plane", address]
        environment.start(name, tuple(argv), listen)
    trials = Trials(environment, [[_MEASURED]] * changes, say_every=changes)
    with AdminClient(address) as admin, open_blocking_channel(address) as channel:
        environment.say(f"publishing {USE_CASES:,} use cases")
        first = admin.publish([("large.yaml", json.dumps(_table()))], author="bench")
        eventually(
            "the first revision has settled",
            lambda: {step.phase for step in admin.revisions()[first - 1].steps},
            within=_PATIENCE,
            until=lambda phases: "retired" in phases,
        )
        arrivals: Queue[int] = Queue()
        Thread(target=_follow, args=(channel, arrivals), daemon=True).start()
        arrivals.get()
        environment.say(f"changing one of them, {changes} times")
        for trial in trials:
            number = trial.number - 1
            with trial:
                name, use_case = f"UseCase{number * 97 % USE_CASES}", _use_case(number, default="v2")
                called = lab_time_ns()
                admin.publish_change({name: ("change.yaml", json.dumps(use_case))}, author="bench")
                trial.keep(**{_MEASURED: (arrivals.get() - called) / _NS_PER_MS})
    took = trials.figures[_MEASURED]
    return BenchResult(
        unit="ms",
        samples={_MEASURED: took},
        claims=[
            Claim(f"p50, {_MEASURED}, ms", median(took), at_most=BOUND_MS),
        ],
        notes=[
            f"n = {changes} changes, one use case of {USE_CASES:,} each; {2 * _MODELS:,} model versions",
            "each is validated and stored durably in between",
            f"p99 {quantile(took, 0.99).estimate:.1f} ms",
        ],
    )


def _follow(channel: grpc.Channel, arrivals: Queue[int]) -> None:
    """Subscribes as a resolver does, and puts into ``arrivals`` when each update arrived, Unix ns."""
    answers: Queue[rules_pb2.SubscribeRequest] = Queue()
    answers.put(rules_pb2.SubscribeRequest(node="bench"))

    def requests() -> Iterator[rules_pb2.SubscribeRequest]:
        while True:
            yield answers.get()

    try:
        for update in rules_pb2_grpc.RulesStub(channel).Subscribe(requests()):
            arrivals.put(lab_time_ns())
            answers.put(rules_pb2.SubscribeRequest(applied_sequence=update.sequence))
    except grpc.RpcError:
        pass  # the bench is over


def _table() -> dict[str, Any]:
    return {
        "use_cases": {f"UseCase{number}": _use_case(number, default="v1") for number in range(USE_CASES)},
        "models": {
            f"model-{number}": {
                "versions": {version: {"cluster": f"large-cluster-{number % _CLUSTERS}"} for version in ("v1", "v2")}
            }
            for number in range(_MODELS)
        },
        "clusters": {f"large-cluster-{number}": {"replicas": 1} for number in range(_CLUSTERS)},
    }


def _use_case(number: int, *, default: str) -> dict[str, Any]:
    model = f"model-{number % _MODELS}"
    tv = {"name": "tv", "when": {"device": ["tv"]}, "use": f"{model}@v2"}
    return {
        "callers": ["homepage"],
        "api": "ranking.v1",
        "timeout": "250ms",
        "default": f"{model}@{default}",
        "rules": [tv],
    }


BENCH = Bench(
    name="large-table",
    question="What does a change of one use case cost in a route table of ten thousand?",
    run=run,
    samples=CHANGES,
)
