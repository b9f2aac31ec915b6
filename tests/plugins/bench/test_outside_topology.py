"""A topology of a plugin file: what benches derive from its path."""

from pathlib import Path

import pytest

from lab.plugins.bench.harness.fault_runner import Reach, bench_faults
from lab.plugins.bench.harness.variant import one_of_each_path
from lab.plugins.bench.suites.decomposition import PARTS, parts
from lab.registry import PLUGINS

OTHER_PROXY = """
from dataclasses import replace

from lab.roles import central_envoy
from lab.topologies import gateway_header

ROLE = replace(central_envoy.ROLE, name="other-proxy", title="Other proxy")
TOPOLOGY = replace(gateway_header.TOPOLOGY, name="gateway-other", path=("caller", "other-proxy", "model"))
"""


@pytest.fixture(autouse=True)
def other_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``gateway-other`` is ``gateway-header`` with another proxy."""
    file = tmp_path / "other.py"
    file.write_text(OTHER_PROXY)
    monkeypatch.setenv(PLUGINS, str(file))


def test_its_proxy_can_be_killed_and_only_its_own_requests_pass_through_it() -> None:
    fault = bench_faults()["other-proxy-killed"]

    assert [each for each in ("gateway-other", "gateway-header", "mesh") if fault.is_in_path(each)] == ["gateway-other"]
    assert (fault.text, fault.reach) == ("other proxy killed", Reach.EVERY_CALLER)
    assert bench_faults()["resolver-killed"].is_in_path("gateway-other")


def test_it_is_compared_with_the_topology_that_differs_in_the_proxy_alone() -> None:
    [other] = [part for part in parts() if part not in PARTS]

    assert (other.more, other.less) == ("gateway-other", "gateway-header")
    assert other.name == "other-proxy, not central-envoy"


def test_it_has_a_path_of_its_own() -> None:
    names = ["gateway-header", "gateway-other", "mesh", "mesh-unleased"]

    assert one_of_each_path(names) == ["gateway-header", "gateway-other", "mesh"]
