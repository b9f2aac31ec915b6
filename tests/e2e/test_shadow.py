"""Copies that the sidecar's Envoy makes: whole, for the shadow alone, and never at the cost of the request."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta

import grpc
import pytest

from lab import CHECKOUT
from lab.lab import Lab
from lab.runtime.state import LabState
from lab.transport import open_blocking_channel
from lab.waiting import eventually
from models.proto.control.v1 import stub_pb2, stub_pb2_grpc
from models.proto.ranking.v1 import ranking_pb2
from scenarios.framework.steps import set_behaviour
from tests.labs import address_of

Rank = Callable[..., ranking_pb2.RankResponse]

DEADLINE_S = 10.0
ARRIVE_WITHIN = timedelta(seconds=8)
ASKED, SHADOW, SHADOW_CLUSTER = "cw-ranker.v1", "up-next.v1", "ml-cluster-5"
FOUR_MB = 1_000_000  # floats


@pytest.fixture(scope="module", autouse=True)
def table(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Lets homepage use the shadow's model, too: its sidecar knows only keys that homepage may use."""
    text = (CHECKOUT / "routes.yaml").read_text()
    before = "    callers: [playback]\n"
    assert before in text
    table = tmp_path_factory.mktemp("shadow") / "routes.yaml"
    table.write_text(text.replace(before, "    callers: [playback, homepage]\n"))
    lab.routes.publish(table)
    yield
    lab.routes.publish(CHECKOUT / "routes.yaml")


@pytest.fixture
def rank(lab: Lab) -> Iterator[Rank]:
    """Sends requests for :data:`ASKED`."""
    with open_blocking_channel(lab.endpoints().clients["homepage"].address_of("sidecar")) as channel:
        call = channel.unary_unary(
            "/ranking.v1.Ranking/Rank",
            request_serializer=ranking_pb2.RankRequest.SerializeToString,
            response_deserializer=ranking_pb2.RankResponse.FromString,
        )

        def ask(request_id: str, *shadow_keys: str, floats: int = 0, **more: str) -> ranking_pb2.RankResponse:
            request = ranking_pb2.RankRequest(titles=[ranking_pb2.Title(id="t1", features=[0.5] * floats)])
            request.envelope.request_id = request_id
            request.envelope.model_config.model, request.envelope.model_config.version = "cw-ranker", "v1"
            metadata = (("x-routing-key", ASKED), *(("x-shadow-key", key) for key in shadow_keys), *more.items())
            return call(request, metadata=metadata, timeout=DEADLINE_S)

        yield ask


@pytest.fixture
def replicas(lab: Lab) -> list[str]:
    """The shadow's replicas."""
    return [unit.name for unit in lab.status().units if unit.name.startswith(SHADOW_CLUSTER)]


@pytest.fixture
def copies(lab: Lab, replicas: list[str]) -> Iterator[Callable[[], list[str]]]:
    """Request ids of the copies that the shadow's replicas received, in no order."""
    with ExitStack() as stack:
        stubs = [
            stub_pb2_grpc.StubControlStub(stack.enter_context(open_blocking_channel(address_of(lab, unit))))
            for unit in replicas
        ]
        yield lambda: [
            arrival.request_id
            for stub in stubs
            for response in stub.Arrivals(stub_pb2.ArrivalsRequest(), timeout=DEADLINE_S, wait_for_ready=True)
            for arrival in response.arrivals
            if arrival.is_copy and arrival.routing_key == SHADOW
        ]


@pytest.fixture
def slowed(lab: Lab) -> Iterator[Callable[[float], None]]:
    """Slows the shadow, ms."""

    def slow(ms: float) -> None:
        set_behaviour(lab, stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=ms)), SHADOW_CLUSTER)

    yield slow
    slow(0)


def counted(lab: Lab, name: str) -> int:
    """What the sidecar has counted on the way that copies take first."""
    admin = LabState.of(lab.folder).plan.unit("homepage-sidecar").admin
    assert admin is not None
    url = f"http://{admin.outside}/stats?format=json&filter=cluster.copies.{name}$"
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
        [found] = json.load(answer)["stats"]
    return int(found["value"])


def arrive(copies: Callable[[], list[str]], *expected: str) -> None:
    eventually(
        "the copies arrive",
        lambda: sorted(set(expected) - set(copies())),
        within=ARRIVE_WITHIN,
        until=lambda missing: not missing,
    )


@pytest.mark.parametrize("floats", [0, 7_000, FOUR_MB], ids=["tiny", "27 KB", "4 MB"])
def test_a_copy_arrives_whole_and_the_answer_is_the_asked_ones(
    rank: Rank, copies: Callable[[], list[str]], floats: int
) -> None:
    names = [f"whole-{floats}-{number}" for number in range(10)]
    for name in names:
        assert rank(name, SHADOW, floats=floats).answered_by.version == "v1"
        rank(f"not-{name}", floats=floats)

    # A message that is not whole is not a message: gRPC would not have handed it on.
    arrive(copies, *names)
    assert len(names) == len([each for each in copies() if each.startswith(f"whole-{floats}-")])
    assert not [each for each in copies() if each.startswith("not-")]


BAD_KEYS = {
    "empty": [""],
    "the control plane's cluster": ["xds"],
    "the copies' own": ["copies"],
    "wildcard": ["*"],
    "upper case": ["UP-NEXT.v1"],
    "good then bad": [SHADOW, "xds"],
    "bad then good": ["xds", SHADOW],
    "twice the same": [SHADOW, SHADOW],
    "joined": [f"{SHADOW},rows.v1"],
}


@pytest.mark.parametrize("case", BAD_KEYS)
def test_a_malformed_shadow_key_is_refused(rank: Rank, copies: Callable[[], list[str]], case: str) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        rank(f"bad-{case}", *BAD_KEYS[case])

    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "x-shadow-key: send none or exactly one, of the form model.v1" in (refusal.value.details() or "")
    assert f"bad-{case}" not in copies()


def test_no_client_can_pass_its_request_off_as_a_copy(rank: Rank, copies: Callable[[], list[str]]) -> None:
    assert rank("false", **{"x-shadow": "copy"}).answered_by.version == "v1"
    rank("true", SHADOW, **{"x-shadow": "copy"})

    arrive(copies, "true")
    assert copies().count("true") == 1
    assert "false" not in copies()


def test_a_shadow_that_takes_its_time_holds_nobody_up(
    rank: Rank, copies: Callable[[], list[str]], slowed: Callable[[float], None]
) -> None:
    slowed(2_000)
    names = [f"slow-{number}" for number in range(40)]
    for name in names:
        # One after the other: had each waited for its copy, the first ones would have been given up long since.
        assert rank(name, SHADOW).answered_by.version == "v1"

    arrive(copies, *names)


def test_copies_beyond_the_limit_are_dropped_and_counted(
    rank: Rank, copies: Callable[[], list[str]], slowed: Callable[[float], None], lab: Lab
) -> None:
    before = counted(lab, "upstream_rq_active_overflow")
    slowed(60_000)
    for number in range(140):
        rank(f"beyond-{number}", SHADOW)

    dropped = counted(lab, "upstream_rq_active_overflow") - before
    assert dropped > 0
    came = eventually(
        "what was not dropped arrives",
        lambda: [each for each in copies() if each.startswith("beyond-")],
        within=ARRIVE_WITHIN,
        until=lambda seen: len(seen) == 140 - dropped,
    )
    assert len(came) <= 128


@pytest.mark.parametrize("floats", [0, FOUR_MB], ids=["tiny", "4 MB"])
def test_a_shadow_that_is_frozen_holds_nobody_up(rank: Rank, lab: Lab, replicas: list[str], floats: int) -> None:
    rank("so that the way there is known", SHADOW)
    try:
        for unit in replicas:
            lab.units.pause(unit)
        for number in range(12):
            assert rank(f"frozen-{number}", SHADOW, floats=floats).answered_by.version == "v1"
        # With less room for copies, this is where they would have made the requests wait.
        assert counted(lab, "upstream_flow_control_backed_up_total") == 0
    finally:
        for unit in replicas:
            lab.units.resume(unit)


def test_a_shadow_that_is_dead_or_never_was_holds_nobody_up(
    rank: Rank, lab: Lab, replicas: list[str], copies: Callable[[], list[str]]
) -> None:
    try:
        for unit in replicas:
            lab.units.kill(unit)
        for number in range(20):
            assert rank(f"dead-{number}", SHADOW).answered_by.version == "v1"
            assert rank(f"nobody-{number}", "nobody.v7").answered_by.version == "v1"
    finally:
        for unit in replicas:
            lab.units.start(unit)
    eventually(
        "copies arrive again",
        lambda: rank("again", SHADOW).IsInitialized() and "again" in copies(),
        within=ARRIVE_WITHIN,
    )
