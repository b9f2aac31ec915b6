"""Which callers a fault reaches: each fault by each topology, while all callers send at the same time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lab.measure import compare
from lab.measure.compare import Interval, exactly
from lab.plugins.bench.harness.bench import TOPOLOGIES_OPTION, Bench, Option
from lab.plugins.bench.harness.charts import MIXED
from lab.plugins.bench.harness.fault_runner import CLUSTER, HOLD_S, RATE, STEADY_S, Reach, bench_faults, run_faults
from lab.plugins.bench.harness.result import BenchResult, Claim
from lab.plugins.bench.harness.variant import paths_with_units
from lab.report.fault_reach import EXPLAINED, doubts_of, heat_of, table_of
from lab.routing.checks import references
from lab.routing.shards import clusters_of

if TYPE_CHECKING:
    from lab.plugins.bench.harness.environment import Environment
    from lab.runs.fault_rounds import Radius


def run(
    environment: Environment, rounds: int, *, topologies: Sequence[str] = (), faults: Sequence[str] = ()
) -> BenchResult:
    """Injects one fault after the other in a random order, with all topologies under load at once.

    By default it compares one topology of each path that has units of its own.
    """
    compared = list(topologies or paths_with_units(environment.topologies))
    known = bench_faults()
    injected = [known[name] for name in faults or known if known[name].victims(environment.state.plan)]
    runs, radii = run_faults(environment, injected, compared, rounds)
    requests = sum(run.summary.ok + run.summary.failed for run in runs.runs)
    return result(
        sorted(radii, key=lambda each: (list(known).index(each.fault), compared.index(each.topology))),
        callers_of_cluster=len(_callers_of(CLUSTER, environment.lab.routes.show().document or {})),
        notes=[
            (
                f"n = {rounds} rounds, {requests:,} requests: each caller sends {RATE:g} rps by each topology, "
                "Poisson arrivals, by its own driver"
            ),
            f"{STEADY_S:g} s without faults before each fault, which lasts {HOLD_S:g} s",
            f"evidence: {runs.folder}",
        ],
    )


def result(radii: Sequence[Radius], *, callers_of_cluster: int, notes: Sequence[str]) -> BenchResult:
    """Returns the result of the radii of each fault, by its name, and topology; some callers use the dead cluster."""
    known = bench_faults()
    named = [replace(each, fault=known[each.fault].text) for each in radii]
    by_text = {fault.text: fault for fault in known.values()}
    return BenchResult(
        unit=MIXED,
        samples={
            f"{each.fault}, {each.topology}, {what}": spread.values
            for each in named
            for what, spread in (
                ("callers hit", each.callers),
                ("clear after, s", each.detect),
                ("healed after, s", each.heal),
            )
            if spread is not None
        },
        claims=list(_claims(radii, callers_of_cluster)),
        tables=[table_of(named)],
        charts=[heat_of(named, is_on_path=lambda fault, topology: by_text[fault].is_in_path(topology))],
        notes=[*notes, *doubts_of(named), *EXPLAINED],
    )


def _claims(radii: Sequence[Radius], callers_of_cluster: int) -> Iterator[Claim]:
    known = bench_faults()
    callers = max((each.of_callers for each in radii), default=0)
    reached = {Reach.EVERY_CALLER: callers, Reach.ONE_CALLER: 1}
    by_place = {(each.fault, each.topology): each for each in radii}
    for (name, topology), each in by_place.items():
        fault = known[name]
        if fault.reach in reached and fault.carries_payload(topology):
            text = f"callers hit, of {callers}, {fault.text}, {topology}"
            yield _claim(text, {(name, topology): each}, reached[fault.reach])
    off = {place: each for place, each in by_place.items() if not known[place[0]].is_in_path(place[1])}
    dead = {place: each for place, each in by_place.items() if place[0] == "cluster-killed"}
    control = {place: each for place, each in off.items() if place[0] == "control-plane-killed"}
    for text, found, wanted in (
        ("callers hit, control plane killed, worst topology", control, 0),
        (f"callers hit by units outside their path, worst of {len(off)} faults and topologies", off, 0),
        ("callers hit, one cluster killed, any topology: those whose use cases run there", dead, callers_of_cluster),
    ):
        if found:
            yield _claim(text, found, wanted)


def _claim(text: str, found: Mapping[tuple[str, str], Radius], wanted: int) -> Claim:
    """Claims that every round hit exactly ``wanted`` callers; the figure is that of the worst round.

    It is in doubt if the number differs only in few rounds, in which answers were only slow: a busy machine does that.
    """
    doubts = [f"{each.fault}, {each.topology}: {each.unknown[0]}" for each in found.values() if not each.rounds]
    counts = [count for each in found.values() if each.callers for count in each.callers.values]
    if not counts:
        figure = Interval(estimate=math.nan, low=-math.inf, high=math.inf, confidence=compare.CONFIDENCE, rounds=0)
    else:
        worst = max(counts, key=lambda value: abs(value - wanted))
        figure = exactly(worst, rounds=len(counts))
        odd = {place: each for place, each in found.items() if each.callers and set(each.callers.values) != {wanted}}
        if odd and all(set(_without_slow_rounds(each)) <= {wanted} for each in odd.values()):
            texts = {name: fault.text for name, fault in bench_faults().items()}
            doubts += [f"{texts[fault]}, {topology}: only slow answers, in few rounds" for fault, topology in odd]
    return Claim(text, figure, at_least=wanted, at_most=wanted, doubts=tuple(doubts))


def _without_slow_rounds(found: Radius) -> list[float]:
    """Callers hit in each round, without rounds in which answers were only slow, if those are the minority."""
    if found.callers is None or 2 * sum(found.only_slow) > found.rounds:
        return list(found.callers.values if found.callers else ())
    return [count for count, slow in zip(found.callers.values, found.only_slow, strict=True) if not slow]


def _callers_of(cluster: str, document: Mapping[str, Any]) -> set[str]:
    """Callers of use cases that have a version on a cluster."""
    there = {
        f"{model}@{version}"
        for model, entry in document["models"].items()
        for version, where in entry["versions"].items()
        if cluster in clusters_of(where["cluster"]).values()
    }
    return {
        caller
        for use_case in document["use_cases"].values()
        if there & {reference for _, reference in references((), use_case)}
        for caller in use_case["callers"]
    }


BENCH = Bench(
    name="blast-radius",
    question="Which callers does each fault reach, and for how long?",
    run=run,
    rounds=3,  # each takes a minute
    options=(TOPOLOGIES_OPTION, Option(name="faults", help="Inject only these faults.", choices=bench_faults)),
)
