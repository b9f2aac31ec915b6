"""What is measured: an arm, which is a way from caller to model, in a cell, which is a size and a rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.report.scales import size

if TYPE_CHECKING:
    from lab.client import Endpoints

CALLER, USE_CASE, API, CLUSTER = "playback", "UpNext", "ranking.v1", "ml-cluster-5"
MODEL, VERSION = "up-next", "v1"
"""What all arms ask for: no experiment, no shadow, one version, so that arms differ in the way alone."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way from caller to model.

    Attributes:
        name: as tables have it.
        topology: whose client it takes.
        endpoints: where that finds what it needs.
        identity: folder of the caller's certificate; empty for plaintext.
    """

    name: str
    topology: str
    endpoints: Endpoints
    identity: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """What an arm is measured with.

    Attributes:
        payload_bytes: size of a request, its envelope not counted.
        rate: requests per second, evenly spaced.
        requests: in one turn.
    """

    payload_bytes: int
    rate: float
    requests: int

    def __str__(self) -> str:
        return f"{size(self.payload_bytes)}, {self.rate:g} rps"
