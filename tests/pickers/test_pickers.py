"""What each picker configures at each place, and whom the lab's own gateway picks by it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from envoy.config.cluster.v3 import cluster_pb2

from docs.examples import own_picker
from lab.errors import SpecError
from lab.pickers import ENVOY, GATEWAY, GRPC_XDS, PICKERS, Cannot, Picker
from lab.routing.resilience import Outliers, Policy
from lab.spec import CallerSpec, LabSpec, override, read_spec
from lab.topologies import TOPOLOGIES
from services.controlplane.xds.resources import cluster
from services.renderer.proxy import RENDERERS


@dataclass
class Replica:
    in_flight: int = 0


def picked(picker: Picker, replicas: list[Replica], times: int) -> list[int]:
    """How often each replica is picked, by its place in the list."""
    pick = picker.at(GATEWAY)()
    counts = Counter(id(pick(replicas)) for _ in range(times))
    return [counts[id(each)] for each in replicas]


def test_round_robin_takes_one_after_the_other() -> None:
    assert picked(PICKERS["round-robin"], [Replica(9), Replica(), Replica(3)], 30) == [10, 10, 10]


def test_least_request_takes_those_with_the_fewest_in_flight() -> None:
    busy, idle, other = picked(PICKERS["least-request"], [Replica(2), Replica(1), Replica(1)], 200)
    assert (busy, idle + other) == (0, 200)
    assert idle > 0 < other


def test_the_one_from_outside_gives_what_it_says() -> None:
    assert picked(own_picker.PICKER, [Replica(), Replica(), Replica()], 80) == [60, 10, 10]
    assert own_picker.shares(3) == [0.75, 0.125, 0.125]


@pytest.mark.parametrize("picker", PICKERS.values(), ids=PICKERS)
def test_every_picker_says_what_each_place_configures(picker: Picker) -> None:
    places = {GATEWAY, *RENDERERS, *(each.picker_place for each in TOPOLOGIES.values())}
    assert places <= picker.places.keys()
    assert [each for each in picker.places.values() if isinstance(each, Cannot) and not each.reason] == []


def made(picker: Picker, policy: Policy | None = None) -> tuple[cluster_pb2.Cluster, cluster_pb2.Cluster]:
    """A cluster as Envoys and as gRPC clients get it."""
    found = cluster("rows.v1", "ml-cluster-1", policy, picker=picker)
    both = (cluster_pb2.Cluster(), cluster_pb2.Cluster())
    for message, body in zip(both, (found.body, found.grpc_body or found.body), strict=True):
        assert body.Unpack(message)
    return both


def test_clusters_in_xds_have_the_picker_and_slow_start_goes_with_it() -> None:
    envoy, grpc = made(PICKERS["round-robin"], Policy(slow_start_s=3))
    assert envoy.lb_policy == grpc.lb_policy == cluster_pb2.Cluster.ROUND_ROBIN
    assert envoy.round_robin_lb_config.slow_start_config.slow_start_window.seconds == 3

    envoy, _ = made(PICKERS["least-request"], Policy(slow_start_s=3))
    assert envoy.lb_policy == cluster_pb2.Cluster.LEAST_REQUEST
    assert envoy.least_request_lb_config.slow_start_config.slow_start_window.seconds == 3
    assert not envoy.HasField("round_robin_lb_config")


@pytest.mark.parametrize("policy", [None, Policy(outliers=Outliers())], ids=["alone", "with outliers"])
def test_grpc_clients_get_their_own_part_of_a_picker(policy: Policy | None) -> None:
    ring = {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 64}}
    hashed = Picker(name="hashed", line="", places={ENVOY: {"lb_policy": "MAGLEV"}, GRPC_XDS: ring})
    envoy, grpc = made(hashed, policy)
    assert (envoy.lb_policy, grpc.lb_policy) == (cluster_pb2.Cluster.MAGLEV, cluster_pb2.Cluster.RING_HASH)
    assert (envoy.HasField("ring_hash_lb_config"), grpc.ring_hash_lb_config.minimum_ring_size.value) == (False, 64)


def test_a_lab_refuses_a_topology_whose_place_cannot_pick_so() -> None:
    spec = LabSpec(callers={"homepage": CallerSpec()}, topologies=["gateway", "mesh"])
    assert override(spec, picker="least-request").picker == "least-request"
    for topology, reason in (("proxyless", "gRPC's core has no least-request policy"), ("direct", "gRPC's core")):
        with pytest.raises(SpecError, match=f"--picker: topology {topology} cannot pick by least-request: {reason}"):
            override(spec, picker="least-request", topologies=[f"+{topology}"])
    with pytest.raises(SpecError, match="--picker: picker 'fair' is not known; there are least-request, round-robin"):
        override(spec, picker="fair")


def test_a_spec_names_its_picker(tmp_path: Path) -> None:
    file = tmp_path / "lab.toml"
    file.write_text('topologies = ["mesh"]\npicker = "least-request"\n[callers.homepage]\n')
    assert read_spec(file).picker == "least-request"
    file.write_text('topologies = ["proxyless"]\npicker = "least-request"\n[callers.homepage]\n')
    with pytest.raises(SpecError, match=r"lab.toml:2: picker: topology proxyless cannot pick by least-request"):
        read_spec(file)
