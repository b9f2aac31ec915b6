"""Names of identities: SPIFFE ids, and the host names that stand for them where a client can check only those."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

TRUST_DOMAIN = "lab.internal"
"""Every lab's: which lab an identity belongs to is said by the authority that signed for it."""

OPERATOR = "operator"
"""Role of whoever holds the ``lab`` command; it may do everything."""

_CALLER, _SIDECAR = "caller", "sidecar"
_PREFIX = f"spiffe://{TRUST_DOMAIN}/"
_PARTS = 2
_KEPT = 4096  # every request brings one, of the few units that call a server


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a unit is.

    Attributes:
        role: as :class:`lab.roles.Unit` has it, or ``operator``.
        name: the unit's; of a model replica its cluster's, whose replicas are all the same to those who call them.
    """

    role: str
    name: str

    @property
    def uri(self) -> str:
        """The SPIFFE id."""
        return f"{_PREFIX}{self.role}/{self.name}"

    @property
    def host_names(self) -> tuple[str, ...]:
        """From the exact one to the one that everybody of the lab has; gRPC's own clients check no URI, but these."""
        return host_name(f"{self.role}/{self.name}"), host_name(self.role), host_name("")

    @property
    def caller(self) -> str:
        """The one caller in whose name it asks for anything; empty of whoever asks for none, or for several."""
        if self.role == _SIDECAR and self == sidecar_of(caller := self.name.removesuffix(f"-{_SIDECAR}")):
            return caller
        return self.name if self.role == _CALLER else ""

    @classmethod
    @lru_cache(_KEPT)
    def of(cls, uri: str) -> Identity | None:
        """The identity that a SPIFFE id names; None if it is none of a lab's."""
        parts = uri.removeprefix(_PREFIX).split("/")
        if not uri.startswith(_PREFIX) or len(parts) != _PARTS or not all(parts):
            return None
        return cls(*parts)


def sidecar_of(caller: str) -> Identity:
    """The Envoy beside a caller."""
    return Identity(_SIDECAR, f"{caller}-{_SIDECAR}")


def host_name(peer: str) -> str:
    """The host name that stands for ``role/name``, for all of a ``role``, or if empty for everybody of a lab."""
    return ".".join([*reversed(peer.split("/")), TRUST_DOMAIN]) if peer else TRUST_DOMAIN
