"""All topologies by name, and a client for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.client import BeforeSend, Client, DefaultAnswer, Endpoints
from lab.errors import SpecError
from lab.registry import Registry
from lab.topologies._topology import ComparedAs, Topology

if TYPE_CHECKING:
    from lab.transport import Security

TOPOLOGIES = Registry(Topology, package="lab.topologies", group="routing_lab.topologies", noun="topology")
"""All topologies: the lab's, those of other distributions, and those of plugin files."""


def compared_as(part: ComparedAs) -> str:
    """Name of the lab's topology that has this part in comparisons."""
    return next(each.name for each in TOPOLOGIES.values() if each.compared_as == part)


def open_client(
    topology: str,
    caller: str,
    endpoints: Endpoints,
    *,
    default_answer: DefaultAnswer | None = None,
    security: Security | None = None,
    before_send: BeforeSend | None = None,
    ids_of: str = "",
) -> Client:
    """Opens a client that sends in a caller's name. Needs a running event loop.

    Args:
        topology: name of one of :data:`TOPOLOGIES`.
        caller: name of the caller.
        endpoints: the addresses; only those that the topology needs must be there.
        default_answer: ``(use_case, request, context) -> response``, the caller's own answer when no decision can be
            had, or when every version of a fallback chain has failed.
        security: credentials; this process's own by default.
        before_send: see :class:`lab.client.Client`.
        ids_of: likewise.

    Raises:
        InputError: the topology is not known, or an address that it needs is missing.
    """
    make = TOPOLOGIES[topology].strategy
    try:
        strategy = make(caller, endpoints, security)
    except SpecError as error:
        raise SpecError(f"topology {topology}: {error}") from None
    return Client(topology, caller, strategy, default_answer=default_answer, before_send=before_send, ids_of=ids_of)
