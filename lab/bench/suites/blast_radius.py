"""Whom a death reaches: each fault by each topology, while all callers send at the same time."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lab.bench.harness.bench_faults import CLUSTER, HARMS
from lab.bench.harness.charts import MIXED
from lab.bench.harness.fault_runner import HOLD_S, RATE, STEADY_S, harm_all
from lab.bench.harness.result import BenchResult, Claim
from lab.errors import InputError
from lab.measure import compare
from lab.measure.compare import Interval
from lab.report.blast_radius import EXPLAINED, doubts_of, heat_of, table_of
from lab.routing.checks import references

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.bench.harness.environment import Setting
    from lab.measure.blast_rounds import Radius

NAME = "blast-radius"

ROUNDS = 3
"""If nobody says how many: each takes a minute."""

TOPOLOGIES = ("gateway", "gateway-header", "mesh", "proxyless")
"""If nobody says which."""


def run(setting: Setting, rounds: int) -> BenchResult:
    """Does one harm after the other to the lab, all topologies at once, in an order drawn anew each round."""
    topologies = _chosen("topologies", setting, setting.state.topologies, TOPOLOGIES)
    harms = [HARMS[name] for name in _chosen("faults", setting, list(HARMS), tuple(HARMS))]
    harms = [harm for harm in harms if harm.victims(setting.state.plan)]
    harmed = harm_all(setting, harms, topologies, rounds)
    return result(
        sorted(harmed.radii, key=lambda each: (list(HARMS).index(each.fault), topologies.index(each.topology))),
        callers_of_cluster=len(_callers_of(CLUSTER, setting.lab.routes.show().document or {})),
        notes=[
            (
                f"n = {rounds} rounds, {harmed.requests:,} requests: each caller sends {RATE:g} rps by each topology, "
                "Poisson arrivals, by a driver of its own"
            ),
            f"{STEADY_S:g} s of quiet before each fault, which lasts {HOLD_S:g} s",
            f"evidence: {harmed.folder}",
        ],
    )


def result(radii: Sequence[Radius], *, callers_of_cluster: int, notes: Sequence[str]) -> BenchResult:
    """What follows from the radii of harms, whose faults have their names.

    Args:
        radii: of each harm and topology.
        callers_of_cluster: how many callers ask for what runs on the cluster that is harmed.
        notes: how it was measured.
    """
    named = [replace(each, fault=HARMS[each.fault].text) for each in radii]
    by_text = {harm.text: harm for harm in HARMS.values()}
    return BenchResult(
        name=NAME,
        unit=MIXED,
        arms={
            f"{each.fault}, {each.topology}, {what}": spread.values
            for each in named
            for what, spread in (
                ("callers hit", each.callers),
                ("clear after, s", each.detect),
                ("healed after, s", each.heal),
            )
            if spread is not None
        },
        claims=_claims(radii, callers_of_cluster),
        tables=[table_of(named)],
        charts=[heat_of(named, is_on_path=lambda fault, topology: by_text[fault].is_on_path(topology))],
        notes=[*notes, *doubts_of(named), *EXPLAINED],
    )


def _claims(radii: Sequence[Radius], callers_of_cluster: int) -> list[Claim]:
    of = {(each.fault, each.topology): each for each in radii}
    callers = max((each.of_callers for each in radii), default=0)
    expected: list[tuple[str, Mapping[tuple[str, str], Radius], int]] = [
        (
            f"callers hit, of {callers}, {HARMS[fault].text}, {topology}",
            {(fault, topology): of[fault, topology]} if (fault, topology) in of else {},
            wanted,
        )
        for fault, topology, wanted in (
            ("gateways-killed", "gateway", callers),
            ("central-envoy-killed", "gateway-header", callers),
            ("sidecar-killed", "mesh", 1),
        )
    ]
    off = {place: each for place, each in of.items() if not HARMS[place[0]].is_on_path(place[1])}
    dead = {place: each for place, each in of.items() if place[0] == "cluster-killed"}
    control = {place: each for place, each in off.items() if place[0] == "control-plane-killed"}
    expected += [
        ("callers hit, control plane killed, worst topology", control, 0),
        (f"callers hit by what is not in their path, worst of {len(off)} faults and topologies", off, 0),
        ("callers hit, one cluster killed, any topology: those who ask for what runs there", dead, callers_of_cluster),
    ]
    return [_claim(text, found, wanted) for text, found, wanted in expected if found]


def _claim(text: str, found: Mapping[tuple[str, str], Radius], wanted: int) -> Claim:
    """Each round of each of them is to have hit so many callers: the figure is that of the worst.

    If it is not so many only where answers were slow, and that in few rounds, nobody can tell the fault from a machine
    that had something else to do.
    """
    doubts = [f"{each.fault}, {each.topology}: {each.unknown[0]}" for each in found.values() if not each.rounds]
    counts = [count for each in found.values() if each.callers for count in each.callers.values]
    if not counts:
        figure = Interval(estimate=math.nan, low=-math.inf, high=math.inf, confidence=compare.CONFIDENCE, rounds=0)
    else:
        worst = max(counts, key=lambda value: abs(value - wanted))
        figure = Interval(estimate=worst, low=min(counts), high=max(counts), confidence=1.0, rounds=len(counts))
        odd = {place: each for place, each in found.items() if each.callers and set(each.callers.values) != {wanted}}
        if odd and all(set(_without_moods(each)) <= {wanted} for each in odd.values()):
            doubts += [f"{HARMS[fault].text}, {topology}: slow answers alone, in few rounds" for fault, topology in odd]
    return Claim(text=text, figure=figure, at_least=wanted, at_most=wanted, doubts=tuple(doubts))


def _without_moods(found: Radius) -> list[float]:
    """Callers hit, a round, but for rounds in which answers were slow and nothing else, if those are the fewer."""
    if found.callers is None or 2 * sum(found.only_slow) > found.rounds:
        return list(found.callers.values if found.callers else ())
    return [count for count, slow in zip(found.callers.values, found.only_slow, strict=True) if not slow]


def _chosen(what: str, setting: Setting, there: Sequence[str], usual: Sequence[str]) -> list[str]:
    names = setting.only.get(what) or [name for name in usual if name in there]
    for name in names:
        if name not in there:
            raise InputError(f"--{what}: {name!r} is not known; there are {', '.join(there)}")
    return list(dict.fromkeys(names))


def _callers_of(cluster: str, document: Mapping[str, Any]) -> set[str]:
    """Callers of use cases of which some version runs on a cluster."""
    there = {
        f"{model}@{version}"
        for model, entry in document["models"].items()
        for version, where in entry["versions"].items()
        if where["cluster"] == cluster
    }
    return {
        caller
        for use_case in document["use_cases"].values()
        if there & {reference for _, reference in references((), use_case)}
        for caller in use_case["callers"]
    }
