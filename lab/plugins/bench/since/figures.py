"""The figures that ``lab bench since`` compares: one entry each.

An entry names the visit that sees the figure and picks it from what that returns. Figures of one visit share its run.
To add a figure, add an entry; if no visit sees it yet, add one to :mod:`lab.plugins.bench.since.visits`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from lab.load.progress import nearest_rank
from lab.plugins.bench.since.visits import convergence, default_lab, large_table, mini_lab, records, scale

if TYPE_CHECKING:
    from lab.plugins.bench.since.checkout import Checkout

MEDIAN, TAIL, START = 0.05, 0.15, 0.15
"""Changes that count as none: of medians, CPU and memory; of a p99; of what starts processes."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure.

    Attributes:
        margin: change that counts as none, as a share.
        visit: what is done to a checkout, once a round.
        pick: the figure, from what the visit returns.
        more_is_better: whether a greater one is better.
        short: whether the short form has it.
    """

    name: str
    unit: str
    margin: float
    visit: Callable[[Checkout], Mapping[str, Any]]
    pick: Callable[[Mapping[str, Any]], float]
    more_is_better: bool = False
    short: bool = False


def _added_p50(topology: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda seen: float(seen[topology]["p50_ms"] - seen["direct"]["p50_ms"])


def _cpu(topology: str, *roles: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda seen: float(sum(seen[topology]["cpu_ms"][role] for role in roles))


def _of(*path: str) -> Callable[[Mapping[str, Any]], float]:
    def pick(seen: Mapping[str, Any]) -> float:
        found: Any = seen
        for key in path:
            found = found[key]
        return float(found)

    return pick


def _p50(samples: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda seen: median(seen[samples])


def _p99(samples: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda seen: float(nearest_rank(sorted(seen[samples]), 99))


_MORE = {"more_is_better": True}
_CHANGE = "from the call to publish to the rules at a resolver"
_LAST = "last answer by the old rules"

FIGURES: Mapping[str, Figure] = {
    each.name: each
    for each in (
        Figure("mesh-added-p50", "ms", MEDIAN, default_lab, _added_p50("mesh"), short=True),
        Figure("gateway-added-p50", "ms", MEDIAN, default_lab, _added_p50("gateway"), short=True),
        Figure("mesh-cpu", "ms a request", MEDIAN, default_lab, _cpu("mesh", "sidecar", "resolver"), short=True),
        Figure("gateway-cpu", "ms a request", MEDIAN, default_lab, _cpu("gateway", "gateway"), short=True),
        Figure("model-cpu", "ms a request", MEDIAN, default_lab, _cpu("direct", "model"), short=True),
        Figure("gateway-per-core", "rps", MEDIAN, default_lab, _of("gateway_rps_per_core"), **_MORE, short=True),
        Figure("memory-default", "MB", MEDIAN, default_lab, _of("memory_mb"), short=True),
        Figure("up-default", "s", START, default_lab, _of("up_s"), short=True),
        Figure("memory-mini", "MB", MEDIAN, mini_lab, _of("memory_mb")),
        Figure("up-mini", "s", START, mini_lab, _of("up_s")),
        Figure("call", "s", START, mini_lab, _of("call_s")),
        Figure("direct-4mb-p50", "ms", MEDIAN, records, _of("large_p50_ms")),
        Figure("driver-per-core", "rps", MEDIAN, records, _of("driver_rps_per_core"), **_MORE),
        Figure("driver-delay-p99", "ms", TAIL, records, _of("schedule_delay_p99_ms")),
        Figure("check", "s", MEDIAN, records, _of("check_s")),
        Figure("change-p50", "ms", MEDIAN, large_table, _p50(_CHANGE), short=True),
        Figure("change-p99", "ms", TAIL, large_table, _p99(_CHANGE), short=True),
        Figure("convergence-p50", "ms", MEDIAN, convergence, _p50(_LAST)),
        Figure("convergence-p99", "ms", TAIL, convergence, _p99(_LAST)),
        Figure("move-idle-p50", "ms", MEDIAN, scale, _of("move_alone_ms", "p50")),
        Figure("move-idle-p99", "ms", TAIL, scale, _of("move_alone_ms", "p99")),
        Figure("move-loaded-p50", "ms", MEDIAN, scale, _of("move_ms", "p50")),
        Figure("move-loaded-p99", "ms", TAIL, scale, _of("move_ms", "p99")),
    )
}
"""What each is: ``lab bench since --help`` and docs/benches.md."""
