"""What a cluster carries, by hand."""

from __future__ import annotations

import pytest

from lab.plugins.capacity.assumptions import Assumptions
from lab.plugins.capacity.cluster import ClusterCapacity, cluster_capacity, cluster_table, node_loss_table
from lab.roles import ROLES
from tests.plugins.capacity.test_fleet import COSTS, DEMAND

# Half a core is the target, so a request costs twice its processor time: 3.6 ms by gateway, 1.8 ms by mesh.
ROOMY = {"utilisation": 0.5, "node-cores": 10, "node-gigabytes": 1_000, "node-reserved": 0.1}


def of(topology: str, nodes: int = 2, **changed: float) -> ClusterCapacity:
    given = ROOMY | {name.replace("_", "-"): value for name, value in changed.items()}
    return cluster_capacity(topology, nodes, DEMAND, COSTS, Assumptions(given))


@pytest.mark.parametrize(("topology", "expected"), [("gateway", 5_000), ("mesh", 10_000)])
def test_cores_bound_the_rate(topology: str, expected: int) -> None:
    found = of(topology)

    # 2 nodes × 10 cores × 0.9 = 18 cores.
    assert (found.rps.value, found.bound) == (expected, "cpu")


def test_twice_the_nodes_carry_twice_the_rate() -> None:
    assert of("mesh", nodes=4).rps.value == 2 * of("mesh").rps.value


def test_a_lost_node_fails_a_request_by_each_hop_that_ends_there_and_takes_its_share_of_the_rate() -> None:
    gateway, mesh = of("gateway", nodes=4), of("mesh", nodes=4)

    # Mesh goes to a model, gateway also to a gateway: 1/4, and 1 - (3/4)².
    assert (mesh.struck.value, gateway.struck.value) == (0.25, 0.4375)
    assert mesh.rps_after_loss.value / mesh.rps.value == pytest.approx(0.75, rel=1e-3)
    assert of("mesh", nodes=1).rps_after_loss.value == 0
    assert [row[1:] for row in node_loss_table([mesh], 4).rows] == [["25.0%", "15,000", "75%"]]


def test_memory_bounds_the_rate_where_nodes_have_little() -> None:
    # Two callers' pods, each of caller, resolver and sidecar, are the least; ten fit.
    pod_mb = sum(ROLES[name].memory_mb for name in ("caller", "resolver", "sidecar"))
    found = of("mesh", nodes=1, node_cores=1_000, node_gigabytes=10 * pod_mb / 1_024 / 0.9)

    assert found.bound == "memory"
    assert {part.containers.value for part in found.parts} == {10}
    assert found.rps.value == pytest.approx(10 / 0.0012, rel=1e-3)  # one core each for the caller's 0.6 ms


def test_nodes_that_hold_nothing_carry_nothing() -> None:
    assert of("mesh", nodes=1, node_gigabytes=1, node_reserved=0.9).rps.value == 0


def test_requests_are_the_cores_of_the_part_and_limits_its_roles() -> None:
    caller, gateway = of("gateway").parts

    assert (caller.containers.value, gateway.containers.value) == (6, 12)
    assert (caller.cpu.value, gateway.cpu.value, gateway.cpu_limit.value) == (1_000, 1_000, 1_000)
    assert gateway.memory.value == ROLES["gateway"].memory_mb
    assert all(part.cpu.value <= part.cpu_limit.value for part in (caller, gateway))


def test_the_table_has_a_row_for_each_part() -> None:
    table = cluster_table([of("gateway"), of("mesh")], 2)

    assert [row[3] for row in table.rows] == ["caller", "gateway", "caller", "resolver", "sidecar"]
    assert [row[1] for row in table.rows if row[1]] == ["5,000", "10,000"]
