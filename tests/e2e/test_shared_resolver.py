"""One resolver that all callers ask, on each runtime."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from lab.errors import CallError, SpecError
from lab.lab import Lab
from lab.runtime.compose.engine import obstacle as obstacle_to_compose
from lab.spec import read_spec
from tests.lab_command import json_of, run_lab
from tests.labs import known, with_timeout, write_spec
from tests.missing import missing

SPEC = """
topologies = ["mesh", "mesh-unleased"]
routes = "routes.yaml"
resolver = "shared"
[callers.homepage]
[callers.playback]
[callers.search]
"""
ROUTES = """
use_cases:
  Rows: {callers: [homepage, playback], api: ranking.v1, timeout: 2s, default: rows@v1}
  Search: {callers: [search], api: ranking.v1, timeout: 2s, default: rows@v1}
models:
  rows: {versions: {v1: {cluster: ml-cluster-1}}}
clusters:
  ml-cluster-1: {replicas: 1}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    return write_spec(tmp_path, SPEC, ROUTES)


@pytest.mark.parametrize("runtime", ["process", "compose"])
def test_all_callers_ask_the_one_resolver_each_in_its_own_name(own_lab: Lab, spec: Path, runtime: str) -> None:
    obstacle = obstacle_to_compose() if runtime == "compose" else ""
    if obstacle:
        missing(obstacle)

    calls = own_lab.up(spec=spec, runtime=runtime)

    assert [call.topology for call in calls] == ["mesh", "mesh-unleased"]
    for caller in ("homepage", "playback"):
        assert own_lab.call("Rows", topology="mesh-unleased", caller=caller).version == "v1"
    with pytest.raises(CallError) as refused:
        own_lab.call("Rows", topology="mesh-unleased", caller="search")
    assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED
    status = json_of(run_lab(own_lab, "status", "--json"))
    assert [unit["name"] for unit in status["units"] if unit["role"] == "resolver"] == ["shared-resolver"]
    assert [node["node"] for node in status["nodes"] if node["role"] == "resolver"] == ["shared-resolver"]
    [address] = {unit["address"] for unit in status["units"] if unit["role"] == "resolver"}
    where = json_of(run_lab(own_lab, "endpoints", "--json"))
    assert {caller["resolver"] for caller in where["callers"].values()} == {address}
    assert len({caller["sidecar"] for caller in where["callers"].values()}) == 3

    spec.with_name("routes.yaml").write_text(with_timeout(ROUTES, "3s"))
    own_lab.routes.publish(spec.with_name("routes.yaml"))
    [resolver] = [node for node in known(own_lab).nodes if node.role == "resolver"]
    assert resolver.acked_revision == 2

    assert own_lab.call("Rows", topology="mesh", caller="homepage").source == "model"
    own_lab.units.kill("shared-resolver")
    assert own_lab.call("Rows", topology="mesh", caller="homepage").source == "model"  # by its lease
    assert own_lab.call("Rows", topology="mesh-unleased", caller="homepage").source == "default"


def test_a_resolver_stands_in_one_of_two_places(spec: Path) -> None:
    spec.write_text(SPEC.replace('"shared"', '"central"'))
    with pytest.raises(SpecError, match=r"mini\.toml:4: resolver: .*'sidecar' or 'shared', found 'central'"):
        read_spec(spec)
