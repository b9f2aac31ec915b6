"""Requests do not need the control plane: its outages and refusals cost none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.errors import InputError, LabNotRunningError, PublishError
from lab.roles import CONTROL_PLANE
from lab.waiting import consistently, eventually
from models.proto.control.v1 import stub_pb2
from scenarios.framework.steps import (
    AT_MOST_S,
    GONE_WITHIN,
    assert_all_answered_rightly,
    assert_rate_was_kept,
    await_connected,
    await_unloaded,
    connected,
    held,
    is_answered,
    is_gone,
    load_on,
    moved_table,
    set_behaviour,
    under_load,
)

if TYPE_CHECKING:
    from lab.lab import Lab
    from scenarios.framework.machine_lock import MachineLock
    from scenarios.framework.scenario import Scenario

RATE_RPS = 300.0
ALONE_ON = ("gateway",)
SERVES_WITHIN = timedelta(seconds=15)
MODEL_KEY = "cw-ranker.v1"
REFUSER = "ml-cluster-5"


def _away(
    scenario: Scenario, topology: str, routes: Path, moved: Path, outage: timedelta, machine_lock: MachineLock
) -> None:
    """Takes the control plane down for ``outage`` under load; it publishes again afterwards.

    At this rate gateways and driver need most of two cores, so no other worker's load runs beside them.
    """
    lab = scenario.lab
    load = load_on(topology, RATE_RPS, use_cases=(), duration_s=outage.total_seconds() + AT_MOST_S, users=10_000)
    nodes = connected(lab)
    in_force = lab.routes.show().revision
    with machine_lock.exclusive() if topology in ALONE_ON else nullcontext(), under_load(lab, load) as run:
        with scenario.step("Kill the control plane"):
            fault = scenario.inject("control-plane-loss", how="kill", seconds=0)
        with scenario.step("Try to publish"), pytest.raises(LabNotRunningError) as refusal:
            lab.routes.publish(moved)
        with scenario.step(f"Stay without it for {outage.total_seconds():g} s"):
            consistently("it is gone", lambda: is_gone(lab, CONTROL_PLANE), during=outage)
        with scenario.step("Start it, and wait until all nodes are connected and hold the revision in force"):
            began = time.monotonic()
            fault.heal()
            # A proxyless driver is a node, too, and leaves with its run.
            await_connected(lab, nodes & {unit.name for unit in lab.status().units})
            eventually(
                "all hold it",
                lambda: held(lab),
                within=SERVES_WITHIN,
                until=lambda revisions: revisions == {in_force},
            )
            scenario.figure("converged after its return within", f"{time.monotonic() - began:.1f} s")
        with scenario.step("Publish a move, and take it back"):
            lab.routes.publish(moved)
            lab.routes.publish(routes)
    with scenario.step("Judge every answer"):
        assert_all_answered_rightly(run.result())
        assert_rate_was_kept(run.result())
    assert "control plane" in str(refusal.value)
    assert "does not answer" in str(refusal.value)


@pytest.mark.timeout(600)  # it may have to wait for the machine lock
@pytest.mark.scenario(takes_s=17, topologies=("gateway", "mesh", "proxyless"), alone_on=ALONE_ON)
def test_ten_seconds_without_control_plane_lose_nothing(
    scenario: Scenario, topology: str, routes: Path, tmp_path: Path, machine_lock: MachineLock
) -> None:
    """At 300 requests a second none fails; a publish is refused clearly; on its return all converge at once."""
    _away(scenario, topology, routes, moved_table(routes, tmp_path), timedelta(seconds=10), machine_lock)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.scenario(takes_s=135, topologies=("gateway", "mesh", "proxyless"), alone_on=ALONE_ON)
def test_two_minutes_without_control_plane_lose_nothing(
    scenario: Scenario, topology: str, routes: Path, tmp_path: Path, machine_lock: MachineLock
) -> None:
    """At 300 requests a second none fails; a publish is refused clearly; on its return all converge at once."""
    _away(scenario, topology, routes, moved_table(routes, tmp_path), timedelta(minutes=2), machine_lock)


@pytest.mark.scenario(takes_s=4, topologies=("mesh",))
def test_an_envoy_started_without_control_plane_serves_later(scenario: Scenario, lab: Lab) -> None:
    """A sidecar that starts alone has nowhere to send to; it serves once the control plane is back."""
    sidecar = "homepage-sidecar"
    before = connected(lab) & {unit.name for unit in lab.status().units}
    with scenario.step("Kill the control plane and a sidecar, and start the sidecar"):
        loss = scenario.inject("control-plane-loss", how="kill", seconds=0)
        with scenario.fault("kill", sidecar):
            pass
    with scenario.step("Ask, and get no answer"):
        scenario.see("nobody is answered", lambda: not is_answered(lab, "mesh", "homepage"), within=GONE_WITHIN)
    with scenario.step("Start the control plane, and ask until the sidecar serves"):
        began = time.monotonic()
        loss.heal()
        eventually("the sidecar serves", lambda: is_answered(lab, "mesh", "homepage"), within=SERVES_WITHIN)
        scenario.figure("served after the control plane's start within", f"{time.monotonic() - began:.1f} s")
    await_connected(lab, before)


@pytest.fixture
def refusing(lab: Lab) -> Iterator[None]:
    """One cluster's replicas refuse to load a version, which they may still hold for a scenario before."""
    await_unloaded(lab, REFUSER, MODEL_KEY)
    set_behaviour(lab, stub_pb2.Behaviour(refuse_to_load=stub_pb2.RoutingKeys(routing_keys=[MODEL_KEY])), REFUSER)
    yield
    set_behaviour(lab, stub_pb2.Behaviour(refuse_to_load=stub_pb2.RoutingKeys()), REFUSER)


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=3, topologies=("gateway", "mesh"))
@pytest.mark.usefixtures("refusing")
def test_a_bad_publish_keeps_the_last_good_revision(
    scenario: Scenario, lab: Lab, topology: str, routes: Path, tmp_path: Path
) -> None:
    """A table that is wrong, and one that a replica refuses, stop with a name and a reason, and cost no request."""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(routes.read_text().replace("use: cw-ranker@v2", "use: cw-ranker@v9"))
    before = lab.routes.show().revision
    with under_load(lab, load_on(topology, rate=200)) as run:
        step = scenario.step("Publish a table that names a version which there is not")
        with step, pytest.raises(InputError) as mistake:
            lab.routes.publish(wrong)
        step = scenario.step(f"Publish a move to {REFUSER}, whose replicas refuse to load the model")
        with step, pytest.raises(PublishError) as refusal:
            lab.routes.publish(moved_table(routes, tmp_path))
    with scenario.step("Judge every answer"):
        assert_all_answered_rightly(run.result())
    assert "wrong.yaml:17: use_cases.ContinueWatchingRanking.rules[1].use" in str(mistake.value)
    assert "no version 'v9'" in str(mistake.value)
    assert f"{REFUSER}-" in str(refusal.value)
    assert MODEL_KEY in str(refusal.value)
    assert lab.routes.show().revision == before
    last = lab.routes.history()[-1]
    assert ("failed", str(refusal.value)) == (last.steps[-1].phase, last.steps[-1].detail)
