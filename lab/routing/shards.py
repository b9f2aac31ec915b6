"""Shards of a model version, each on a cluster: requests are divided among them by tenant, or by a hash of the user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.routing.buckets import BUCKETS, bucket
from lab.routing.limits import DEFAULT

SALT = "shard"
"""The same for all models: those with as many shards put a user into the same one."""


@dataclass(frozen=True, slots=True)
class Shards:
    """What chooses a request's shard.

    Attributes:
        count: of shards; they are numbered from 1.
        tenants: tenant → shard, ``default`` for all others; empty if a hash of the user chooses.
    """

    count: int
    tenants: Mapping[str, int]

    @classmethod
    def of(cls, cluster: str | Mapping[str, Any]) -> Shards | None:
        """The shards in a version's ``cluster``; None if that is the name of one."""
        return None if isinstance(cluster, str) else cls(len(cluster["shards"]), cluster.get("tenants", {}))

    @property
    def reads(self) -> str:
        """The context field that the choice depends on."""
        return "tenant" if self.tenants else "user_id"

    def choose(self, context: Mapping[str, str]) -> int:
        """The shard of a request."""
        value = context.get(self.reads, "")
        if self.tenants:
            return self.tenants.get(value, self.tenants[DEFAULT])
        return bucket(SALT, value) * self.count // BUCKETS + 1


def clusters_of(cluster: str | Mapping[str, Any]) -> dict[int, str]:
    """Shard → cluster, of a version's ``cluster``; 0 → cluster if it has no shards."""
    return {0: cluster} if isinstance(cluster, str) else dict(enumerate(cluster["shards"], 1))
