"""Whether h2load, a C program that knows nothing of the lab, finds what its driver finds on the same paths.

Both send the same bytes, evenly spaced, in the same rounds. The lab is a small one: with one replica and one gateway
both instruments take the same path, though h2load has one connection and the lab's driver one to each address.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lab.measure.compare import added_ratio, interleave, median
from lab.measure.findings import in_its_interval
from lab.plugins.bench.harness import prebuilt_request
from lab.plugins.bench.harness.bench import Bench
from lab.plugins.bench.harness.environment import open_small_environment
from lab.plugins.bench.harness.h2load import NOT_MEASURED, H2Load
from lab.plugins.bench.harness.interleaved import DOUBTFUL, measure
from lab.plugins.bench.harness.result import BenchResult, Claim, ResultTable
from lab.plugins.bench.harness.topology_rounds import AGAIN, DIRECT, variants_of
from lab.plugins.bench.harness.variant import (
    CALLER,
    REPLICAS,
    ROUTES,
    USE_CASE,
    LoadPoint,
    one_of_each_path,
)
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from lab.plugins.bench.harness.environment import Environment
    from lab.plugins.bench.harness.interleaved import Rounds
    from lab.topologies import Topology

LOAD_POINTS = (
    LoadPoint(400, rate=500, requests=75),
    LoadPoint(27_000, rate=500, requests=75),
    LoadPoint(500_000, rate=100, requests=24),
)
AGREE = 0.1
"""By so much the two instruments may differ on what a path adds."""
_SPEC = f"topologies = {{topologies}}\n[callers.{CALLER}]\n[gateway]\nreplicas = 1\n"
_ROUTES = ROUTES.replace(f"replicas: {REPLICAS}", "replicas: 1")


def run(outer: Environment, rounds: int) -> BenchResult:
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
        _claims(measured, h2load, compared),
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


def _claims(measured: Rounds, h2load: H2Load, compared: Sequence[tuple[str, LoadPoint]]) -> Iterator[Claim]:
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


BENCH = Bench(
    name="second-opinion",
    question="Does h2load find what the lab's driver finds that a path adds?",
    run=run,
    controls=len(LOAD_POINTS),
)
