"""Which nodes may open a stream: those that the lab planned, and those that the operator has admitted.

A certificate proves for whom a node acts, not that the lab expects the node. A publish waits for every node that is
connected, so an unexpected one must not connect by itself.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import grpc

from lab.errors import InputError, LabError
from lab.transport import is_operator
from lab.transport.xds import ROLE as PROXYLESS
from lab.transport.xds import is_node_of
from services.controlplane.registry.revisions import Registry, best_effort

if TYPE_CHECKING:
    from lab.identity import Identity

log = logging.getLogger(__name__)

MAX_STREAMS = 64
"""Streams of one identity, or of one node where none is proved. Each process of a caller is its own node."""

_MAX_REFUSED = 256
_READ_EVERY_S = 1.0  # of the registry, in which another control plane may have admitted a node


class NodeRefusedError(LabError):
    """A node may not open a stream.

    Attributes:
        code: status of the call.
    """

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Claim:
    """What a node says of itself, and what its connection proves.

    Attributes:
        node: its name.
        role: ``sidecar``, ``central-envoy``, ``proxyless``, ``resolver`` or ``gateway``.
        caller: for which it acts by itself; empty for all roles but ``proxyless``.
        who: SPIFFE id that the connection proves; empty in plaintext.
    """

    node: str
    role: str
    caller: str = ""
    who: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """A node that was refused.

    Attributes:
        reason: of the last time.
        times: how often.
        at_ns: when last, Unix nanoseconds.
    """

    claim: Claim
    reason: str
    times: int
    at_ns: int


class Admission:
    """Admits nodes, and counts their streams.

    Args:
        registry: keeps the names of admitted nodes.
        planned: role → names of its nodes, and for ``proxyless`` of the callers; None plans every node.
    """

    def __init__(self, registry: Registry, planned: Mapping[str, Collection[str]] | None = None) -> None:
        self.planned = planned
        self._registry = registry
        self._streams: Counter[str] = Counter()
        self._refused: dict[Claim, Refused] = {}
        self._admitted: frozenset[tuple[str, str]] = frozenset()
        self._read_at = float("-inf")

    @property
    def admitted(self) -> frozenset[tuple[str, str]]:
        """Name of each node that the operator has admitted, and the caller for which it may act by itself."""
        if (now := time.monotonic()) - self._read_at >= _READ_EVERY_S:
            self._read_at = now
            with best_effort("admitted nodes: "):
                self._admitted = self._registry.admitted_nodes()
        return self._admitted

    @property
    def refused(self) -> list[Refused]:
        """The nodes that were refused since this process began and not admitted since, at most 256."""
        return [each for claim, each in self._refused.items() if not self._is_expected(claim)]

    def admit(self, node: str, caller: str = "") -> str:
        """Admits a node from now on, and returns the caller for which it may act.

        Args:
            node: its name.
            caller: left out, it is the one that was refused under this name, or begins the name.

        Raises:
            InputError: the caller is not known.
        """
        planned = (self.planned or {}).get(PROXYLESS, ())
        callers = {claim.caller for claim in self._refused if claim.node == node}
        if begins := [each for each in planned if node.startswith(f"{each}-")]:
            callers.add(max(begins, key=len))
        if caller and caller not in planned:
            raise InputError(f"--caller: {caller!r} is not in this lab; there are {', '.join(sorted(planned))}")
        if not caller and len(callers) != 1:
            asked = ", ".join(sorted(callers or planned))
            raise InputError(f"node {node!r}: for which caller does it act? Name it with --caller: {asked}")
        self._registry.admit_node(node, found := caller or callers.pop())
        self._read_at = float("-inf")
        log.info("node %s is admitted for %s", node, found or "all callers")
        return found

    @contextmanager
    def stream(self, identity: Identity | None, claim: Claim) -> Iterator[None]:
        """Counts a node's stream for as long as the context lasts.

        Args:
            identity: that the connection proves; it fits the claim.
            claim: of the node.

        Raises:
            NodeRefusedError: the lab did not plan the node, or it has too many streams.
        """
        if is_operator(identity):
            yield
            return
        if not self._is_expected(claim):
            raise self._refusal(
                claim,
                grpc.StatusCode.PERMISSION_DENIED,
                f"node {claim.node!r} ({claim.role}) is not one that the lab planned; "
                f"the operator may admit it: lab nodes admit {claim.node}",
            )
        counted = claim.who or claim.caller or claim.node
        if self._streams[counted] >= MAX_STREAMS:
            reason = f"{counted} has {MAX_STREAMS} streams already, which is the limit for one identity"
            raise self._refusal(claim, grpc.StatusCode.RESOURCE_EXHAUSTED, reason)
        self._streams[counted] += 1
        try:
            yield
        finally:
            self._streams[counted] -= 1
            if not self._streams[counted]:
                del self._streams[counted]

    def _is_expected(self, claim: Claim) -> bool:
        if self.planned is None:
            return True
        names = self.planned.get(claim.role, ())
        if claim.role == PROXYLESS:
            is_planned = claim.caller in names and is_node_of(claim.caller, claim.node)
            return is_planned or (claim.node, claim.caller) in self.admitted
        return claim.node in names or any(node == claim.node for node, _ in self.admitted)

    def _refusal(self, claim: Claim, code: grpc.StatusCode, reason: str) -> NodeRefusedError:
        now_ns = self._registry.clock.now_ns()
        before = self._refused.pop(claim, None) or Refused(claim, reason, 0, now_ns)
        if not before.times:
            log.warning("refused: %s", reason)
        if len(self._refused) >= _MAX_REFUSED:
            # The oldest of those who have most: nobody can push out what others tried.
            most, _ = Counter(each.who for each in self._refused).most_common(1)[0]
            del self._refused[next(each for each in self._refused if each.who == most)]
        self._refused[claim] = replace(before, reason=reason, times=before.times + 1, at_ns=now_ns)
        return NodeRefusedError(code, reason)
