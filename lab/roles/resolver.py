"""The resolver: answers where a request goes, with a lease; beside each caller, or one that all callers share."""

from __future__ import annotations

from collections.abc import Iterator

from lab.roles._asked import resolver_decides
from lab.roles._follows import Follows
from lab.roles._probe import Probe
from lab.roles._role import Layout, Placement, Role, python
from lab.roles._unit import Unit

SHARED_RESOLVER = "shared-resolver"
"""Name of the unit that all callers share."""
RESOLVER, _PORT = "resolver", 9001


def _units(lab: Layout, caller: str) -> Iterator[Unit]:
    if bool(caller) is (lab.spec.resolver == "shared"):
        return
    name = f"{caller}-{RESOLVER}" if caller else SHARED_RESOLVER
    port = lab.site.port(name, "grpc", caller, _PORT)
    argv = python(
        "services.resolver",
        name=name,
        **({"owner": caller} if caller else {}),
        listen=port.bind,
        control_plane=lab.control_plane(name),
        lease_ttl=lab.spec.leases.ttl_s,
        max_stale=lab.spec.leases.max_stale_s,
        **lab.request_log(name),
    )
    yield Unit(name, RESOLVER, argv, port, pod=caller or name, logs_requests=lab.spec.log_requests)


ROLE = Role(
    name=RESOLVER,
    title="Resolvers",
    placement=Placement.BESIDE_CALLER,
    units=_units,
    probe=Probe.CONNECTED,
    follows=Follows.RULES,
    checked_by=("convergence",),
    decides=resolver_decides,
    port=_PORT,
)
