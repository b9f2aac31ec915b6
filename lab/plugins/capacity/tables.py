"""Results as tables: each column names the source of its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lab.measure.findings import ResultTable, written
from lab.plugins.capacity.assumptions import ASSUMPTIONS, Assumptions, Origin

if TYPE_CHECKING:
    from lab.plugins.capacity.fleet import Demand, Fleet
    from lab.plugins.capacity.tail_simulation import Loss, Tail

_COMPUTED, _SIMULATED = f"({Origin.COMPUTED})", "(computed by simulation)"


def assumptions_table(demand: Demand, assumed: Assumptions) -> ResultTable:
    """The demand and all assumptions, each with its source."""
    rows = demand.rows()
    for name, known in ASSUMPTIONS.items():
        quantity = assumed.quantity(name)
        rows.append((f"--{name}", f"{quantity.value:.6g} {quantity.unit}", known.meaning, quantity.source))
    return ResultTable(title=f"{Origin.ASSUMED}; each is an option", columns=("", "value", "what", "source"), rows=rows)


def parts_table(fleets: Iterable[Fleet]) -> ResultTable:
    """Each topology's parts."""
    rows: list[list[float | str]] = [
        [
            each.topology,
            part.part,
            1e3 * part.cpu_s.value,
            str(part.cpu_s.origin),
            _whole(part.cores.value),
            _whole(part.instances.value),
        ]
        for each in fleets
        for part in each.parts
    ]
    cpu = "CPU ms a request"
    columns = ("topology", "part", cpu, "which is", f"cores {_COMPUTED}", f"processes {_COMPUTED}")
    return ResultTable(
        title="what each part needs", columns=columns, rows=rows, numbers=(cpu, columns[-2], columns[-1])
    )


def fleets_table(fleets: Iterable[Fleet]) -> ResultTable:
    """The fleets of all topologies."""
    rows: list[list[float | str]] = [
        [
            each.topology,
            _whole(each.cores.value),
            _whole(each.instances.value),
            _whole(each.hops.value),
            each.hop_ms.value,
            _whole(each.wire.value),
            each.usd_cores.value,
            each.usd_wire.value,
            each.usd.value,
        ]
        for each in fleets
    ]
    columns = (
        "topology",
        "cores",
        "processes",
        "hops",
        "hops, ms",
        "Gbit/s",
        "USD a million: cores",
        "USD a million: wire",
        "USD a million",
    )
    title = f"what each topology needs, models not counted {_COMPUTED}"
    return ResultTable(title=title, columns=columns, rows=rows, numbers=columns[1:])


def breaks_table(fleets: Iterable[Fleet]) -> ResultTable:
    """What one dead instance reaches, and what grows with the square of the size."""
    rows: list[list[float | str]] = [
        [
            each.topology,
            f"{100 * each.struck.value:.4f} %",
            _whole(each.reached.value),
            _whole(each.lost.value),
            _whole(each.connections.value),
        ]
        for each in fleets
    ]
    columns = ("topology", "of all requests", "callers reached", "requests lost", "connections to models")
    title = f"one instance between caller and model dies, and how many connections there are {_COMPUTED}"
    return ResultTable(title=title, columns=columns, rows=rows, numbers=columns[1:])


def tails_table(tails: Iterable[Tail], of: str) -> ResultTable:
    """Latency by balancing policy; ``of`` names the latency."""
    rows = [(str(each.balancing), each.balancers, each.p50_ms, each.p99_ms, each.p999_ms) for each in tails]
    columns = ("balancing", "balancers", "p50", "p99", "p99.9")
    title = f"a model's queue and service, ms, {of} {_SIMULATED}"
    return ResultTable(title=title, columns=columns, rows=rows, numbers=columns[2:])


def losses_table(losses: Iterable[Loss]) -> ResultTable:
    """Losses when a zone dies."""
    rows = [
        (
            f"{100 * each.busy:g} %",
            each.retries,
            f"{100 * each.failed:.1f} %",
            each.p99_before_ms,
            each.p99_after_ms,
        )
        for each in losses
    ]
    columns = ("slots busy", "retries", "failed until noticed", "p99 before, ms", "p99 after, ms")
    title = f"a third of each cluster's replicas dies, each in its zone {_SIMULATED}"
    return ResultTable(title=title, columns=columns, rows=rows, numbers=columns[2:])


def sources(fleets: Sequence[Fleet]) -> list[str]:
    """Where measured costs are from, and how computed figures are."""
    measured = dict.fromkeys(f"{part.cpu_s.origin}: {part.cpu_s.source}" for each in fleets for part in each.parts)
    names = ("cores", "hops", "hop_ms", "wire", "usd_cores", "usd_wire", "struck", "lost")
    formulas = [f"{name.replace('_', ' ')} = {getattr(fleets[0], name).source}" for name in names] if fleets else []
    of_parts = [f"cores of a part = {fleets[0].parts[0].cores.source}"] if fleets else []
    return [*(f"CPU {text}" for text in measured), f"{Origin.COMPUTED}: {'; '.join([*of_parts, *formulas[1:]])}"]


def _whole(value: float) -> str:
    """A count, not rounded to nothing."""
    return f"{value:,.0f}" if value >= 1 else written(value)
