from __future__ import annotations

from collections.abc import AsyncIterator

import grpc.aio
import pytest

from models.proto.control.v1 import replicas_pb2, stub_pb2
from models.proto.fraud.v1 import fraud_pb2
from models.stub import registration
from tests.models.replicas import ControlPlane, RunningReplica, StartReplica, rank_request
from tests.parts import Relay
from tests.waiting import eventually

NEVER_MS = "600000"


@pytest.fixture
async def freezable(control_plane: ControlPlane) -> AsyncIterator[Relay]:
    """A way to the control plane whose connections can be frozen."""
    async with Relay(control_plane.address).up() as way:
        yield way


async def test_a_version_serves_only_the_api_of_its_use_cases(
    control_plane: ControlPlane, start_replica: StartReplica
) -> None:
    replica = await start_replica()
    version = replicas_pb2.AssignedVersion(routing_key="rows.v1", model="rows", version="v1", apis=["ranking.v1"])
    control_plane.send(replicas_pb2.Assignment(revision=1, versions=[version]))
    await control_plane.holds("rows.v1", revision=1)
    score = fraud_pb2.ScoreRequest(envelope=rank_request("rows", "v1").envelope)

    assert (await replica.ranking.Rank(rank_request("rows", "v1"))).answered_by.model == "rows"
    with pytest.raises(grpc.aio.AioRpcError, match=r"rows\.v1: serves ranking\.v1 by the route table, not fraud\.v1"):
        await replica.fraud.Score(score)


async def test_a_new_replica_reports_where_it_is_before_it_holds_anything(
    control_plane: ControlPlane, start_replica: StartReplica
) -> None:
    started = await start_replica()

    await eventually("a report", lambda: control_plane.reports)

    expected = replicas_pb2.ReplicaReport(
        cluster="ml-cluster-1", replica="ml-cluster-1-a", address=started.replica.address
    )
    assert control_plane.last == expected


async def test_assigned_versions_are_loaded_and_others_unloaded(
    control_plane: ControlPlane, start_replica: StartReplica
) -> None:
    started = await start_replica()
    await control_plane.load(1, "rows.v1")

    await control_plane.load(2, "rows.v1", "rows.v2")
    await control_plane.load(3, "rows.v2")

    with pytest.raises(grpc.aio.AioRpcError, match="rows@v1"):
        await started.ranking.Rank(rank_request("rows", "v1"))
    assert (await started.ranking.Rank(rank_request("rows", "v2"))).answered_by.revision == 3


async def test_a_version_that_warms_up_is_not_reported_and_does_not_answer_yet(
    control_plane: ControlPlane,
    start_replica: StartReplica,
) -> None:
    started = await start_replica()
    await control_plane.load(1, "rows.v1")
    await started.control.SetBehaviour(stub_pb2.Behaviour(warm_up_ms=float(NEVER_MS)))

    control_plane.assign(2, "rows.v1", "rows.v2")
    await eventually("revision 2", lambda: control_plane.last.revision == 2)

    assert list(control_plane.last.loaded) == ["rows.v1"]
    with pytest.raises(grpc.aio.AioRpcError, match="rows@v2"):
        await started.ranking.Rank(rank_request("rows", "v2"))
    assert (await started.ranking.Rank(rank_request("rows", "v1"))).answered_by.version == "v1"


async def test_a_replica_that_has_just_started_says_that_it_still_loads(
    control_plane: ControlPlane, start_replica: StartReplica
) -> None:
    started = await start_replica("--warm-up-ms", "30")

    async def refusal(version: str) -> tuple[grpc.StatusCode, bool]:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await started.ranking.Rank(rank_request("rows", version))
        return refused.value.code(), "has just started and still loads" in (refused.value.details() or "")

    assert await refusal("v1") == (grpc.StatusCode.UNAVAILABLE, True)
    await control_plane.load(1, "rows.v1")
    assert (await started.ranking.Rank(rank_request("rows", "v1"))).answered_by.version == "v1"
    assert await refusal("v2") == (grpc.StatusCode.FAILED_PRECONDITION, False)


async def test_a_version_is_loaded_once_its_warm_up_is_over(
    control_plane: ControlPlane, start_replica: StartReplica
) -> None:
    await start_replica("--warm-up-ms", "30")

    await control_plane.load(1, "rows.v1")


async def test_a_version_that_is_taken_away_while_it_warms_up_never_appears(
    control_plane: ControlPlane, start_replica: StartReplica
) -> None:
    await start_replica("--warm-up-ms", "50")
    control_plane.assign(1, "rows.v1", "rows.v2")
    await control_plane.load(2, "rows.v2")

    assert not any("rows.v1" in report.loaded for report in control_plane.reports)


async def test_a_version_that_is_refused_is_reported_with_the_reason_and_loads_once_it_no_longer_is(
    control_plane: ControlPlane, start_replica: StartReplica
) -> None:
    started = await start_replica()
    await started.control.SetBehaviour(
        stub_pb2.Behaviour(refuse_to_load=stub_pb2.RoutingKeys(routing_keys=["rows.v2"]))
    )
    control_plane.assign(1, "rows.v1", "rows.v2")
    await control_plane.holds("rows.v1", revision=1)
    await eventually("a failure", lambda: control_plane.last.failures)

    (failure,) = control_plane.last.failures
    assert failure.routing_key == "rows.v2"
    assert "refuse_to_load" in failure.reason

    await started.control.SetBehaviour(stub_pb2.Behaviour(refuse_to_load=stub_pb2.RoutingKeys()))
    report = await control_plane.holds("rows.v1", "rows.v2")
    assert list(report.failures) == []


async def test_a_failure_is_forgotten_with_its_assignment(
    control_plane: ControlPlane, start_replica: StartReplica
) -> None:
    started = await start_replica()
    await started.control.SetBehaviour(
        stub_pb2.Behaviour(refuse_to_load=stub_pb2.RoutingKeys(routing_keys=["rows.v2"]))
    )
    control_plane.assign(1, "rows.v2")
    await eventually("a failure", lambda: control_plane.last.failures)

    control_plane.assign(2, "rows.v1")

    assert list((await control_plane.holds("rows.v1", revision=2)).failures) == []


async def test_a_key_that_does_not_name_its_version_is_a_failure(
    control_plane: ControlPlane, start_replica: StartReplica
) -> None:
    await start_replica()

    control_plane.send(
        replicas_pb2.Assignment(
            revision=1, versions=[replicas_pb2.AssignedVersion(routing_key="rows.v1", model="rows", version="v2")]
        )
    )
    await eventually("a failure", lambda: control_plane.last.failures)

    assert "rows.v2" in control_plane.last.failures[0].reason


async def test_heartbeats_repeat_the_whole_state(control_plane: ControlPlane, start_replica: StartReplica) -> None:
    await start_replica()
    await control_plane.load(1, "rows.v1")
    seen = len(control_plane.reports)

    await eventually("three heartbeats", lambda: len(control_plane.reports) >= seen + 3)

    assert all(list(report.loaded) == ["rows.v1"] for report in control_plane.reports[seen:])


async def test_a_control_plane_that_comes_back_finds_the_replica_and_what_it_holds(
    control_plane: ControlPlane,
    start_replica: StartReplica,
) -> None:
    started = await start_replica()
    await control_plane.load(1, "rows.v1")
    await started.control.SetBehaviour(stub_pb2.Behaviour(warm_up_ms=float(NEVER_MS)))

    await control_plane.stop()
    assert (await started.ranking.Rank(rank_request("rows", "v1"))).answered_by.revision == 1
    control_plane.reports.clear()
    await control_plane.start()
    await eventually("it is back", lambda: control_plane.reports)

    assert list(control_plane.reports[0].loaded) == ["rows.v1"]
    assert control_plane.reports[0].revision == 1
    # The control plane repeats what it had assigned: nothing is loaded anew, which would never end here.
    await control_plane.load(2, "rows.v1")


async def test_a_registration_that_the_control_plane_ends_is_repeated(
    control_plane: ControlPlane, start_replica: StartReplica
) -> None:
    await start_replica()
    await control_plane.load(1, "rows.v1")

    control_plane.end_streams()

    await eventually("a second registration", lambda: control_plane.registrations == 2)
    await control_plane.holds("rows.v1", revision=1)


async def test_a_change_after_a_second_registration_is_reported_at_once(
    control_plane: ControlPlane,
    start_replica: StartReplica,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await start_replica()
    await eventually("registered", lambda: control_plane.reports)
    monkeypatch.setattr(registration, "HEARTBEAT_S", 600.0)
    control_plane.end_streams()
    await eventually("a second registration", lambda: control_plane.registrations == 2)

    await control_plane.load(1, "rows.v1")


async def test_a_control_plane_that_falls_silent_is_dialled_again(
    control_plane: ControlPlane,
    start_replica: StartReplica,
    freezable: Relay,
) -> None:
    # given a replica that is registered
    await start_replica("--control-plane", freezable.address)
    await control_plane.load(1, "rows.v1")

    # when the connection stays open and nothing comes over it any more, as with a frozen process
    freezable.freeze()

    # then the replica finds another way in, with what it holds
    await eventually("a second registration", lambda: control_plane.registrations == 2)
    await eventually("its report", lambda: list(control_plane.last.loaded) == ["rows.v1"])


async def test_draining_is_reported_and_the_replica_serves_on_until_nobody_comes(
    control_plane: ControlPlane,
    start_replica: StartReplica,
) -> None:
    started: RunningReplica = await start_replica()
    await control_plane.load(1, "rows.v1")

    started.stop.set()
    await eventually("draining", lambda: control_plane.last.draining)

    assert (await started.ranking.Rank(rank_request("rows", "v1"))).answered_by.version == "v1"
    await started.task
    await eventually("the registration ends with the replica", lambda: not control_plane.open_streams)
