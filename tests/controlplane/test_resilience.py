"""What a table says of replicas that fail reaches sidecars, gRPC clients and gateways."""

from __future__ import annotations

import json
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2

from lab.errors import PublishError
from lab.routing.document import RouteTable
from services.controlplane.xds.resources import CLUSTER, ENDPOINTS
from tests.controlplane.nodes import ControlPlane, table_of
from tests.waiting import eventually

KEY = "cw-ranker.v1"


def treated(failover: str = "", **settings: object) -> RouteTable:
    """The table of one version on ml-cluster-1, with settings, and with a cluster that stands in."""
    document = json.loads(json.dumps(table_of({"v1": "ml-cluster-1"}).document))
    document["use_cases"]["ContinueWatchingRanking"].update(settings)
    if failover:
        document["clusters"]["ml-cluster-1"]["failover"] = failover
        document["clusters"][failover] = {"replicas": 1}
    return RouteTable.from_document(document)


def found(control_plane: Any, type_url: str, name: str) -> Any:
    kind = cluster_pb2.Cluster if type_url == CLUSTER else endpoint_pb2.ClusterLoadAssignment
    return kind.FromString(control_plane.publisher.fleet.store.get(type_url, name).body.value)


def priorities(control_plane: Any) -> list[tuple[int, int]]:
    """Priority, and port of its one replica, of each locality."""
    assignment = found(control_plane, ENDPOINTS, f"ml-cluster-1/{KEY}")
    return [
        (each.priority, member.endpoint.address.socket_address.port_value)
        for each in assignment.endpoints
        for member in each.lb_endpoints
    ]


async def test_a_changed_setting_changes_the_cluster_and_is_taken_back(control_plane: ControlPlane) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    await control_plane.publish(treated())
    plain = control_plane.publisher.fleet.store.get(CLUSTER, KEY)

    await control_plane.publish(treated(outliers={"errors": 7}))
    assert found(control_plane, CLUSTER, KEY).outlier_detection.consecutive_5xx.value == 7
    await control_plane.publish(treated(outliers={"errors": 8}))
    assert found(control_plane, CLUSTER, KEY).outlier_detection.consecutive_5xx.value == 8

    await control_plane.publish(treated())
    assert plain.version == control_plane.publisher.fleet.store.get(CLUSTER, KEY).version


async def test_a_publish_that_fails_puts_the_settings_back(control_plane: ControlPlane) -> None:
    replica = await control_plane.replica("ml-cluster-1", "a")
    gateway = await control_plane.follower("gateway", with_endpoints=True)
    await control_plane.publish(treated(outliers={"errors": 7}))
    gateway.is_deaf = True
    with pytest.raises(PublishError):
        await control_plane.publish(treated(outliers={"errors": 8}))
    assert found(control_plane, CLUSTER, KEY).outlier_detection.consecutive_5xx.value == 7
    assert list(replica.state.loaded) == [KEY]


async def test_a_cluster_that_stands_in_holds_the_same_and_comes_second(control_plane: ControlPlane) -> None:
    own = await control_plane.replica("ml-cluster-1", "a")
    other = await control_plane.replica("ml-cluster-2", "bb")
    gateway = await control_plane.follower("gateway", with_endpoints=True)
    await control_plane.publish(treated(failover="ml-cluster-2"))
    assert list(own.state.loaded) == list(other.state.loaded) == [KEY]
    assert priorities(control_plane) == [(0, 1), (1, 2)]
    told = gateway.updates[-2].endpoints[0]
    assert (list(told.addresses), list(told.standby)) == (["198.18.0.1:1"], ["198.18.0.1:2"])

    await own.leave()
    await eventually("nobody but the one that stands in", lambda: priorities(control_plane) == [(0, 2)])

    await control_plane.replica("ml-cluster-1", "ccc")
    await eventually("its own comes first again", lambda: priorities(control_plane) == [(0, 3), (1, 2)])

    await control_plane.publish(treated())
    assert priorities(control_plane) == [(0, 3)]
    await eventually("what nobody needs is unloaded", lambda: list(other.state.loaded) == [])
