"""One resolver that all callers ask, on each runtime."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import grpc
import pytest

from lab.errors import CallError, SpecError
from lab.runtime.compose.engine import obstacle as obstacle_to_compose
from lab.spec import read_spec
from tests.lab_calls import known
from tests.lab_command import run_lab

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lab.lab import Lab

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
    (tmp_path / "routes.yaml").write_text(ROUTES)
    file = tmp_path / "shared.toml"
    file.write_text(SPEC)
    return file


@pytest.mark.parametrize("runtime", ["process", "compose"])
def test_all_callers_ask_the_one_resolver_each_in_its_own_name(
    new_lab: Callable[[], Lab], spec: Path, runtime: str
) -> None:
    obstacle = obstacle_to_compose() if runtime == "compose" else ""
    if obstacle:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(obstacle)
    lab = new_lab()

    calls = lab.up(spec=spec, runtime=runtime)

    assert [call.topology for call in calls] == ["mesh", "mesh-unleased"]
    for caller in ("homepage", "playback"):
        assert lab.call("Rows", topology="mesh-unleased", caller=caller).version == "v1"
    with pytest.raises(CallError) as refused:
        lab.call("Rows", topology="mesh-unleased", caller="search")
    assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED
    status = json.loads(run_lab(lab, "status", "--json").stdout)
    assert [unit["name"] for unit in status["units"] if unit["role"] == "resolver"] == ["shared-resolver"]
    assert [node["node"] for node in status["nodes"] if node["role"] == "resolver"] == ["shared-resolver"]
    [address] = {unit["address"] for unit in status["units"] if unit["role"] == "resolver"}
    where = json.loads(run_lab(lab, "endpoints", "--json").stdout)
    assert {caller["resolver"] for caller in where["callers"].values()} == {address}
    assert len({caller["sidecar"] for caller in where["callers"].values()}) == 3

    spec.with_name("routes.yaml").write_text(ROUTES.replace("2s", "3s"))
    lab.routes.publish(spec.with_name("routes.yaml"))
    [resolver] = [node for node in known(lab).nodes if node.role == "resolver"]
    assert resolver.acked_revision == 2

    assert lab.call("Rows", topology="mesh", caller="homepage").source == "model"
    lab.units.kill("shared-resolver")
    assert lab.call("Rows", topology="mesh", caller="homepage").source == "model"  # by its lease
    assert lab.call("Rows", topology="mesh-unleased", caller="homepage").source == "default"


def test_a_resolver_stands_in_one_of_two_places(spec: Path) -> None:
    spec.write_text(SPEC.replace('"shared"', '"central"'))
    with pytest.raises(SpecError, match=r"shared\.toml:4: resolver: .*'sidecar' or 'shared', found 'central'"):
        read_spec(spec)
