"""Can the figures be trusted: A/A runs, a known delay, the load driver's own limits, and h2load's opinion.

``lab bench trust`` measures all four, ``lab bench aa`` one of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from lab.errors import UnitError
from lab.measure.compare import (
    CONFIDENCE,
    added_ratio,
    exactly,
    interleave,
    median,
    median_difference,
    median_ratio,
)
from lab.measure.control import control
from lab.measure.findings import in_its_interval
from lab.measure.pace import pace_of
from lab.plugins.bench.harness import prebuilt_request
from lab.plugins.bench.harness.bench import Bench
from lab.plugins.bench.harness.charts import MIXED
from lab.plugins.bench.harness.environment import Environment, open_small_environment
from lab.plugins.bench.harness.h2load import NOT_MEASURED, H2Load
from lab.plugins.bench.harness.interleaved import DOUBTFUL, Rounds, measure
from lab.plugins.bench.harness.result import BenchResult, Claim, ResultTable
from lab.plugins.bench.harness.stubs import constant_latency
from lab.plugins.bench.harness.topology_rounds import AGAIN, DIRECT, variants_of
from lab.plugins.bench.harness.trials import Trials
from lab.plugins.bench.harness.variant import (
    CALLER,
    CLUSTER,
    REPLICAS,
    ROUTES,
    USE_CASE,
    LoadPoint,
    Variant,
    one_of_each_path,
)
from lab.runs import LoadOptions
from lab.runs.folder import DRIVER
from lab.topologies import TOPOLOGIES, Topology

_TRUST = "trust"

RUNS = 20
MAY_DIFFER = 1
"""Runs whose interval may miss the true difference, 0."""

LOAD_POINT = LoadPoint(400, rate=100, requests=30)


def aa(environment: Environment, rounds: int) -> BenchResult:
    """Measures ``direct`` twice a round, and takes every ``rounds`` rounds as its own run."""
    endpoints = environment.state.plan.clients[CALLER]
    variants = [Variant(name, DIRECT, endpoints) for name in (DIRECT, AGAIN)]
    measured = measure(environment, variants, [LOAD_POINT], RUNS * rounds, measured_twice=(DIRECT, AGAIN))
    first, again = (measured.p50_ms[name, LOAD_POINT] for name in (DIRECT, AGAIN))
    runs = [(first[at : at + rounds], again[at : at + rounds]) for at in range(0, len(first), rounds)]
    found = aa_result(runs)
    return replace(
        found,
        claims=[replace(each, doubts=measured.doubts(LOAD_POINT, DIRECT, AGAIN)) for each in found.claims],
        controls=[*measured.controls.values()],
        paces={name: pace_of(measured.paces[name, LOAD_POINT]) for name in (DIRECT, AGAIN)},
    )


def aa_result(runs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> BenchResult:
    """Returns the result of runs, each the rounds of a variant and of the same variant again."""
    controls = [control(f"{number}", *run) for number, run in enumerate(runs, start=1)]
    ratios = [median_ratio(again, first) for first, again in runs]
    agreeing = sum(each.agrees and each.can_tell for each in controls)
    holding_one = sum(each.low <= 1 <= each.high for each in ratios)
    columns = ("run", "difference of p50, ms", "holds 0", "ratio of p50")
    rows = [
        (each.text, in_its_interval(each.difference), "yes" if each.agrees else "no", in_its_interval(ratio))
        for each, ratio in zip(controls, ratios, strict=True)
    ]
    return BenchResult(
        unit="ms (p50)",
        samples={name: [each for run in runs for each in run[place]] for place, name in enumerate((DIRECT, AGAIN))},
        claims=[
            Claim(
                f"A/A runs of {len(runs)} whose interval holds 0",
                exactly(agreeing, rounds=len(runs)),
                at_least=len(runs) - MAY_DIFFER,
            )
        ],
        tables=[
            ResultTable(f"{AGAIN} against {DIRECT}, {LOAD_POINT}", columns, rows, numbers=(columns[1], columns[3]))
        ],
        notes=[
            f"n = {len(runs[0][0])} rounds a run; differences have an A/A control's exact interval, at 98 % or more",
            f"of the ratios' intervals, by bootstrap at {CONFIDENCE:.0%}, {holding_one} of {len(runs)} hold 1",
        ],
    )


AA = Bench(
    name="aa",
    part_of=_TRUST,
    question="Does the tool find a difference between a path and itself, in twenty runs?",
    run=aa,
    rounds=10,  # the fewest for which the exact interval misses far less often than in one run of fifty
    controls=1,
)


DELAYS_MS = (2.0, 10.0, 50.0)
SHARE, LEAST_MS = 0.01, 0.2
"""The tolerance: a share of the delay, or a number of ms if that is greater."""
_NONE, _NONE_AGAIN = "no delay", "no delay, again"


def known_delay(environment: Environment, rounds: int) -> BenchResult:
    """Measures ``direct`` with each constant delay, and twice without, once a round."""
    endpoints = environment.state.plan.clients[CALLER]
    delays = {_NONE: 0.0, _NONE_AGAIN: 0.0, **{f"{known:g} ms": known for known in DELAYS_MS}}
    variants = [Variant(name, DIRECT, endpoints) for name in delays]
    with ExitStack() as behaviour:

        def delay(variant: Variant) -> None:
            behaviour.close()
            behaviour.enter_context(constant_latency(environment.replicas(CLUSTER), delays[variant.name]))

        result = measure(environment, variants, [LOAD_POINT], rounds, measured_twice=(_NONE, _NONE_AGAIN), before=delay)
    p50 = {name: result.p50_ms[name, LOAD_POINT] for name in delays}
    claims = []
    for known in DELAYS_MS:
        name, off = f"{known:g} ms", max(SHARE * known, LEAST_MS)
        claims.append(
            Claim(
                f"p50 with a delay of {name} − p50 without, ms",
                median_difference(p50[name], p50[_NONE]),
                at_least=known - off,
                at_most=known + off,
                doubts=result.doubts(LOAD_POINT, name, _NONE),
            )
        )
    return BenchResult(
        unit="ms (p50)",
        samples=p50,
        claims=claims,
        notes=[
            f"n = {rounds} rounds × {LOAD_POINT.requests} requests a variant, {LOAD_POINT}; history in {result.folder}"
        ],
        controls=list(result.controls.values()),
        paces={name: pace_of(result.paces[name, LOAD_POINT]) for name in delays if (name, LOAD_POINT) in result.paces},
    )


KNOWN_DELAY = Bench(
    name="known-delay",
    part_of=_TRUST,
    question="Does a delay that was injected into the models show in the measured latency?",
    run=known_delay,
    controls=1,
)


PUNCTUAL_RPS = 1_000.0
BUSY_RPS = 3_000.0
SECONDS = 5.0
PER_CORE_BOUND = 4_000.0
RATE_BOUND = 0.01
DELAY_BOUND_MS = 0.5


def driver(environment: Environment, rounds: int) -> BenchResult:
    """Drives ``direct``, with the history on, once at each rate a round.

    The cost of a request is measured at a high rate: a driver that is mostly idle spends much of its time waking up.
    """
    per_core, rate, delay = "rps per core, busy", "achieved / offered", "schedule delay p99, ms"
    trials = Trials(environment, [[DIRECT]] * rounds)
    for trial in trials:
        with trial:
            busy, punctual = _account(environment, BUSY_RPS), _account(environment, PUNCTUAL_RPS)
            trial.keep(
                **{
                    per_core: busy["sent"] / busy["cpu_s"],
                    rate: punctual["achieved_rate"] / punctual["offered"],
                    delay: punctual["schedule_delay_p99_ms"],
                }
            )
    samples = trials.figures
    figures = {name: median(values) for name, values in samples.items()}
    return BenchResult(
        unit=MIXED,
        samples=samples,
        claims=[
            Claim(
                f"requests per second of the driver's processor time at {BUSY_RPS:g} rps",
                figures[per_core],
                at_least=PER_CORE_BOUND,
            ),
            Claim(
                f"achieved / offered rate at {PUNCTUAL_RPS:g} rps",
                figures[rate],
                at_least=1 - RATE_BOUND,
                at_most=1 + RATE_BOUND,
            ),
            Claim(f"schedule delay p99 at {PUNCTUAL_RPS:g} rps, ms", figures[delay], at_most=DELAY_BOUND_MS),
        ],
        notes=[
            f"n = {rounds} rounds × {SECONDS:g} s at each rate, topology direct",
            "driver and models share the machine's cores; a driver that may not raise its priority sends later",
        ],
    )


def _account(environment: Environment, rate: float) -> Any:
    """The driver's account of a run in which every answer was right."""
    options = LoadOptions(
        topology=DIRECT,
        caller=CALLER,
        use_cases=(USE_CASE,),
        rate=rate,
        duration_s=SECONDS,
        arrivals="constant",
        contexts={},
    )
    result = environment.lab.load(options)
    wrong = [each.summary for each in result.verdicts if each.claim != "timing" and each.outcome != "valid"]
    if wrong or result.summary.failed:
        reasons = "; ".join(wrong) or f"{result.summary.by_status}"
        raise UnitError(f"{options.topology} did not answer every request rightly ({reasons}): {result.folder}")
    return json.loads((result.folder / DRIVER).read_text())


DRIVER_BENCH = Bench(
    name="driver",
    part_of=_TRUST,
    question="Can the load driver be trusted: how many requests can it send, how punctually, at what cost?",
    run=driver,
)


LOAD_POINTS = (
    LoadPoint(400, rate=500, requests=75),
    LoadPoint(27_000, rate=500, requests=75),
    LoadPoint(500_000, rate=100, requests=24),
)
AGREE = 0.1
"""By so much the two instruments may differ on what a path adds."""
_SPEC = f"topologies = {{topologies}}\n[callers.{CALLER}]\n[gateway]\nreplicas = 1\n"
_ROUTES = ROUTES.replace(f"replicas: {REPLICAS}", "replicas: 1")


def second_opinion(outer: Environment, rounds: int) -> BenchResult:
    """Measures each path by both instruments, once a round at every load point."""
    if not H2Load.is_there():
        return BenchResult(unit="ms (p50)", samples={}, claims=[], notes=[], missing=[NOT_MEASURED])
    topologies = [each for each in one_of_each_path(outer.topologies) if _takes_prebuilt_requests(TOPOLOGIES[each])]
    with open_small_environment(
        outer.say, _SPEC.format(topologies=json.dumps([DIRECT, *topologies])), _ROUTES
    ) as small:
        environment = small.within(outer)
        variants = variants_of(environment, topologies)
        paths: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {}
        for each in variants:
            if each.topology == DIRECT:
                paths[each.name] = (each.endpoints.direct[USE_CASE].addresses[0], ())
            else:
                topology = TOPOLOGIES[each.topology]
                headers = (prebuilt_request.ROUTING_KEY,) if topology.decides_at_caller else ()
                paths[each.name] = (each.endpoints.address_of(topology.between[0]), headers)
        del paths[AGAIN]
        h2load = H2Load(environment.lab.folder, paths)

        def by_h2load(number: int, point: LoadPoint) -> None:
            for path in interleave(paths, 1, seed=number)[0]:
                h2load.measure(path, point.payload_bytes, rate=point.rate, requests=point.requests, number=number)

        measured = measure(environment, variants, LOAD_POINTS, rounds, measured_twice=(DIRECT, AGAIN), after=by_h2load)
    compared = [(path, point) for point in LOAD_POINTS for path in paths if path != DIRECT]
    return measured.result(
        _opinions(measured, h2load, compared),
        notes=[
            f"n = {rounds} rounds; each in random order; history in {measured.folder}",
            "h2load counts from the sending and parses nothing, so its latencies are lower, by the same on every path",
            DOUBTFUL,
        ],
        tables=[_table(measured, h2load, compared)],
    )


def _takes_prebuilt_requests(topology: Topology) -> bool:
    """Whether a proxy in it needs no more than a routing key, or reads the use case in the payload."""
    return bool(topology.between and (topology.decides_at_caller or topology.capabilities.reads_payload))


def _opinions(measured: Rounds, h2load: H2Load, compared: Sequence[tuple[str, LoadPoint]]) -> Iterator[Claim]:
    for path, point in compared:
        theirs, ours = _added(measured, h2load, path, point)
        yield Claim(
            f"what {path} adds, by h2load / by the lab's driver, p50, {point}",
            added_ratio(theirs, ours, [0.0] * len(ours)),
            at_most=1 + AGREE,
            at_least=1 - AGREE,
            doubts=measured.doubts(point, path, DIRECT),
        )


def _table(measured: Rounds, h2load: H2Load, compared: Sequence[tuple[str, LoadPoint]]) -> ResultTable:
    rows = []
    for path, point in compared:
        theirs, ours = (in_its_interval(median(each)) for each in _added(measured, h2load, path, point))
        rows.append([path, str(point), ours, theirs])
    columns = ("path", "at", "the lab's driver", "h2load")
    title = f"added over {DIRECT}, p50, ms, with 95 % intervals"
    return ResultTable(title, columns, rows, numbers=columns[2:])


def _added(measured: Rounds, h2load: H2Load, path: str, point: LoadPoint) -> tuple[list[float], list[float]]:
    """What a path adds in each round, by h2load and by the lab's driver; NaN where it was not measured."""
    ours = _less(*(measured.p50_ms[each, point] for each in (path, DIRECT)))
    theirs = _less(*(h2load.p50_ms[each, point.payload_bytes] for each in (path, DIRECT)))
    return theirs + [math.nan] * (len(ours) - len(theirs)), ours


def _less(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(a, b, strict=False)]


SECOND_OPINION = Bench(
    name="second-opinion",
    part_of=_TRUST,
    question="Does h2load find what the lab's driver finds that a path adds?",
    run=second_opinion,
    controls=len(LOAD_POINTS),
)
