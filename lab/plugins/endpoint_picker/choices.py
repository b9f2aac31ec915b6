"""Picks by pickers that choose for each request: the gateway's own, with its signals of load and its log of picks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc

from lab.plugins.endpoint_picker.prompts import asked_of
from services.gateway.picked_for import PickedFor
from services.gateway.pool import Pool
from services.gateway.replicas import Replicas

if TYPE_CHECKING:
    from lab.pickers import Asked, Picker
    from lab.routing.slo import Slo
    from services.gateway.picks import Picking
    from services.gateway.replicas import Replica
    from services.rules import RuleSet

_STATUS = "grpc-status"
_CODES = {str(code.value[0]): code for code in grpc.StatusCode}


class Choice(PickedFor):
    """One pick, which counts at its replica until :meth:`end`.

    Attributes:
        replica: that was picked.
    """

    __slots__ = ("_code", "replica")

    replica: Replica

    def __init__(self, asked: Asked) -> None:
        super().__init__(asked)
        self._code: grpc.StatusCode | None = None

    @property
    def address(self) -> str:
        """Of the replica."""
        return self.replica.address

    def served_by(self, address: str) -> None:
        """Notes which replica served it, by the proxy; empty if it did not say."""
        self.served = "" if address == self.address else address

    def answered(self, headers: Mapping[str, str]) -> None:
        """Notes the status of the answer, if its headers or trailers have it."""
        self._code = _CODES.get(headers.get(_STATUS, ""), self._code)

    def end(self) -> None:
        """Counts it out."""
        self.replica.release(self._code, self)


class Choices:
    """The choices of all routing keys.

    Args:
        picker: one that chooses for each request.
        picking: its signal, and its log.

    Attributes:
        prompts: requests by what became of their prompts.
    """

    def __init__(self, picker: Picker, picking: Picking) -> None:
        self.prompts: Counter[str] = Counter()
        self._pool = Pool(picker, picking)
        self._objectives: Mapping[str, Slo] = {}

    async def put_in_force(self, rules: RuleSet) -> None:
        """Connects to the replicas of a rule set; what the proxy does by the table's policies is not done here."""
        self._objectives = {name: each.slo for name, each in rules.router.use_cases.items()}
        await self._pool.put_in_force(replace(rules, policies={}))

    def choose(
        self, routing_key: str, addresses: Collection[str], headers: Mapping[str, str], body: bytes | None
    ) -> Choice | None:
        """Picks one of the replicas at some addresses; None if none of them can be reached."""
        group = self._pool.backend(routing_key)
        if not isinstance(group, Replicas):
            return None
        asked, became = asked_of(headers, body, self._objectives)
        choice = Choice(asked)
        replica = group.take([each for each in group.all() if each.address not in addresses], choice)
        if replica is None:
            return None
        choice.replica = replica
        if replica.address not in addresses:
            choice.end()
            return None
        self.prompts[became] += 1
        return choice

    async def close(self) -> None:
        """Ends all connections."""
        await self._pool.close()
