"""Several control planes serve the same revisions, and any of them may die."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.client.admin import AdminClient
from lab.roles import CONTROL_PLANE
from lab.runs import LoadOptions
from lab.waiting import eventually
from scenarios.framework.catalogue import default_topologies
from scenarios.framework.steps import (
    AT_MOST_S,
    assert_all_answered_rightly,
    await_connected,
    connected,
    held,
    own_lab,
    registered,
    under_load,
)

if TYPE_CHECKING:
    from lab.lab import Lab
    from scenarios.framework.scenario import Scenario

RATE_RPS = 100.0
BOTH = (CONTROL_PLANE, f"{CONTROL_PLANE}-2")
FOLLOWED_WITHIN = timedelta(seconds=10)
_ROUTES = """
use_cases:
  ContinueWatchingRanking: {callers: [homepage], api: ranking.v1, timeout: 2s, default: cw-ranker@v1}
models:
  cw-ranker: {versions: {v1: {cluster: ml-cluster-1}, v2: {cluster: ml-cluster-2}}}
clusters:
  ml-cluster-1: {replicas: 2}
  ml-cluster-2: {replicas: 1}
"""


@pytest.fixture(scope="module")
def _pair(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    spec = f"topologies = {json.dumps(default_topologies())}\ncontrol_planes = {len(BOTH)}\n[callers.homepage]\n"
    with own_lab(pytestconfig, tmp_path_factory.mktemp("pair"), spec, _ROUTES) as lab:
        yield lab


@pytest.fixture
def pair(_pair: Lab, scenario: Scenario) -> Lab:
    """Another lab: one caller, two clusters, and two control planes."""
    scenario.watch(_pair)
    return _pair


@pytest.mark.scenario(takes_s=8)
def test_a_second_control_plane_takes_over(scenario: Scenario, pair: Lab, topology: str, tmp_path: Path) -> None:
    """Under load each of two is killed in turn; its nodes go to the other, which publishes to all of them."""
    load = LoadOptions(topology=topology, caller="homepage", rate=RATE_RPS, duration_s=2 * AT_MOST_S)
    with under_load(pair, load) as run:
        for victim, version in zip(BOTH, ("v2", "v1"), strict=True):
            _do_without(scenario, pair, victim, version, tmp_path)
    with scenario.step("Judge every answer"):
        assert_all_answered_rightly(run.result())


def _do_without(scenario: Scenario, pair: Lab, victim: str, version: str, folder: Path) -> None:
    """Kills one, publishes a version through the other, and starts it again."""
    # A proxyless driver is a node, too, and leaves with its run.
    nodes, replicas = connected(pair) & {unit.name for unit in pair.status().units}, registered(pair)
    with scenario.step(f"Kill {victim}"):
        fault = scenario.kill(victim, lab=pair)
    with scenario.step(f"Publish {version} through the other"):
        revision = _publish(pair, version, folder)
        # It also waits for nodes that were connected to the dead one.
        assert nodes <= {each.node for each in pair.routes.show(revision).acknowledgements}
        assert held(pair) == {revision}
    with scenario.step(f"Start {victim}, and wait until it serves the same"):
        fault.heal()
        await_connected(pair, nodes)
        eventually(
            "it serves that revision, and knows all replicas",
            lambda: _seen_by(pair, victim),
            within=FOLLOWED_WITHIN,
            until=lambda seen: seen == (revision, replicas),
        )
    scenario.figure(f"acknowledged without {victim}", f"by all {len(nodes)} nodes")


def _publish(lab: Lab, version: str, folder: Path) -> int:
    table = folder / "routes.yaml"
    table.write_text(_ROUTES.replace("default: cw-ranker@v1", f"default: cw-ranker@{version}"))
    return lab.routes.publish(table)


def _seen_by(lab: Lab, control_plane: str) -> tuple[int, set[str]]:
    """The revision that a control plane serves, and its replicas."""
    address = next(unit.address for unit in lab.status().units if unit.name == control_plane)
    with AdminClient(address) as admin:
        status = admin.status()
    return status.revision, {each.replica for each in status.replicas}
