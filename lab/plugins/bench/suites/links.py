"""What is left of the difference between gateway and mesh when a link takes time: by one-way delay and payload size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from lab.links import ROLE as LINK
from lab.measure.compare import Interval, median, median_difference, typical
from lab.plugins.bench.harness.bench import Bench
from lab.plugins.bench.harness.charts import chart_of_lines
from lab.plugins.bench.harness.environment import Environment, open_small_environment
from lab.plugins.bench.harness.interleaved import DOUBTFUL, Rounds, measure
from lab.plugins.bench.harness.result import BenchResult, Claim, ResultTable
from lab.plugins.bench.harness.variant import CALLER, CLUSTER, ROUTES, LoadPoint, Variant
from lab.plugins.capacity.hops import BENCH as NAME
from lab.plugins.capacity.hops import HOP_MS, NO_RELAY, PATH, variant_name
from lab.plugins.links import control
from lab.report.palette import topology_style
from lab.report.scales import linear, size

if TYPE_CHECKING:
    from lab.report.chart import Chart

MESH, GATEWAY = PATH, "gateway"
TOPOLOGIES = (GATEWAY, MESH)
DELAYS_MS = (0.0, HOP_MS / 2, HOP_MS, 2 * HOP_MS, 4 * HOP_MS)
"""One way."""

LOAD_POINTS = (LoadPoint(27_000, rate=100, requests=25), LoadPoint(4_000_000, rate=10, requests=4))
HOPS = {GATEWAY: 2, MESH: 1}
"""Links on the way from caller to model."""

_NEARLY = 0.95
_AGAIN = f"{MESH}, 0 ms again"
_SPEC = f'topologies = ["mesh", "gateway"]\n[callers.{CALLER}]\n[gateway]\nreplicas = 1\n'
_ZONES = f'[links.zones]\nhere = ["{CALLER}"]\nbetween = ["gateway"]\nthere = ["{CLUSTER}"]\n'


def run(environment: Environment, rounds: int) -> BenchResult:
    """Measures both topologies without relays, and through relays with each delay, which changes between trials."""
    with (
        open_small_environment(environment.say, _SPEC, ROUTES) as straight,
        open_small_environment(environment.say, f"{_SPEC}{_ZONES}", ROUTES) as linked,
    ):
        delays = {variant_name(topology, ms): ms for topology in TOPOLOGIES for ms in DELAYS_MS} | {_AGAIN: 0.0}
        endpoints = linked.state.plan.clients[CALLER]
        variants = [
            *(
                Variant(f"{topology}, {NO_RELAY}", topology, straight.state.plan.clients[CALLER], lab=straight)
                for topology in TOPOLOGIES
            ),
            *(Variant(name, name.partition(",")[0], endpoints, lab=linked) for name in delays),
        ]
        measured = measure(
            linked.within(environment),
            variants,
            LOAD_POINTS,
            rounds,
            measured_twice=(variant_name(MESH, 0.0), _AGAIN),
            before=lambda variant: _delay(linked, delays.get(variant.name, 0.0)),
        )
        late_ms = [each["late_mean_ms"] for each in _figures(linked)]
    return measured.result(
        _claims(measured),
        notes=[
            f"n = {rounds} rounds; each in random order; history in {measured.folder}",
            f"each hop takes one link: {', '.join(f'{HOPS[each]} for {each}' for each in TOPOLOGIES)}",
            f"relays sent pieces {typical(late_ms):.3f} ms after they were due; connecting is not delayed",
            DOUBTFUL,
        ],
        tables=[_table(measured), _hops(measured)],
        charts=[_chart(measured, point) for point in measured.points],
    )


def _delay(linked: Environment, ms: float) -> None:
    each_way = {"delay_ms": ms}
    for unit in linked.state.plan.with_role(LINK):
        control.change(unit, {"there": each_way, "back": each_way})


def _figures(linked: Environment) -> Iterator[Mapping[str, float]]:
    for unit in linked.state.plan.with_role(LINK):
        if figures := control.read(unit):
            yield figures


def _claims(measured: Rounds) -> Iterator[Claim]:
    """The links of each path delay a request and its answer by all that they should."""
    slowest, point = DELAYS_MS[-1], measured.points[0]
    for topology in TOPOLOGIES:
        slow, fast = variant_name(topology, slowest), variant_name(topology, 0.0)
        yield Claim(
            f"{topology}, {slowest:g} ms − 0 ms one way, p50, {point}, ms; bound: the links' round trips",
            median_difference(measured.p50_ms[slow, point], measured.p50_ms[fast, point]),
            at_least=_NEARLY * 2 * slowest * HOPS[topology],
            doubts=measured.doubts(point, slow, fast),
        )


def _table(measured: Rounds) -> ResultTable:
    def p50_ms(variant: str, point: LoadPoint) -> float:
        return typical(measured.p50_ms[variant, point])

    rows = [([variant], partial(p50_ms, variant)) for variant in measured.variants]
    return measured.table("p50, ms, median over rounds", ["path, delay one way"], rows)


def _hops(measured: Rounds) -> ResultTable:
    def shown(topology: str, ms: float, point: LoadPoint) -> str:
        slow, fast = variant_name(topology, ms), f"{topology}, {NO_RELAY}"
        figure = median_difference(measured.p50_ms[slow, point], measured.p50_ms[fast, point])
        return measured.shown(figure, point, slow, fast)

    rows = [([each, f"{ms:g} ms"], partial(shown, each, ms)) for each in TOPOLOGIES for ms in DELAYS_MS]
    title = "added over the path without relays, p50, ms, with 95 % intervals"
    return measured.table(title, ["topology", "one way"], rows)


def _chart(measured: Rounds, point: LoadPoint) -> Chart:
    lines: dict[str, list[tuple[float, Interval]]] = {
        topology: [(ms, median(measured.p50_ms[variant_name(topology, ms), point])) for ms in DELAYS_MS]
        for topology in TOPOLOGIES
    }
    return chart_of_lines(
        f"p50 by the delay of each link, {point}",
        linear("one-way delay of a link, ms", max(DELAYS_MS)),
        "p50, ms",
        lines,
        styles={topology: topology_style(topology) for topology in TOPOLOGIES},
        name=size(point.payload_bytes).replace(" ", "-").lower(),
        note="The gateway's way has two links, the mesh's one. Medians with 95 % intervals.",
    )


BENCH = Bench(
    name=NAME,
    question="What is left of the difference between gateway and mesh when a link takes time?",
    run=run,
    controls=len(LOAD_POINTS),
)
