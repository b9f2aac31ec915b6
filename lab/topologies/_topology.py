"""What a topology says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.client import StrategyFactory

CALLER, MODEL = "caller", "model"
"""The roles at both ends of every path."""


@dataclass(frozen=True, slots=True)
class Support:
    """Whether a topology can do something, and what limits that.

    Attributes:
        supported: whether it can.
        note: a limit, or a reason; empty if there is nothing to add.
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


YES, NO = Support(supported=True), Support(supported=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a topology can do, as data. The table in ``docs/resilience.md`` has one row for each.

    Attributes:
        follows_rules: routes by the route table in force; ``direct`` does not.
        reads_payload: something between caller and model parses the payload.
        streaming: answers can come item by item.
        sticky_splits: a user keeps the version that a split or experiment gave them.
        shadow: a copy of a request can be sent to another version.
        shadow_by: role that sends the copies; empty if none does.
        shadow_limit_bytes: largest request that is copied; None if there is no limit.
        tenant_rates: requests per second of a tenant can be limited.
        tenant_concurrency: requests in flight of a tenant can be limited.
        deadlines: the model learns the time that is left.
        retries: failed attempts are repeated.
        retry_budget: repeats are bounded to a share of requests.
        per_try_timeout: one attempt has a time limit of its own.
        attempts_reported: the caller learns how many attempts there were.
        hedging: a second attempt starts beside a slow first one.
        outlier_ejection: a replica that fails requests is left out for a while.
        circuit_breaker: requests in flight to a version are bounded.
        health_checks: replicas are probed.
        failover: another cluster serves when none of the first's replicas can.
        draining: a replica that is asked to end finishes its requests while new ones go elsewhere.
        slow_start: a new replica's share grows step by step.
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
    deadlines: Support = YES
    retries: Support = NO
    retry_budget: Support = NO
    per_try_timeout: Support = NO
    attempts_reported: Support = NO
    hedging: Support = NO
    outlier_ejection: Support = NO
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
        reason: why it is there, one line; the README's table shows it.
        route: the path in words; the README's table shows it.
        path: roles that carry the payload, in order, from ``caller`` to ``model``.
        asks: roles that are asked for a decision and never see the payload.
        decided_by: role that applies the rules; ``caller`` where the address is hard-coded.
        strategy: makes what the client does, from the caller's name, the addresses, and credentials.
        capabilities: what it can do.
        colour: ``#rrggbb`` on a light page, the same in every chart.
        in_default_lab: whether a lab whose spec names no topologies has it.
        in_scenarios: whether scenarios run on it unless ``--topology`` names others.
        long_scenarios_on: runtimes on which every scenario counts as a long one, as units run as on another topology.
    """

    name: str
    reason: str
    route: str
    path: tuple[str, ...]
    asks: tuple[str, ...] = ()
    decided_by: str
    strategy: StrategyFactory
    capabilities: Capabilities
    colour: str
    in_default_lab: bool = True
    in_scenarios: bool = True
    long_scenarios_on: tuple[str, ...] = ()

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles of all units that it takes part of: those asked, then those on the path; no caller, no model."""
        return (*self.asks, *self.between)

    @property
    def between(self) -> tuple[str, ...]:
        """Roles between caller and model that carry the payload."""
        return self.path[1:-1]

    @property
    def decides_at_caller(self) -> bool:
        """Whether routing key and model config are in the request when it leaves the caller."""
        return self.decided_by not in self.between

    @property
    def balancer(self) -> str:
        """Role that chooses the model's replica: the last before it."""
        return self.path[-2]
