"""The value that describes a topology."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lab.client import StrategyFactory


@dataclass(frozen=True, slots=True)
class Support:
    """Whether a topology supports something.

    Attributes:
        supported: whether it does.
        note: a limit of the support, or the reason why there is none, for people: nothing is decided by it.
    """

    supported: bool
    note: str = ""

    def __bool__(self) -> bool:
        return self.supported

    def __str__(self) -> str:
        answer = "yes" if self.supported else "no"
        return f"{answer}: {self.note}" if self.note else answer


def yes(note: str) -> Support:
    """Supported, with a limit."""
    return Support(supported=True, note=note)


def no(note: str = "") -> Support:
    """Not supported, with a reason."""
    return Support(supported=False, note=note)


ComparedAs = Literal["", "floor", "central", "local"]
"""What a topology is where others are compared with it: the latency floor, or one of the two that most people choose
between, a central gateway and a local sidecar."""

YES, NO = Support(supported=True), Support(supported=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a topology can do, as data; ``docs/resilience.md`` and ``docs/architecture.md`` have a row for each.

    Attributes:
        follows_rules: requests are routed by the route table in force.
        reads_payload: a unit between caller and model parses the payload.
        streaming: an answer can be a stream.
        sticky_splits: a user keeps the version that a split or experiment gave them.
        shadow: a copy of a request can be sent to another version.
        shadow_by: role that sends the copies; empty if none does.
        shadow_limit_bytes: largest request that is copied; None if there is no limit.
        tenant_rates: requests per second of a tenant can be limited.
        tenant_concurrency: requests in flight of a tenant can be limited.
        leases: a caller reuses a resolver's decision for as long as its lease lasts.
        deadlines: the model learns how much time is left.
        retries: failed attempts are retried.
        retry_budget: retries are limited to a share of the requests.
        per_try_timeout: each attempt has its own timeout.
        attempts_reported: the caller learns the number of attempts.
        hedging: a second attempt starts beside a slow first one.
        hedge_budget: all of these count against the budget of retries.
        outlier_ejection: a replica that fails requests gets none for a while.
        ejection_in_a_row: it is ejected after `errors` failures in a row, as the route table says.
        circuit_breaker: the requests in flight to a version are limited.
        health_checks: replicas are probed.
        failover: a second cluster serves while no replica of the first can.
        draining: a replica that is asked to end finishes its requests, and new ones go to others.
        slow_start: the share of a new replica grows step by step.
    """

    follows_rules: Support = YES
    reads_payload: Support = NO
    streaming: Support = YES
    sticky_splits: Support = YES
    shadow: Support = NO
    shadow_by: str = ""
    shadow_limit_bytes: int | None = None
    tenant_rates: Support = NO
    tenant_concurrency: Support = NO
    leases: Support = NO
    deadlines: Support = YES
    retries: Support = NO
    retry_budget: Support = NO
    per_try_timeout: Support = NO
    attempts_reported: Support = NO
    hedging: Support = NO
    hedge_budget: Support = NO
    outlier_ejection: Support = NO
    ejection_in_a_row: Support = NO
    circuit_breaker: Support = NO
    health_checks: Support = NO
    failover: Support = NO
    draining: Support = NO
    slow_start: Support = NO


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """One topology: a path from caller to model, and who decides where a request goes.

    Attributes:
        name: e.g. ``gateway-header``.
        reason: why it is in the lab, in one line; for the README's table.
        route: the path in words; for the same table.
        path: roles that carry the payload, in order, from ``caller`` to ``model``.
        asks: roles that decide, and never see the payload.
        aided_by: roles that help to pick a replica: units between caller and model ask them about a request, or the
            caller asks them about replicas.
        aide_reads_prompt: whether what picks sees the payload, and may pick a replica by its prompt.
        strategy: makes the client's strategy from the caller's name, the addresses, and credentials.
        takes_turns: whether a caller's requests go to several units of one role in turn.
        carries: APIs that it carries; every one if empty.
        picks_at: place that picks the replica, as pickers name it; if empty, the last role before the model.
        capabilities: what it supports.
        colour: ``#rrggbb``, the same in every chart.
        compared_as: its part in comparisons; empty for most.
        in_default_lab: whether a lab has it whose spec names no topologies.
        in_scenarios: whether scenarios run on it by default.
        long_scenarios_on: runtimes on which every scenario counts as long, as another topology covers the same units.
    """

    name: str
    reason: str
    route: str
    path: tuple[str, ...]
    asks: tuple[str, ...] = ()
    aided_by: tuple[str, ...] = ()
    aide_reads_prompt: bool = False
    strategy: StrategyFactory
    takes_turns: bool = True
    carries: tuple[str, ...] = ()
    picks_at: str = ""
    capabilities: Capabilities
    colour: str
    compared_as: ComparedAs = ""
    in_default_lab: bool = True
    in_scenarios: bool = True
    long_scenarios_on: tuple[str, ...] = ()

    @property
    def roles(self) -> tuple[str, ...]:
        """All roles of the topology but caller and model: those that are asked, then those on the path."""
        return (*self.asks, *self.aided_by, *self.between)

    @property
    def between(self) -> tuple[str, ...]:
        """Roles between caller and model that carry the payload."""
        return self.path[1:-1]

    @property
    def reports(self) -> frozenset[str]:
        """Fields of a record that a caller learns from the path: with each answer, and with each failure of a model."""
        can = self.capabilities
        learns = {"revision": can.follows_rules, "attempts": can.attempts_reported, "shadow": can.shadow}
        return frozenset(("routing_key", *(name for name, reported in learns.items() if reported)))

    @property
    def decides_at_caller(self) -> bool:
        """Whether the request has its routing key and model config when it leaves the caller."""
        return bool(self.asks) or not self.between

    @property
    def picker_place(self) -> str:
        """Place that picks the replica, see :class:`lab.pickers.Picker`."""
        return self.picks_at or self.balancer

    @property
    def balancer(self) -> str:
        """Role that chooses the replica: the last one before the model."""
        return self.path[-2]
