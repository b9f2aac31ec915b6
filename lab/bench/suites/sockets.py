"""What a caller pays for the Unix socket to its sidecar: the same Envoy at a socket, at loopback, and there again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lab.bench.harness.bench import Bench
from lab.bench.harness.interleaved import DOUBTFUL, measure
from lab.bench.harness.result import BenchResult, Claim
from lab.bench.harness.topology_rounds import DIRECT, through_static_envoy
from lab.bench.harness.variant import LoadPoint, Variant
from lab.measure.compare import median_difference, median_ratio
from lab.roles import UNIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.bench.harness.environment import Environment
    from lab.bench.harness.interleaved import Rounds

LOAD_POINTS = (LoadPoint(400, rate=500, requests=75), LoadPoint(27_000, rate=500, requests=75))
SOCKET, LOOPBACK, AGAIN = "envoy-at-socket", "envoy-at-loopback", "envoy-at-loopback-again"


def run(environment: Environment, rounds: int) -> BenchResult:
    """Measures three Envoys with one static cluster each: the two at loopback are the A/A control."""
    at = {name: environment.address(name) for name in (LOOPBACK, AGAIN)}
    at[SOCKET] = f"{UNIX}{environment.socket(SOCKET)}"
    variants = [Variant(name, DIRECT, through_static_envoy(environment, name, address)) for name, address in at.items()]
    measured = measure(environment, variants, LOAD_POINTS, rounds, measured_twice=(LOOPBACK, AGAIN))

    def ratio(variant: str, point: LoadPoint) -> str:
        figure = median_ratio(measured.p50_ms[variant, point], measured.p50_ms[LOOPBACK, point])
        return measured.shown(figure, point, variant, LOOPBACK)

    rows = [([variant], partial(ratio, variant)) for variant in (SOCKET, AGAIN)]
    return measured.result(
        _claims(measured),
        notes=[f"n = {rounds} rounds; each in random order; history in {measured.folder}", DOUBTFUL],
        tables=[measured.table(f"p50 / that of {LOOPBACK}, with 95 % intervals", ["Envoy"], rows)],
    )


def _claims(measured: Rounds) -> Iterator[Claim]:
    """The socket adds no more than the control finds between two Envoys at loopback."""
    for point in LOAD_POINTS:
        same = measured.controls[point].difference
        yield Claim(
            f"socket − loopback, p50, {point}, ms",
            median_difference(measured.p50_ms[SOCKET, point], measured.p50_ms[LOOPBACK, point]),
            at_most=max(abs(same.low), abs(same.high)),
            doubts=measured.doubts(point, SOCKET, LOOPBACK),
        )


BENCH = Bench(
    name="sockets",
    question="What does a Unix socket to the sidecar cost, in the place of a loopback port?",
    run=run,
    controls=len(LOAD_POINTS),
)
