"""The crossover map: which picker wins in which cell, by interval, where affinity loses, and what others published."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from lab.measure.compare import Interval, median_ratio, typical
from lab.measure.findings import ResultTable, in_its_interval
from lab.plugins.bench.harness.published_picks import PUBLISHED, Published
from lab.report.fault_reach import percent
from lab.report.heat import HeatMap, Tile

SKEW = 1.0
"""Skew of system prompts unless another one is asked for."""

LEAST_ROUNDS = 5
"""Fewer rounds decide nothing: of two pickers that are the same, one is ahead in all of 5 rounds in one of 16 cases."""

SAME = 0.1
"""Two figures are the same if the interval of their ratio is within so much of 1."""

UNDECIDED: Final = "undecided"

Verdict = Literal["better", "worse", "same", "undecided"]
Values = Mapping[str, Sequence[float]]
"""Picker → one value of a figure a round; NaN where it is missing."""


class Cell(NamedTuple):
    """One cell of the map.

    Attributes:
        share: of a conversation's first prompt that is its system prompt.
        load: offered, per cent of what the replicas carry with empty caches.
        age_ms: of the signal of the replicas' load.
        skew: how unequal system prompts are: prompt g has 1/(g+1)^skew. Cells of one skew are a sheet of the map.
    """

    share: float
    load: float
    age_ms: int
    skew: float = SKEW

    def __str__(self) -> str:
        dials = f"{percent(self.share)} shared, load {self.load:g} %, signal {in_time(self.age_ms)}"
        return dials if self.skew == SKEW else f"{dials}, skew {self.skew:g}"

    @property
    def dials(self) -> tuple[str, ...]:
        """As the cells of a table under :data:`_DIALS`."""
        return percent(self.share), f"{self.load:g} %", in_time(self.age_ms), f"{self.skew:g}"


class Figure(NamedTuple):
    """A figure of each cell: its heading, and whether more of it is better."""

    name: str
    more_is_better: bool = False


FIGURES: Mapping[str, Figure] = {
    "ttft_p50_ms": Figure("TTFT p50, ms"),
    "ttft_p99_ms": Figure("TTFT p99, ms"),
    "itl_p50_ms": Figure("ITL p50, ms"),
    "total_p50_ms": Figure("end to end p50, ms"),
    "total_p99_ms": Figure("end to end p99, ms"),
    "goodput_rps": Figure("goodput, rps", more_is_better=True),
    "hit_rate": Figure("hit rate", more_is_better=True),
    "imbalance": Figure("imbalance"),
    "failed": Figure("failed"),
}
"""The figures of a trial, by name."""

Found = Mapping[Cell, Mapping[str, Values]]
"""Cell → figure → picker → one value a round."""


class Standing(NamedTuple):
    """Who leads in a cell, by the medians.

    Attributes:
        leader: picker with the best median; empty if nothing was measured.
        wins: whether it is better than every other one by the whole interval of their ratio.
        ahead: the leader's figure over that of the one closest behind it; None if it is alone.
        behind: the one closest behind it.
    """

    leader: str
    wins: bool
    ahead: Interval | None
    behind: str

    def __str__(self) -> str:
        return self.leader if self.wins else UNDECIDED


def standing(values: Values, *, more_is_better: bool = False) -> Standing:
    """Who leads, and whether that is decided. With fewer than two pickers measured there is no winner."""
    known = {name: middle for name, each in values.items() if not math.isnan(middle := typical(each))}
    order = sorted(known, key=lambda name: known[name], reverse=more_is_better)
    if len(order) < 2:  # noqa: PLR2004 (a winner and one that it beats)
        return Standing("".join(order), wins=False, ahead=None, behind="")
    leader, *others = order
    verdicts = [compared(values, leader, each, more_is_better=more_is_better) for each in others]
    ahead = median_ratio(values[leader], values[others[0]])
    return Standing(leader, all(each == "better" for each in verdicts), ahead, others[0])


def compared(
    values: Values, one: str, other: str, *, more_is_better: bool = False, within: float | None = None
) -> Verdict:
    """Whether one picker is better than another, or worse, by the whole interval of their ratio.

    Args:
        values: of both.
        one: picker.
        other: picker that it is compared with.
        more_is_better: of the figure.
        within: they are the same if the interval is so close to 1; never if None.
    """
    ratio = median_ratio(values[one], values[other])
    if ratio.rounds < LEAST_ROUNDS:
        return UNDECIDED
    if within is not None and 1 - within <= ratio.low and ratio.high <= 1 + within:
        return "same"
    below, above = ratio.high < 1, ratio.low > 1
    if not below and not above:
        return UNDECIDED
    return "better" if above == more_is_better else "worse"


def losing(values: Values, affine: Collection[str], *, more_is_better: bool = False) -> list[str]:
    """Pickers with affinity that are worse than the best one without, by the whole interval."""
    blind = {name: each for name, each in values.items() if name not in affine}
    best = standing(blind, more_is_better=more_is_better).leader
    return [
        name
        for name in values
        if best and name in affine and compared(values, name, best, more_is_better=more_is_better) == "worse"
    ]


_DIALS = ("shared", "load", "signal", "skew")
_DECIDING = ("ttft_p50_ms", "ttft_p99_ms", "goodput_rps")
"""Figures by which the map says who wins."""


def map_table(found: Found, affine: Collection[str], doubt: str = "") -> ResultTable:
    """Who wins each cell, by each deciding figure, and where affinity loses; a doubt joins the title."""
    names = [FIGURES[each].name.partition(",")[0] for each in _DECIDING]
    columns = (*_DIALS, *(f"{each}: wins" for each in names), "affinity loses (TTFT p50)")
    rows: list[tuple[str, ...]] = [
        (
            *cell.dials,
            *(_wins(standing(figures[each], more_is_better=FIGURES[each].more_is_better)) for each in _DECIDING),
            ", ".join(losing(figures["ttft_p50_ms"], affine)) or "–",
        )
        for cell, figures in found.items()
    ]
    return ResultTable(f"crossover map{doubt and f', in doubt: {doubt}'}", columns, rows)


def _wins(each: Standing) -> str:
    if each.ahead is None:
        return UNDECIDED
    ratio = f"{in_its_interval(each.ahead)} × {each.behind}"
    return f"{each.leader}, {ratio}" if each.wins else f"{UNDECIDED} ({each.leader}: {ratio})"


def figures_table(found: Found) -> ResultTable:
    """The median of each figure of each picker in each cell."""
    headings = [each.name for each in FIGURES.values()]
    rows: list[tuple[float | str, ...]] = [
        (*cell.dials, picker, *map(typical, of_picker))
        for cell, figures in found.items()
        for picker in figures["ttft_p50_ms"]
        for of_picker in [[figures[each][picker] for each in FIGURES]]
    ]
    return ResultTable("median of each", (*_DIALS, "picker", *headings), rows, numbers=tuple(headings))


def heats_of(found: Found, figure: str, rounds: int, doubt: str = "") -> list[HeatMap]:
    """A sheet for each skew, with a tile for each cell: who wins, and by how much; dashed where undecided."""
    skews = sorted({cell.skew for cell in found})
    return [_heat_of(found, figure, rounds, skew, f"skew {skew:g}" if skews[1:] else "", doubt) for skew in skews]


def _heat_of(found: Found, figure: str, rounds: int, skew: float, sheet: str, doubt: str) -> HeatMap:
    """The cells of one skew. The fuller a tile, the further the one that wins is ahead of the last."""
    found = {cell: its for cell, its in found.items() if cell.skew == skew}
    shares = sorted({cell.share for cell in found})
    rows = sorted({(cell.age_ms, cell.load) for cell in found})
    title = FIGURES[figure].name.partition(",")[0]
    return HeatMap(
        f"which picker wins, by {title}{sheet and f', {sheet}'}",
        [f"{percent(each)} shared" for each in shares],
        [f"load {load:g} %, signal {in_time(age_ms)}" for age_ms, load in rows],
        [
            [_tile(found.get(Cell(share, load, age_ms, skew), {}).get(figure, {})) for share in shares]
            for age_ms, load in rows
        ],
        name="-".join(f"crossover {title} {sheet}".lower().split()),
        note=f"n = {rounds} rounds. A picker wins where the whole 95 % interval of its ratio to every other one is "
        f"below 1, in {LEAST_ROUNDS} rounds or more. Dashed: undecided.{doubt and f' In doubt: {doubt}.'}",
    )


def _tile(values: Values) -> Tile:
    its = standing(values)
    if its.ahead is None:
        return Tile(None, "?", "not measured")
    middles = [middle for each in values.values() if not math.isnan(middle := typical(each))]
    if not its.wins:
        return Tile(None, UNDECIDED, f"{its.leader} leads")
    gain = 1 - min(middles) / max(middles) if max(middles) > 0 else 0.0
    return Tile(min(max(gain, 0.0), 1.0), its.leader, f"{percent(gain)} below the last")


class Compared(NamedTuple):
    """What this map says of something that was published: cell by cell, or why nothing."""

    published: Published
    reproduces: Sequence[Cell]
    contradicts: Sequence[Cell]
    undecided: Sequence[Cell]

    @property
    def in_words(self) -> str:
        """E.g. ``reproduced: 90% shared, load 130 %, signal 50 ms``."""
        parts = {"reproduced": self.reproduces, "contradicted": self.contradicts, UNDECIDED: self.undecided}
        return "; ".join(f"{word}: {' / '.join(map(str, cells))}" for word, cells in parts.items() if cells) or (
            "not measured: no such cell, or one of both pickers is not here"
        )


def beside_published(found: Found, turns: int, entries: Sequence[Published] = PUBLISHED) -> Iterator[Compared]:
    """What each published result is beside the cells that come near to it."""
    for each in entries:
        cells: dict[str, list[Cell]] = {"reproduces": [], "contradicts": [], UNDECIDED: []}
        for cell, figures in found.items():
            values = figures[each.figure]
            if not each.speaks_of(cell.share, cell.load, turns) or {each.picker, each.against} - values.keys():
                continue
            within = SAME if each.side == "same" else None
            more = FIGURES[each.figure].more_is_better
            side = compared(values, each.picker, each.against, more_is_better=more, within=within)
            cells[side if side == UNDECIDED else "reproduces" if side == each.side else "contradicts"].append(cell)
        yield Compared(each, *cells.values())


def published_table(found: Found, turns: int) -> ResultTable:
    """The same as a table."""
    rows: list[tuple[str, ...]] = [
        (
            each.published.source,
            each.published.says,
            f"{each.published.picker} {each.published.side} than {each.published.against}"
            if each.published.side != "same"
            else f"{each.published.picker} as {each.published.against}",
            FIGURES[each.published.figure].name,
            each.in_words,
        )
        for each in beside_published(found, turns)
    ]
    return ResultTable("published results", ("source", "says", "here", "by", "in these cells"), rows)


def in_time(age_ms: int) -> str:
    """E.g. ``50 ms`` or ``5 s``."""
    return f"{age_ms / 1000:g} s" if age_ms >= 1000 else f"{age_ms} ms"  # noqa: PLR2004 (a second)
