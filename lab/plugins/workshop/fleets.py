"""Fleets of each topology for a demand: tables and pictures that name the source of every number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lab.plugins.bench.harness.environment import Environment
from lab.plugins.bench.suites.capacity import measure_costs
from lab.plugins.capacity.assumptions import Assumptions, Origin
from lab.plugins.capacity.costs import Costs, costs_of
from lab.plugins.capacity.fleet import Demand, Fleet, fleet
from lab.plugins.workshop.figures import Figure, show, table
from lab.report.bars import Bar, BarChart, BarGroup
from lab.report.palette import style_of
from lab.report.scales import linear

if TYPE_CHECKING:
    from lab.lab import Lab
    from lab.measure.findings import ResultTable

_SECONDS, _ROUNDS = 0.5, 2
_WHOLE_FROM = 20
"""Above this greatest value, decimals are left out."""


def costs_now(lab: Lab, payload_bytes: int, topologies: Sequence[str]) -> Costs:
    """What a request costs each part, measured in a lab that is up, some seconds long.

    Raises:
        UnitError: an answer was wrong or missing.
    """
    environment = Environment(lab, lambda _: None)
    result = measure_costs(environment, [payload_bytes], _ROUNDS, topologies, seconds=_SECONDS)
    return costs_of(result.to_document(), "this notebook")


def fleets(demand: Demand, costs: Costs, assumed: Assumptions) -> list[Fleet]:
    """What each topology that was measured needs.

    Raises:
        InputError: its costs are not known at this payload.
    """
    return [fleet(each, demand, costs, assumed) for each in costs.topologies]


def as_figure(found: ResultTable, caption: str = "") -> Figure:
    """A result's table as a figure of the notebook, its title capitalised."""
    return table(found.title.capitalize(), found.columns, found.written(), caption)


def costs_picture(costs: Costs, demand: Demand, assumed: Assumptions) -> Figure:
    """Processor time of a request, by part."""
    rows = fleets(demand, costs, assumed)
    title = f"Processor time of a request ({Origin.MEASURED})"
    note = f"{_ROUNDS} rounds of {_SECONDS:g} s each, models left out. The bench capacity takes more."
    values = {each.topology: {part.part: 1e3 * part.cpu_s.value for part in each.parts} for each in rows}
    return _stacked(title, "ms a request", values, note)


def cores_picture(rows: Sequence[Fleet], rps: float) -> Figure:
    """Cores that a demand takes, by part."""
    title = f"Cores for {rps:,.0f} requests a second ({Origin.COMPUTED})"
    values = {each.topology: {part.part: part.cores.value for part in each.parts} for each in rows}
    return _stacked(title, "cores", values, f"{rows[0].parts[0].cores.source}; models need the same in each topology.")


def money_picture(rows: Sequence[Fleet]) -> Figure:
    """What a million requests cost, by what for."""
    title = f"US dollars for a million requests ({Origin.COMPUTED} from {Origin.ASSUMED} prices)"
    values = {each.topology: {"cores": each.usd_cores.value, "wire": each.usd_wire.value} for each in rows}
    note = f"wire: {rows[0].usd_wire.source}"
    return _stacked(title, "USD", values, note)


def _stacked(title: str, unit: str, values: Mapping[str, Mapping[str, float]], note: str) -> Figure:
    most = max(sum(each.values()) for each in values.values())
    whole = most >= _WHOLE_FROM
    names = list(dict.fromkeys(name for each in values.values() for name in each))
    groups = [
        BarGroup(
            label,
            [
                Bar(name, style_of(names.index(name) + 1), round(value) if whole else value)
                for name, value in each.items()
            ],
        )
        for label, each in values.items()
    ]
    return show(BarChart(title, linear(unit, most or 1.0), groups, stacked=True, note=note))
