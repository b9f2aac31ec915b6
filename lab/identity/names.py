"""Names of identities: SPIFFE ids, and host names for clients that can check only those."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

TRUST_DOMAIN = "lab.internal"
"""The trust domain of every lab: labs differ by the authority that signs their certificates."""

OPERATOR = "operator"
"""Role of the ``lab`` command; it may do everything."""

OWNER = "owner"
"""Role of those who publish changes of their own entries of the route table."""

_CALLER, _SIDECAR = "caller", "sidecar"
_PREFIX = f"spiffe://{TRUST_DOMAIN}/"
_PARTS = 2
_KEPT = 4096  # each request presents one; few units call a server


@dataclass(frozen=True, slots=True)
class Identity:
    """Identity of a unit.

    Attributes:
        role: name of its role, or ``operator``.
        name: name of the unit; of a model replica that of its cluster, as clients call any replica of it.
    """

    role: str
    name: str

    @property
    def uri(self) -> str:
        """The SPIFFE id."""
        return f"{_PREFIX}{self.role}/{self.name}"

    @property
    def host_names(self) -> tuple[str, ...]:
        """Host names in the certificate, which gRPC clients check: of the unit, of its role, and of the whole lab."""
        return host_name(f"{self.role}/{self.name}"), host_name(self.role), host_name("")

    @property
    def caller(self) -> str:
        """The caller that it acts for; empty for units that act for none, or for many.

        A caller acts for itself; a unit ``CALLER-ROLE`` for it if the role is ``sidecar`` or ends with ``-sidecar``.
        """
        if self.role.split("-")[-1] == _SIDECAR and self.name.endswith(f"-{self.role}"):
            return self.name.removesuffix(f"-{self.role}")
        return self.name if self.role == _CALLER else ""

    @classmethod
    @lru_cache(_KEPT)
    def of(cls, uri: str) -> Identity | None:
        """The identity of a SPIFFE id; None if it belongs to no lab."""
        parts = uri.removeprefix(_PREFIX).split("/")
        if not uri.startswith(_PREFIX) or len(parts) != _PARTS or not all(parts):
            return None
        return cls(*parts)


def sidecar_of(caller: str) -> Identity:
    """Identity of the Envoy beside a caller."""
    return Identity(_SIDECAR, f"{caller}-{_SIDECAR}")


def host_name(peer: str) -> str:
    """The host name of ``role/name``, of all units of a ``role``, or if empty of all units of a lab."""
    return ".".join([*reversed(peer.split("/")), TRUST_DOMAIN]) if peer else TRUST_DOMAIN
