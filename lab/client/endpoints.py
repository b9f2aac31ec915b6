"""The addresses that a client may need; which of them it does need depends on the topology."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class DirectTarget:
    """Where one use case's model stands, hard-coded on purpose: nobody will say when it moves.

    Attributes:
        model: e.g. ``cw-ranker``.
        version: e.g. ``v2``.
        addresses: ``ip:port`` of each replica.
        cluster: the model cluster that must be there; whichever is if empty.
    """

    model: str
    version: str
    addresses: tuple[str, ...]
    cluster: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Addresses by what stands there, each ``host:port``.

    Attributes:
        resolver: for ``mesh``, ``gateway-header``, ``proxyless``.
        sidecar: Envoy beside the caller, for ``mesh``.
        central_envoy: Envoy that all callers share, for ``gateway-header``.
        control_plane: for ``proxyless``.
        gateways: replicas, for ``gateway``, ``gateway-passthrough``.
        direct: by use case, for ``direct``.
    """

    resolver: str | None = None
    sidecar: str | None = None
    central_envoy: str | None = None
    control_plane: str | None = None
    gateways: tuple[str, ...] = ()
    direct: Mapping[str, DirectTarget] = field(default_factory=dict)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Endpoints:
        """The inverse of :func:`dataclasses.asdict`; what is left out is not there.

        Raises:
            KeyError: a direct target lacks a field.
        """
        direct = {
            use_case: DirectTarget(
                target["model"], target["version"], tuple(target["addresses"]), target.get("cluster", "")
            )
            for use_case, target in document.get("direct", {}).items()
        }
        return cls(
            resolver=document.get("resolver"),
            sidecar=document.get("sidecar"),
            central_envoy=document.get("central_envoy"),
            control_plane=document.get("control_plane"),
            gateways=tuple(document.get("gateways", ())),
            direct=direct,
        )
