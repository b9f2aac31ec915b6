"""By least-request a slow replica gets few requests wherever a topology can pick so; by round-robin it gets half."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from lab.history import read_parquet
from lab.lab import Lab
from lab.runs.folder import HISTORY
from tests.labs import TWO_REPLICAS, drive_all, write_spec

TOPOLOGIES = ("gateway", "mesh", "gateway-header")
SLOW = "ml-cluster-1-a"


def shares_of_the_slow(lab: Lab, topologies: Sequence[str]) -> dict[str, float]:
    """Its part of the answers over each topology."""
    shares = {}
    for topology, result in drive_all(lab, topologies, rate=100, duration_s=3).items():
        replicas = [record.replica for record in read_parquet(result.folder / HISTORY)]
        assert len(set(replicas)) == 2, replicas
        shares[topology] = replicas.count(SLOW) / len(replicas)
    return shares


@pytest.mark.parametrize(("picker", "low", "high"), [("least-request", 0, 0.3), ("round-robin", 0.4, 0.6)])
def test_a_slow_replica_gets_its_share(own_lab: Lab, tmp_path: Path, picker: str, low: float, high: float) -> None:
    spec = write_spec(tmp_path, routes=TWO_REPLICAS)
    own_lab.up(spec=spec, topologies=TOPOLOGIES, picker=picker, runtime="process")
    with own_lab.faults.injected("slow", SLOW, ms=200):
        shares = shares_of_the_slow(own_lab, TOPOLOGIES)
    assert {topology: share for topology, share in shares.items() if not low <= share <= high} == {}
