"""The listing of nodes: planned, admitted and refused, connected or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from lab.transport.xds import ROLE as PROXYLESS
from lab.transport.xds import is_node_of
from models.proto.control.v1 import admin_pb2
from services.controlplane.api.audit import timestamp

if TYPE_CHECKING:
    from services.controlplane.nodes.admission import Admission, Refused
    from services.controlplane.nodes.subscribers import Subscriber

_Listed = admin_pb2.ListedNode


def listed(admission: Admission, connected: Iterable[Subscriber]) -> list[admin_pb2.ListedNode]:
    """All nodes, by state and name.

    Args:
        admission: knows planned, admitted and refused nodes.
        connected: one a stream.
    """
    streams = Counter((each.node, each.role) for each in connected)
    return [
        *_planned(admission, streams),
        *_admitted(admission, streams),
        # The operator may connect as any node; without a plan, so may all.
        *(
            _Listed(node=node, role=role, state=_Listed.STATE_ADMITTED, streams=count)
            for (node, role), count in sorted(streams.items())
        ),
        *map(_refused, sorted(admission.refused, key=lambda each: each.claim.node)),
    ]


def _planned(admission: Admission, streams: Counter[tuple[str, str]]) -> Iterator[admin_pb2.ListedNode]:
    """The planned nodes; takes their streams out of ``streams``."""
    for role, names in (admission.planned or {}).items():
        for name in sorted(names):
            if role == PROXYLESS:
                its = [key for key in streams if key[1] == role and is_node_of(name, key[0])]
                node, caller = f"{name}-{PROXYLESS}-*", name
            else:
                its, node, caller = [(name, role)], name, ""
            count = sum(streams.pop(key, 0) for key in its)
            yield _Listed(node=node, role=role, caller=caller, state=_Listed.STATE_PLANNED, streams=count)


def _admitted(admission: Admission, streams: Counter[tuple[str, str]]) -> Iterator[admin_pb2.ListedNode]:
    """The admitted nodes; takes their streams out of ``streams``. One that is not connected has its likely role."""
    for node, caller in sorted(admission.admitted):
        key = next((each for each in streams if each[0] == node), (node, PROXYLESS if caller else ""))
        count = streams.pop(key, 0)
        yield _Listed(node=node, role=key[1], caller=caller, state=_Listed.STATE_ADMITTED, streams=count)


def _refused(each: Refused) -> admin_pb2.ListedNode:
    claim = each.claim
    return _Listed(
        node=claim.node,
        role=claim.role,
        caller=claim.caller,
        state=_Listed.STATE_REFUSED,
        who=claim.who,
        reason=each.reason,
        times=each.times,
        at=timestamp(each.at_ns),
    )
