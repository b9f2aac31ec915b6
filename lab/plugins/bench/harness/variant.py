"""What benches of latency and cost measure: variants, each at load points."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.report.scales import size
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from lab.client import Endpoints
    from lab.plugins.bench.harness.environment import Environment

CALLER, USE_CASE, API, CLUSTER = "playback", "UpNext", "ranking.v1", "ml-cluster-5"
MODEL, VERSION = "up-next", "v1"
"""What every variant requests: no experiment, no shadow, one version, so variants differ in nothing but their path."""

REPLICAS = 2
ROUTES = f"""
use_cases:
  {USE_CASE}: {{callers: [{CALLER}], api: {API}, timeout: 10s, default: {MODEL}@{VERSION}}}
models:
  {MODEL}: {{versions: {{{VERSION}: {{cluster: {CLUSTER}}}}}}}
clusters:
  {CLUSTER}: {{replicas: {REPLICAS}}}
"""
"""The route table of small labs: this use case alone."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One path from caller to model.

    Attributes:
        endpoints: that the caller needs.
        identity: folder of the caller's certificate; empty for plaintext.
        lab: that it goes through; None for the bench's own.
    """

    name: str
    topology: str
    endpoints: Endpoints
    identity: str = ""
    lab: Environment | None = None


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """A payload size without its envelope, B, at a rate of evenly spaced requests, rps, and the size of one trial."""

    payload_bytes: int
    rate: float
    requests: int

    def __str__(self) -> str:
        return f"{size(self.payload_bytes)}, {self.rate:g} rps"


def fastest_of_each_size(points: Iterable[LoadPoint]) -> list[LoadPoint]:
    """Returns, of each payload size, the load point with the highest rate."""
    by_rate = sorted(points, key=lambda point: point.rate)
    return list({point.payload_bytes: point for point in by_rate}.values())


def one_of_each_path(names: Iterable[str]) -> list[str]:
    """Returns, of topologies through the same roles, the first alone: ``mesh`` for ``mesh`` and ``mesh-unleased``."""
    first: dict[tuple[str, ...], str] = {}
    for name in names:
        first.setdefault(TOPOLOGIES[name].roles, name)
    return list(first.values())


def paths_with_units(names: Iterable[str]) -> list[str]:
    """Returns, of these topologies, one of each path on which there is more than caller and model."""
    return one_of_each_path(each for each in names if TOPOLOGIES[each].roles)
