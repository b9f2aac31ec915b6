"""``mesh`` without leases: the resolver is asked on every call."""

from __future__ import annotations

from dataclasses import replace

from lab.client.mesh import UnleasedMeshClient
from lab.topologies import mesh

TOPOLOGY = replace(
    mesh.TOPOLOGY,
    name="mesh-unleased",
    reason="what leases buy",
    route="`mesh`, asking the resolver on every call",
    client=UnleasedMeshClient,
    colour="#56b4e9",
    in_scenarios=False,  # resolving on every call changes what a request costs, not where it goes
)
