"""Where a unit sends the spans of its requests, as its environment says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec

from lab.errors import InputError

VARIABLE = "LAB_TRACES"
"""Environment variable of a unit whose requests are traced."""

MAX_ATTRIBUTE_CHARACTERS = 256
"""Limit for an attribute of a span."""


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """Where the spans of a unit go.

    Attributes:
        endpoint: ``host:port`` of the receiver of OTLP over gRPC.
        peer: role that the receiver proves with mTLS; empty for one outside the lab.
        rate: share of requests without a parent that are traced, 0 to 1.
        service: ``service.name`` of the spans; replicas share it.
        unit: ``service.instance.id``.
        authorities: certificates, PEM, of those that a receiver outside the lab has its own from; empty for plaintext.
    """

    endpoint: str
    peer: str
    rate: float
    service: str
    unit: str
    authorities: str = ""

    def to_environment(self) -> dict[str, str]:
        """The variable for the unit's environment."""
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> TraceSettings | None:
        """The settings in an environment; None if it has none."""
        text = environment.get(VARIABLE)
        return cls(**json.loads(text)) if text else None


def require_packages() -> None:
    """Raises InputError unless the packages of the extra ``traces`` are installed."""
    for name in ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.grpc"):
        try:
            found = find_spec(name)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise InputError(f"--traces: {name} is not installed: make .venv/with-traces")
