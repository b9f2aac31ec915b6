"""A small lab of processes for faults, one a module."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from lab.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPEC = """
topologies = ["gateway", "mesh"]
routes = "routes.yaml"
[callers.homepage]
[gateway]
replicas = 1
"""
ROUTES = """
use_cases:
  ContinueWatchingRanking:
    callers: [homepage]
    api: ranking.v1
    timeout: 2s
    default: cw-ranker@v1
models:
  cw-ranker:
    versions:
      v1: {cluster: ml-cluster-1}
clusters:
  ml-cluster-1: {replicas: 2}
"""


@pytest.fixture(scope="module")
def lab_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    home: Path = tmp_path_factory.mktemp("faults")
    (home / "routes.yaml").write_text(ROUTES)
    (home / "spec.toml").write_text(SPEC)
    lab = Lab(f"faults-{secrets.token_hex(3)}", home=home)
    try:
        lab.up(spec=home / "spec.toml", runtime="process")
        yield lab
    finally:
        lab.down()


@pytest.fixture
def lab(lab_of_module: Lab) -> Iterator[Lab]:
    """Nothing is injected afterwards."""
    yield lab_of_module
    lab_of_module.faults.heal()


@pytest.fixture
def routes(lab: Lab) -> Path:
    """The route table that the lab began with."""
    return lab.folder.parent.parent / "routes.yaml"
