"""Where the milliseconds go: each cause by a pair of paths that differ in nothing else, by payload size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from lab.measure.compare import Interval, median_difference, median_ratio
from lab.measure.pace import pace_of
from lab.plugins.bench.harness.bench import TOPOLOGIES_OPTION, Bench
from lab.plugins.bench.harness.charts import chart_of_bars
from lab.plugins.bench.harness.interleaved import DOUBTFUL, Rounds
from lab.plugins.bench.harness.result import BenchResult, Claim, ResultTable
from lab.plugins.bench.harness.topology_rounds import (
    DIRECT,
    IN_PLAINTEXT,
    LOAD_POINTS,
    SECURED,
    STATIC,
    measured_pair,
    measured_topologies,
)
from lab.report.scales import size
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from lab.plugins.bench.harness.environment import Environment
    from lab.plugins.bench.harness.variant import LoadPoint
    from lab.report.bars import BarChart


@dataclass(frozen=True, slots=True)
class Part:
    """One cause, and the pair of variants that isolates it: ``more`` pays for it, ``less`` does not."""

    name: str
    more: str
    less: str
    differs: str

    def figure(self, rounds: Rounds, point: LoadPoint) -> Interval:
        """Returns what the cause costs, ms."""
        return median_difference(rounds.p50_ms[self.more, point], rounds.p50_ms[self.less, point])


PARTS = (
    Part("hop", STATIC, DIRECT, "an Envoy with one static cluster stands between caller and model"),
    Part("sidecar's own work", "mesh", STATIC, "leases, the guarded header, clusters on demand, the log"),
    Part("parse, re-serialise", "gateway", "gateway-passthrough", "the same gateway passes bytes on unparsed"),
    Part("implementation", "gateway-passthrough", "gateway-header", "a gateway in Python, not Envoy; neither parses"),
    Part("resolve", "mesh-unleased", "mesh", "the resolver is asked on every call"),
    Part("central, not local", "gateway-header", "mesh", "one Envoy for all callers, not one beside each"),
)
MTLS = Part("mTLS", SECURED, IN_PLAINTEXT, "two small labs of one mesh each; every connection but to the Envoy is mTLS")

MTLS_BOUND, MTLS_AT_BYTES = 1.15, 27_000


def run(environment: Environment, rounds: int, *, topologies: Sequence[str] = ()) -> BenchResult:
    """Uses the rounds of ``topologies``, which are measured once for both benches; mTLS has rounds of its own."""
    measured, pair = measured_topologies(environment, rounds, topologies), measured_pair(environment, rounds)
    seen = [(part, measured) for part in parts() if measured.has(part.more, part.less)]
    seen.append((MTLS, pair))
    samples, paces = {}, {}
    for part, of in seen:
        for point in of.points:
            pairs = zip(of.p50_ms[part.more, point], of.p50_ms[part.less, point], strict=True)
            samples[f"{part.name}, {point}"] = [more - less for more, less in pairs]
            for variant in (part.more, part.less):
                if (variant, point) in of.paces:
                    paces[f"{variant}, {point}"] = pace_of(of.paces[variant, point])
    return BenchResult(
        unit="ms (difference of p50)",
        samples=samples,
        claims=[_claim(pair)],
        notes=list(_notes(measured, seen, rounds)),
        controls=[*measured.controls.values(), *pair.controls.values()],
        paces=paces,
        tables=[_table(measured, seen)],
        charts=list(_charts(measured, seen, rounds)),
    )


def parts() -> Iterator[Part]:
    """Yields :data:`PARTS`, then one for each of the default lab that they lack and that differs in the proxy alone."""
    yield from PARTS
    compared = [each for each in TOPOLOGIES.values() if each.name in {part.more for part in PARTS}]
    mentioned = {variant for part in PARTS for variant in (part.more, part.less)}
    for other in TOPOLOGIES.values():
        is_new = other.in_default_lab and other.name not in mentioned
        for base in compared if is_new and other.between else ():
            if (other.asks, len(other.between)) == (base.asks, len(base.between)) and other.between != base.between:
                proxy, usual = ", ".join(other.between), ", ".join(base.between)
                yield Part(f"{proxy}, not {usual}", other.name, base.name, f"{proxy} in the place of {usual}")
                break


def _claim(pair: Rounds) -> Claim:
    point = pair.fastest_at(MTLS_AT_BYTES)
    return Claim(
        f"{SECURED} / {IN_PLAINTEXT}, p50, {point}",
        median_ratio(pair.p50_ms[SECURED, point], pair.p50_ms[IN_PLAINTEXT, point]),
        at_most=MTLS_BOUND,
        doubts=pair.doubts(point, SECURED, IN_PLAINTEXT),
    )


def _table(measured: Rounds, parts: Sequence[tuple[Part, Rounds]]) -> ResultTable:
    def shown(part: Part, of: Rounds, point: LoadPoint) -> str:
        return of.shown(part.figure(of, point), point, part.more, part.less) if point in of.points else ""

    rows = [([part.name, f"{part.more} − {part.less}"], partial(shown, part, of)) for part, of in parts]
    return measured.table("difference of p50, ms, with 95 % intervals", ["part", "pair"], rows)


def _charts(measured: Rounds, parts: Sequence[tuple[Part, Rounds]], rounds: int) -> Iterator[BarChart]:
    """One chart per size: at megabytes the parts are so much longer that a common axis would hide the others."""
    for payload_bytes in sorted({point.payload_bytes for point in measured.points}):
        point = measured.fastest_at(payload_bytes)
        yield chart_of_bars(
            f"where the milliseconds go, {point}",
            "ms of the p50",
            {"": {part.name: part.figure(of, point) for part, of in parts}},
            name=f"parts-{size(payload_bytes)}",
            note=f"Medians over n = {rounds} rounds, with 95 % intervals.",
        )


def _notes(measured: Rounds, parts: Sequence[tuple[Part, Rounds]], rounds: int) -> Iterator[str]:
    yield f"n = {rounds} rounds, those of the bench topologies; as many for mTLS"
    yield from (f"{part.name} = {part.more} − {part.less}: {part.differs}" for part, _ in parts)
    for part in PARTS:
        if missing := " and ".join(each for each in (part.more, part.less) if not measured.has(each)):
            yield f"{part.name}: not measured: this lab has no {missing}"
    yield DOUBTFUL


BENCH = Bench(
    name="decomposition",
    question="Where do the milliseconds go: hop, parsing, implementation, resolving, central or local, mTLS?",
    run=run,
    options=(TOPOLOGIES_OPTION,),
    controls=len(LOAD_POINTS),
)
