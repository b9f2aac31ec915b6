"""What a million requests a second would take, and whether the simulation behind that predicts this lab's latency.

Also measures, keeps and reads the costs for ``lab capacity``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lab import CHECKOUT
from lab.errors import InputError, LabError
from lab.measure.findings import written
from lab.plugins.bench.harness.bench import TOPOLOGIES_OPTION, Bench
from lab.plugins.bench.harness.costs import IN_FLIGHT, measure
from lab.plugins.bench.harness.environment import Environment, open_environment
from lab.plugins.bench.harness.result import BenchResult
from lab.plugins.bench.harness.validation import BOUNDS, Validation, validate
from lab.plugins.bench.harness.variant import CALLER, Variant
from lab.plugins.capacity.assumptions import Assumptions
from lab.plugins.capacity.costs import Costs, costs_of
from lab.plugins.capacity.fleet import Demand
from lab.plugins.capacity.fleet_sizing import Survey, survey
from lab.plugins.capacity.services import mean_s
from lab.reading import read_json
from lab.report.bars import Bar, BarChart, BarGroup
from lab.report.scales import linear, size
from lab.runs.folder import create, new_run_folder
from models.stub.behaviour import parse_latency

COSTS = "processor-time"
"""Name of the measurement that ``lab capacity`` makes itself."""

SECONDS = 1.0
PAYLOADS = (400, 30_000)
RPS, CALLERS, CLUSTERS, SLOTS, SERVICE = 1_000_000.0, 30, 2_000, 4, "lognormal:20,0.4"
"""The talk's demand, and an assumed service time; also the defaults of ``lab capacity``."""


def run(environment: Environment, rounds: int, *, topologies: Sequence[str] = ()) -> BenchResult:
    """Measures costs in the bench's lab, validates the simulation in a small one, and computes."""
    costs = measure_costs(environment, PAYLOADS, rounds, topologies)
    try:
        found = validate(environment.say, rounds)
    except LabError as error:
        return replace(costs, missing=[*costs.missing, f"validation: {error}"])
    latency = parse_latency(SERVICE)
    demand = Demand(
        rps=RPS,
        payload_bytes=PAYLOADS[-1],
        callers=CALLERS,
        clusters=CLUSTERS,
        slots=SLOTS,
        service_s=mean_s(latency),
    )
    computed = survey(demand, latency, costs_of(costs.to_document(), "this run"), Assumptions(), say=environment.say)
    return result(costs, found, computed)


def result(costs: BenchResult, found: Validation, computed: Survey) -> BenchResult:
    """Returns everything as one result; its claims are the validation's."""
    return BenchResult(
        unit="ms (p50)",
        samples={
            f"{point}, {what}": [float(np.median(each)) for each in values]
            for point in found.points
            for what, values in (("predicted", point.predicted), ("measured", point.measured))
        },
        claims=found.claims(),
        paces={str(point): point.pace for point in found.points},
        tables=[found.table(), *costs.tables, *computed.tables()],
        charts=[_chart(found), *costs.charts],
        notes=[*found.notes(), *costs.notes, *computed.notes()],
        missing=list(found.missing),
    )


def measure_costs(
    environment: Environment,
    payloads: Sequence[int],
    rounds: int,
    topologies: Sequence[str] = (),
    *,
    seconds: float = SECONDS,
) -> BenchResult:
    """Measures processor time per request by topology, part and payload size, B; each is busy for ``seconds`` a round.

    Raises:
        UnitError: an answer was wrong or missing.
    """
    endpoints = environment.state.plan.clients[CALLER]
    variants = [Variant(each, each, endpoints) for each in topologies or environment.topologies]
    found = measure(environment, variants, payloads, rounds, seconds=seconds)
    return BenchResult(
        name=COSTS,
        unit="rps",
        samples={f"{variant}, {size(payload)}": values for (variant, payload), values in found.rps.items()},
        claims=[],
        tables=[found.table()],
        charts=[found.chart(max(payloads))],
        notes=[
            f"CPU: n = {rounds} rounds × {seconds:g} s, closed loop, {IN_FLIGHT} in flight; a driver is the caller",
            f"each answer was judged; history in {found.folder}",
        ],
    )


def measure_costs_now(
    say: Callable[[str], None], payload_bytes: int, rounds: int, topologies: Sequence[str] = ()
) -> Costs:
    """Measures costs in its own lab, and keeps the result in a folder that :func:`read_costs` reads."""
    with open_environment(say) as environment:
        found = environment.recorded(lambda: measure_costs(environment, [payload_bytes], rounds, topologies), rounds)
    folder = new_run_folder(CHECKOUT / "runs" / "bench")
    create(folder)
    document = found.to_document()
    (folder / f"{found.name}.json").write_text(json.dumps(document, indent=1))
    say(f"kept: {folder}, for --from")
    return costs_of(document, str(folder))


def read_costs(path: Path) -> Costs:
    """Reads costs from a bench's folder, or from a JSON file of one.

    Raises:
        InputError: it holds no such result.
    """
    files = [path / f"{name}.json" for name in (BENCH.name, COSTS, "throughput")] if path.is_dir() else [path]
    file = next((each for each in files if each.exists()), None)
    if file is None:
        raise InputError(f"--from: {path} has no result of a bench capacity or throughput; leave it out to measure now")
    try:
        document = read_json(file)
    except OSError as error:
        raise InputError(f"--from: {file} {error.strerror}; name a bench's folder or its JSON file") from error
    except ValueError as error:
        raise InputError(f"--from: {file} is not JSON: {error}; name a bench's folder or its JSON file") from error
    return costs_of(document, str(path))


def _chart(found: Validation) -> BarChart:
    figures = {str(point): point.quantile_ms(max(BOUNDS)) for point in found.points}
    worst = max(abs(predicted / measured - 1) for predicted, measured in figures.values())
    return BarChart(
        "p99 predicted and measured",
        linear("ms", max(max(pair) for pair in figures.values())),
        [
            BarGroup(point, [Bar("predicted", "run-7", predicted), Bar("measured", "run-1", measured)])
            for point, (predicted, measured) in figures.items()
        ],
        name="validation",
        note=f"n = {found.rounds} rounds. The worst is {written(100 * worst)} % off.",
    )


BENCH = Bench(
    name="capacity",
    question="What would a million requests a second take, and does the simulation behind that hold?",
    run=run,
    options=(TOPOLOGIES_OPTION,),
)
