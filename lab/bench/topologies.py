"""What each way from caller to model adds over a direct call, by size and rate, and how the ways compare."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from lab.bench.h2load import NOT_MEASURED
from lab.bench.result import BenchResult, Claim
from lab.bench.ways import AGAIN, CELLS, DIRECT, SECOND_OPINION_EVERY, STATIC, measured_ways
from lab.measure.compare import added_ratio, median_ratio
from lab.measure.pace import pace_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.bench.interleaved import Cell
    from lab.bench.setting import Setting
    from lab.bench.ways import Ways

NAME = "topologies"

MESH, GATEWAY, PROXYLESS = "mesh", "gateway", "proxyless"
MESH_BOUND, MESH_UP_TO_BYTES = 1.3, 500_000
PROXYLESS_BOUND, PROXYLESS_AT_BYTES = 0.15, 400


def run(setting: Setting, rounds: int) -> BenchResult:
    """Measures ``direct`` twice, a bare static Envoy, and every topology of the lab, once a round in every cell."""
    ways = measured_ways(setting, rounds)
    named = {f"{arm}, {cell}": (arm, cell) for cell in ways.cells for arm in ways.arms}
    return BenchResult(
        name=NAME,
        unit="ms (p50)",
        arms={name: ways.p50_ms(*key) for name, key in named.items()},
        claims=list(_claims(ways)),
        notes=list(_notes(ways, rounds)),
        controls=ways.controls,
        paces={name: pace_of(ways.rounds.paces[key]) for name, key in named.items()},
    )


def _claims(ways: Ways) -> Iterator[Claim]:
    if ways.has(MESH):
        yield from (_added(ways, MESH, STATIC, cell, MESH_BOUND) for cell in CELLS if _small(cell))
    if ways.has(MESH, PROXYLESS):
        at = [cell for cell in CELLS if cell.payload_bytes == PROXYLESS_AT_BYTES]
        yield from (_added(ways, PROXYLESS, MESH, cell, PROXYLESS_BOUND) for cell in at)
    if ways.has(MESH, GATEWAY):
        for cell in CELLS:
            yield Claim(
                text=f"{MESH} / {GATEWAY}, p50, {cell}",
                figure=median_ratio(ways.p50_ms(MESH, cell), ways.p50_ms(GATEWAY, cell), seed=0),
                at_most=1.0,
                doubts=ways.doubts(cell, MESH, GATEWAY),
            )


def _small(cell: Cell) -> bool:
    return cell.payload_bytes <= MESH_UP_TO_BYTES


def _added(ways: Ways, arm: str, yardstick: str, cell: Cell, bound: float) -> Claim:
    return Claim(
        text=f"({arm} − {DIRECT}) / ({yardstick} − {DIRECT}), p50, {cell}",
        figure=added_ratio(*(ways.p50_ms(each, cell) for each in (arm, yardstick, DIRECT)), seed=0),
        at_most=bound,
        doubts=ways.doubts(cell, arm, yardstick, DIRECT),
    )


def _notes(ways: Ways, rounds: int) -> Iterator[str]:
    sizes = ", ".join(f"{cell.requests} at {cell}" for cell in CELLS)
    yield f"n = {rounds} rounds; requests of an arm in one: {sizes}; order drawn anew each round"
    yield f"latency counts from the intended time; {AGAIN!r} is the A/A control; history in {ways.rounds.folder}"
    if repeated := ways.rounds.repeated():
        yield f"{repeated} turns were made again because the driver was late"
    if ways.h2load is None:
        yield NOT_MEASURED
        return
    yield (
        f"h2load: the same bytes at the same rate over one connection, to one replica, every {SECOND_OPINION_EVERY}nd "
        "round; it counts from the sending and does not parse the answer"
    )
    for (path, payload_bytes), values in ways.h2load.p50_ms.items():
        [*_, cell] = [each for each in ways.cells if each.payload_bytes == payload_bytes]
        ours = statistics.median(ways.p50_ms(path, cell))
        yield f"h2load: {path}, {cell}: p50 {statistics.median(values):.3f} ms, ours {ours:.3f} ms"
