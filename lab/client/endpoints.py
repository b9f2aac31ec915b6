"""The addresses that a client may need; which of them it does need depends on the topology."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lab.errors import SpecError


@dataclass(frozen=True, slots=True)
class DirectTarget:
    """Where one use case's model is, hard-coded on purpose: a client is not informed when it moves.

    Attributes:
        model: e.g. ``cw-ranker``.
        version: e.g. ``v2``.
        addresses: ``ip:port`` of each replica.
        cluster: the model cluster that must answer there; any if empty.
        parameters: of the model, for the body.
        balancing: how gRPC balances over the addresses, see :func:`lab.transport.open_channel`; in turn if empty.
        shard: of the version that is there; 0 if it has none.
    """

    model: str
    version: str
    addresses: tuple[str, ...]
    cluster: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    balancing: Mapping[str, Any] = field(default_factory=dict)
    shard: int = 0


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses by role.

    Attributes:
        by_role: role → ``host:port`` of each of its units, e.g. of the resolver beside the caller, or of all gateways.
        direct: use case → hard-coded addresses, for topologies that follow no rules.
    """

    by_role: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    direct: Mapping[str, DirectTarget] = field(default_factory=dict)

    def addresses_of(self, role: str) -> tuple[str, ...]:
        """Addresses of all units of a role.

        Raises:
            SpecError: there are none.
        """
        found = self.by_role.get(role, ())
        if not found:
            raise SpecError(f"no address of a {role} is given")
        return tuple(found)

    def address_of(self, role: str) -> str:
        """Address of a role's first unit.

        Raises:
            SpecError: there is none.
        """
        return self.addresses_of(role)[0]

    def from_another_pod(self, host: str) -> Endpoints:
        """The same addresses, with ``host`` for the loopback of the caller's pod."""
        local = "127.0.0.1:"
        return replace(
            self,
            by_role={
                role: tuple(f"{host}:{each.removeprefix(local)}" if each.startswith(local) else each for each in found)
                for role, found in self.by_role.items()
            },
        )

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Endpoints:
        """The inverse of :func:`dataclasses.asdict`; both fields may be left out.

        Raises:
            KeyError: a direct target lacks a field.
        """
        direct = {
            use_case: DirectTarget(
                target["model"],
                target["version"],
                tuple(target["addresses"]),
                target.get("cluster", ""),
                target.get("parameters", {}),
                target.get("balancing", {}),
                target.get("shard", 0),
            )
            for use_case, target in document.get("direct", {}).items()
        }
        return cls({role: tuple(addresses) for role, addresses in document.get("by_role", {}).items()}, direct)
