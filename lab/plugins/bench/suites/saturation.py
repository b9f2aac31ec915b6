"""Where each topology gives in: right answers per second and p99 against the offered rate, and what broke."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lab.history import Record, write_parquet
from lab.measure.compare import interleave, median, median_ratio, typical
from lab.measure.control import control, rounds_to_tell
from lab.plugins.bench.harness.bench import TOPOLOGIES_OPTION, Bench
from lab.plugins.bench.harness.charts import chart_of_lines
from lab.plugins.bench.harness.driver_client import Driver, start_driver
from lab.plugins.bench.harness.environment import Environment, cpu_seconds, open_small_environment
from lab.plugins.bench.harness.result import BenchResult, Claim, ResultTable
from lab.plugins.bench.harness.trials import Trials
from lab.plugins.bench.harness.variant import CALLER, ROUTES, LoadPoint, Variant, paths_with_units
from lab.report.palette import topology_style
from lab.report.scales import linear
from lab.roles import CALLER as CALLER_ROLE
from lab.roles import CONTROL_PLANE
from lab.runs import folder as run_folder
from lab.runtime.process.family import family

if TYPE_CHECKING:
    from lab.report.chart import Chart

SHARES = (0.5, 0.75, 0.9, 1.0, 1.1, 1.2, 1.3)
"""Offered rates, of the variant's own knee."""

SECONDS, KNEE_SECONDS, KNEE_TRIALS = 1.5, 1.0, 3
PAYLOAD_BYTES, IN_FLIGHT = 400, 16
GATEWAY = "gateway"
TWO = f"{GATEWAY}, two replicas"
BUSY = 0.85
"""Of a core: a process of one thread that takes more has given in."""

BROKEN, COLLAPSE = 0.97, 0.7
"""Share of the offered rate below which a topology has given in; share of its knee that it must still answer then."""

_SPEC = "topologies = {topologies}\n[callers.{caller}]\n[gateway]\nreplicas = {replicas}\n"


@dataclass(slots=True)
class _Measured:
    """Right answers per second, p99 and load of each process, by variant and share of its knee, a value a round.

    Attributes:
        knee_rps: variant → requests per second in a closed loop.
        load: variant and share → process → cores that it took.
    """

    knee_rps: dict[str, float] = field(default_factory=dict)
    answered_rps: dict[tuple[str, float], list[float]] = field(default_factory=dict)
    p99_ms: dict[tuple[str, float], list[float]] = field(default_factory=dict)
    load: dict[tuple[str, float], dict[str, list[float]]] = field(default_factory=dict)


def run(environment: Environment, rounds: int, *, topologies: Sequence[str] = ()) -> BenchResult:
    """Finds each variant's knee in a closed loop, then offers shares of it, in random order in every round.

    By default it measures one topology of each path of the lab, and the first of them twice.
    """
    topologies = topologies or paths_with_units(environment.topologies)
    spec = _SPEC.format(topologies=json.dumps([*topologies]), caller=CALLER, replicas=1)
    two = _SPEC.format(topologies=json.dumps([GATEWAY]), caller=CALLER, replicas=2)
    with (
        open_small_environment(environment.say, spec, ROUTES) as one_gateway,
        open_small_environment(environment.say, two, ROUTES) as two_gateways,
    ):
        clients, clients_of_two = one_gateway.state.plan.clients[CALLER], two_gateways.state.plan.clients[CALLER]
        variants = [
            *(Variant(each, each, clients, lab=one_gateway) for each in topologies),
            Variant(TWO, GATEWAY, clients_of_two, lab=two_gateways),
        ]
        twice = variants[0].name, f"{variants[0].name} again"
        again = replace(variants[0], name=twice[1])
        inner = one_gateway.within(environment)
        folder = run_folder.new_run_folder(inner.lab.runs)
        run_folder.create(folder)
        with start_driver(inner, folder) as driver:
            found, records = _measure(inner, driver, [*variants, again], rounds)
        write_parquet(records, folder / run_folder.HISTORY)
    lines = [variant.name for variant in variants]
    both = (found.answered_rps[each, 1.0] for each in twice)
    return BenchResult(
        unit="rps",
        samples={f"{name}, {share:.0%}": values for (name, share), values in found.answered_rps.items()},
        claims=list(_claims(found, lines)),
        controls=[control(f"{twice[1]} − {twice[0]}, right answers per second at the knee", *both)],
        tables=[_table(found, lines)],
        charts=[_answers(found, lines, rounds), _latencies(found, lines, rounds)],
        notes=[
            f"n = {rounds} rounds × {SECONDS:g} s; {PAYLOAD_BYTES} B; open loop, at shares of each one's own knee",
            f"a knee: requests per second in a closed loop of {IN_FLIGHT} in flight, median of {KNEE_TRIALS}",
            f"gives in: fewer right answers than {BROKEN:.0%} of the offered rate",
            f"broken: the process that then takes {BUSY:.0%} of a core or more, else the machine, which all share",
            "an overloaded trial may have failed requests, which are no answers; a wrong answer voids it",
            f"history in {folder}",
        ],
    )


def _measure(
    environment: Environment, driver: Driver, variants: list[Variant], rounds: int
) -> tuple[_Measured, list[Record]]:
    found, records, by_name = _Measured(), list[Record](), {variant.name: variant for variant in variants}
    for variant in variants:
        rates = []
        for number in range(KNEE_TRIALS + 1):  # the first warms up
            took_s, answered = driver.run_closed_loop(
                variant, payload_bytes=PAYLOAD_BYTES, seconds=KNEE_SECONDS, in_flight=IN_FLIGHT, seed=number
            )
            rates.append(len(answered) / took_s)
        found.knee_rps[variant.name] = typical(rates[1:])
    trials = Trials(environment, interleave([(name, share) for name in by_name for share in SHARES], rounds))
    for trial in trials:
        name, share = trial.cell
        rate = share * found.knee_rps[name]
        point, pids = LoadPoint(PAYLOAD_BYTES, rate, max(1, round(rate * SECONDS))), _processes(by_name[name], driver)
        with trial:
            before = _cpu(pids)
            overload = driver.run_overloaded(point, by_name[name], seed=trial.number)
            after = _cpu(pids)
            trial.keep(answered=overload.answered_rps, p99=overload.p99_ms)
            if trial.number:
                for process, cpu in after.items():
                    loads = found.load.setdefault(trial.cell, {})
                    loads.setdefault(process, []).append((cpu - before.get(process, cpu)) / overload.took_s)
            records += overload.records
    for (cell, figure), values in trials.samples.items():
        {"answered": found.answered_rps, "p99": found.p99_ms}[figure][cell] = values
    return found, records


def _processes(variant: Variant, driver: Driver) -> dict[str, int]:
    """Process id by name of all that may work for a variant's requests."""
    assert variant.lab is not None  # noqa: S101 (each has one)
    state = variant.lab.state
    units = (unit for unit in state.plan.units if unit.role not in (CALLER_ROLE, CONTROL_PLANE))
    return {"driver": driver.pid, **{unit.name: state.running[unit.name].pid for unit in units}}


def _cpu(pids: Mapping[str, int]) -> dict[str, float]:
    return {name: sum(cpu_seconds(each) for each in family(pid)) for name, pid in pids.items()}


def _given_in(found: _Measured, name: str) -> tuple[float, str]:
    """The lowest share of its knee at which a variant gives in, and what broke; 0 and nothing if it does not."""
    for share in SHARES:
        if typical(found.answered_rps[name, share]) < BROKEN * share * found.knee_rps[name]:
            loads = {process: typical(each) for process, each in found.load[name, share].items()}
            process = max(loads, key=lambda each: loads[each])
            what = process if loads[process] >= BUSY else "the machine"
            return share, f"{what} ({', '.join(f'{each} {load:.2f}' for each, load in _most(loads))})"
    return 0.0, "nothing"


def _most(loads: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(loads.items(), key=lambda each: -each[1])[:3]


def _claims(found: _Measured, names: list[str]) -> Iterator[Claim]:
    for name in names:
        yield Claim(
            f"{name}: right answers per second at {SHARES[-1]:.0%} of its knee / at 100 %",
            median_ratio(found.answered_rps[name, SHARES[-1]], found.answered_rps[name, 1.0]),
            at_least=COLLAPSE,
        )


def _table(found: _Measured, names: list[str]) -> ResultTable:
    rows: list[list[float | str]] = []
    for name in names:
        share, what = _given_in(found, name)
        rows.append(
            [
                name,
                found.knee_rps[name],
                f"{share:.0%}" if share else "–",
                what,
                *(typical(found.p99_ms[name, each]) for each in (0.5, 1.0, SHARES[-1])),
            ]
        )
    p99 = ("p99 at 50 %, ms", "p99 at 100 %, ms", f"p99 at {SHARES[-1]:.0%}, ms")
    return ResultTable(
        "where each gives in",
        ("topology", "knee, rps", "gives in at", "what broke (cores)", *p99),
        rows,
        numbers=("knee, rps", *p99),
    )


def _style(name: str) -> str:
    return "run-7" if name == TWO else topology_style(name)


def _answers(found: _Measured, names: list[str], rounds: int) -> Chart:
    return _chart(found, names, found.answered_rps, "right answers per second", "answers", rounds)


def _latencies(found: _Measured, names: list[str], rounds: int) -> Chart:
    return _chart(found, names, found.p99_ms, "p99, ms", "p99", rounds)


def _chart(
    found: _Measured, names: list[str], values: Mapping[tuple[str, float], list[float]], y: str, label: str, rounds: int
) -> Chart:
    lines = {name: [(share * found.knee_rps[name], median(values[name, share])) for share in SHARES] for name in names}
    most = max(SHARES) * max(found.knee_rps[name] for name in names)
    return chart_of_lines(
        f"{y} against the offered rate, up to {SHARES[-1]:.0%} of each knee",
        linear("offered, requests per second", most),
        y,
        lines,
        styles={name: _style(name) for name in names},
        name=label,
        note=f"Medians over n = {rounds} rounds, with 95 % intervals. "
        + "; ".join(f"{name}: {_given_in(found, name)[1]}" for name in names)
        + ".",
    )


BENCH = Bench(
    name="saturation",
    question="At which rate does each topology give in, and what breaks first?",
    run=run,
    rounds=rounds_to_tell(1),
    controls=1,
    options=(TOPOLOGIES_OPTION,),
)
