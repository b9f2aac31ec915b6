"""Each proxy is configured with the lab's picker: by least-request a slow replica gets few requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.lab import Lab
from tests.e2e.test_least_request import SLOW, shares_of_the_slow
from tests.labs import TWO_REPLICAS, write_spec
from tests.proxies import GATEWAYS, need


@pytest.mark.parametrize("topology", GATEWAYS)
def test_a_slow_replica_gets_few_requests(own_lab: Lab, tmp_path: Path, topology: str) -> None:
    need(topology)
    spec = write_spec(tmp_path, routes=TWO_REPLICAS)
    own_lab.up(spec=spec, topologies=[topology], picker="least-request", runtime="process")
    with own_lab.faults.injected("slow", SLOW, ms=200):
        assert shares_of_the_slow(own_lab, [topology])[topology] < 0.35
