"""Small measurements by the benches' method: interleaved topologies, one driver that stays up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lab.errors import UnitError
from lab.measure import compare
from lab.plugins.bench.harness.environment import Environment
from lab.plugins.bench.harness.interleaved import measure
from lab.plugins.bench.harness.variant import CALLER, LoadPoint, Variant
from lab.plugins.bench.suites.decomposition import PARTS
from lab.plugins.workshop.figures import Figure, difference_bar, show
from lab.report.bars import Bar, BarChart, BarGroup
from lab.report.palette import style_of, topology_style
from lab.report.scales import linear, size
from lab.runtime.identities import Identities
from lab.runtime.state import LabState
from lab.transport.security import MTLS

if TYPE_CHECKING:
    from lab.lab import Lab
    from lab.measure.compare import Interval

ROUNDS = 3

_PACES = ((50_000, 200.0, 24), (1_000_000, 50.0, 8))
"""(Upper bound of the payload in bytes, requests per second, requests in one turn)."""

_MEGABYTES = (10.0, 4)


def p50s(
    lab: Lab, topologies: Sequence[str], payload_bytes: int, *, rounds: int = ROUNDS, **options: Any
) -> dict[str, list[float]]:
    """The median latency of each topology, ms, one value for each round in which no topology failed.

    Args:
        lab: a lab of processes that is up.
        topologies: topologies to measure, interleaved, shuffled in each round.
        payload_bytes: payload of each request.
        rounds: number of rounds.
        options: ``say`` receives progress messages.

    Raises:
        UnitError: in every round an answer was wrong or missing.
    """
    state = LabState.of(lab.folder)
    rate, requests = next((pace for below, *pace in _PACES if payload_bytes < below), _MEGABYTES)
    point = LoadPoint(payload_bytes, rate=rate, requests=int(requests))
    identity = str(Identities(lab.folder).of(CALLER)) if state.security == MTLS else ""
    variants = [Variant(each, each, state.plan.clients[CALLER], identity) for each in topologies]
    environment = Environment(lab, options.get("say", lambda _: None))
    seen = measure(environment, variants, [point], rounds)
    complete = [each for each in zip(*seen.p50_ms.values(), strict=True) if all(map(math.isfinite, each))]
    if not complete:
        raise UnitError(f"a topology failed in each round; run this cell again. First: {environment.missing[0]}")
    return {each: list(values) for (each, _), values in zip(seen.p50_ms, zip(*complete, strict=True), strict=True)}


def middle(values: Sequence[float]) -> float:
    """The median."""
    return compare.median(list(values), seed=0).estimate


def latency_picture(measured: Mapping[str, Sequence[float]], payload_bytes: int) -> Figure:
    """Each topology's latency, with its interval over the rounds."""
    bars = []
    for topology, values in measured.items():
        it = compare.median(list(values), seed=0)
        bars.append(Bar(topology, topology_style(topology), it.estimate, it.low, it.high))
    most = max(bar.high or bar.value for bar in bars)
    title = f"Latency of a request of {size(payload_bytes)}"
    return show(BarChart(title, linear("p50, ms", most), [BarGroup("", bars)], note=_note(measured)))


def added(measured: Mapping[str, Sequence[float]], topologies: Sequence[str], base: str) -> dict[str, Interval]:
    """What each of the topologies adds to the p50 of ``base``, ms."""
    return {each: compare.median_difference(measured[each], measured[base]) for each in topologies}


def parts_picture(measured: Mapping[str, Sequence[float]], payload_bytes: int) -> Figure:
    """The cost of each cause: the difference of two topologies that differ in nothing else."""
    bars = [
        difference_bar(part.name, style_of(number), compare.median_difference(measured[part.more], measured[part.less]))
        for number, part in enumerate(PARTS, 1)
        if part.more in measured and part.less in measured
    ]
    axis = linear("ms of the p50", max(bar.high or 0 for bar in bars), low=min(bar.low or 0 for bar in bars))
    title = f"Where the milliseconds go, {size(payload_bytes)}"
    return show(BarChart(title, axis, [BarGroup("", bars)], note=f"{_note(measured)} ≈ 0: the interval holds 0."))


def _note(measured: Mapping[str, Sequence[float]]) -> str:
    rounds = max(map(len, measured.values()))
    return f"Medians over n = {rounds} short rounds, with 95 % intervals. Overlapping intervals do not decide."
