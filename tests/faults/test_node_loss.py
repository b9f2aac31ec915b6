"""A node is lost: everything that would share it ends at once, and what is elsewhere goes on."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest

from lab.errors import InputError
from lab.faults.observation import Visible
from lab.lab import Lab
from lab.waiting import eventually
from tests.labs import replica_of, states, status_of

WITHIN = timedelta(seconds=20)
# Over two nodes: the control plane, a replica and the caller's pod; the other replica and the gateway.
ON_NODE_2 = ("ml-cluster-1-a", "gateway-1")


def test_what_shares_a_node_ends_together_and_comes_back(lab: Lab) -> None:
    fault = lab.faults.inject("node-loss", "node-2", nodes=2)

    assert fault.record.units == ON_NODE_2
    assert {name for name, state in states(lab).items() if state == "exited"} == set(ON_NODE_2)
    assert fault.observe().visible is Visible.YES
    assert status_of(lab, "gateway") == "UNAVAILABLE"
    eventually(
        "the other node's replica answers",
        partial(replica_of, lab, "mesh"),
        within=WITHIN,
        until=lambda replica: replica == "ml-cluster-1-b",
    )

    fault.heal()

    assert set(states(lab).values()) == {"running"}
    eventually(
        "the gateway routes again", partial(status_of, lab, "gateway"), within=WITHIN, until=lambda code: code == "OK"
    )
    assert fault.observe().visible is Visible.UNKNOWN


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("node-3", r"^node-loss: no unit of this lab runs on 'node-3'; nodes with units: node-1, node-2$"),
        ("gateway-1", r"^node-loss: no unit of this lab runs on 'gateway-1'; nodes with units: node-1, node-2$"),
        ("", r"^node-loss: needs a target: a node of the cluster"),
    ],
)
def test_what_is_no_node_is_refused(lab: Lab, target: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        lab.faults.inject("node-loss", target, nodes=2)


def test_a_node_without_units_is_refused(lab: Lab) -> None:
    with pytest.raises(
        InputError, match=r"^node-loss: no unit of this lab runs on 'node-9'; nodes with units: node-1, "
    ):
        lab.faults.inject("node-loss", "node-9", nodes=9)


def test_a_unit_that_is_hit_already_is_not_hit_twice(lab: Lab) -> None:
    with (
        lab.faults.injected("kill", "gateway-1"),
        pytest.raises(InputError, match=r"^node-loss node-2: gateway-1 is exited; heal or start it first$"),
    ):
        lab.faults.inject("node-loss", "node-2", nodes=2)
