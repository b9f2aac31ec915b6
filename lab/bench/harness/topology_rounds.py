"""All ways from caller to model, measured beside each other: what ``topologies`` and ``decomposition`` both look at.

The rounds are made once for both: what one says of a topology and the other of its parts is of the same minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.bench.harness import prebuilt_request, static_envoy
from lab.bench.harness.h2load import H2Load
from lab.bench.harness.interleaved import measure
from lab.bench.harness.static_envoy import through_static_envoy
from lab.bench.harness.variant import CALLER, CLUSTER, USE_CASE, Arm, Cell
from lab.measure.control import control
from lab.measure.findings import in_its_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.bench.harness.environment import Setting
    from lab.bench.harness.interleaved import Rounds
    from lab.measure.compare import Interval
    from lab.measure.control import Control

DIRECT, AGAIN, STATIC = "direct", "direct again", static_envoy.NAME

CELLS: tuple[Cell, ...] = (
    Cell(400, rate=100, requests=30),
    Cell(400, rate=500, requests=75),
    Cell(27_000, rate=100, requests=25),
    Cell(27_000, rate=500, requests=75),
    Cell(500_000, rate=100, requests=24),
    Cell(4_000_000, rate=10, requests=4),
)
"""Many short rounds tell more than few long ones: what the machine does between them cancels."""

SECOND_OPINION_EVERY = 2
"""h2load measures in every so many rounds: it is there to be compared with, not to be precise."""

DOUBTFUL = "? = in doubt: the driver was late in a round, or the A/A control disagrees or has too few rounds"

_KEPT = "ways"


@dataclass(frozen=True, slots=True)
class Ways:
    """The rounds of all ways.

    Attributes:
        arms: names, as measured.
        h2load: None if this machine has none.
        controls: ``direct`` against itself in each cell.
    """

    arms: tuple[str, ...]
    cells: tuple[Cell, ...]
    rounds: Rounds
    h2load: H2Load | None
    controls: Sequence[Control]

    def p50_ms(self, arm: str, cell: Cell) -> list[float]:
        """One value a round."""
        return self.rounds.p50_ms[arm, cell]

    def doubts(self, cell: Cell, *arms: str) -> tuple[str, ...]:
        """Why figures of these arms in this cell show nothing: late turns, or a control that disagrees."""
        doubt = self.controls[self.cells.index(cell)].doubt
        return (*self.rounds.doubts(cell, *arms), *([doubt] if doubt else []))

    def shown(self, figure: Interval, cell: Cell, *arms: str) -> str:
        """A figure with its interval, and a question mark if it is in doubt."""
        return in_its_interval(figure) + (" ?" if self.doubts(cell, *arms) else "")

    def at(self, payload_bytes: int) -> Cell:
        """The cell of a size that has the highest rate."""
        return max((cell for cell in self.cells if cell.payload_bytes == payload_bytes), key=lambda cell: cell.rate)

    def has(self, *arms: str) -> bool:
        """Whether all of these were measured."""
        return all(arm in self.arms for arm in arms)


def measured_ways(setting: Setting, rounds: int) -> Ways:
    """The rounds, measured the first time that somebody asks."""
    if _KEPT not in setting.kept:
        setting.kept[_KEPT] = _measure(setting, rounds)
    ways: Ways = setting.kept[_KEPT]
    return ways


def _measure(setting: Setting, rounds: int) -> Ways:
    endpoints = setting.state.plan.clients[CALLER]
    through_static = through_static_envoy(setting, CALLER, USE_CASE, CLUSTER)
    others = [each for each in setting.state.topologies if each != DIRECT]
    arms = [
        Arm(DIRECT, DIRECT, endpoints),
        Arm(AGAIN, DIRECT, endpoints),
        Arm(STATIC, DIRECT, through_static),
        *(Arm(each, each, endpoints) for each in others),
    ]
    h2load = None
    if H2Load.is_there():
        paths: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
            DIRECT: (setting.replicas(CLUSTER)[0], ()),
            STATIC: (through_static.direct[USE_CASE].addresses[0], ()),
        }
        if "sidecar" in endpoints.by_role:
            paths["mesh"] = (endpoints.address_of("sidecar"), (prebuilt_request.ROUTING_KEY,))
        if "gateway" in endpoints.by_role:
            paths["gateway"] = (endpoints.address_of("gateway"), ())
        h2load = H2Load(setting.lab.folder, paths)
    asked = {cell.payload_bytes: cell for cell in CELLS}.values()  # of each size at the highest rate

    def second_opinion(number: int, cell: Cell) -> None:
        if h2load is not None and cell in asked and number % SECOND_OPINION_EVERY == 1:
            for path in h2load.paths:
                h2load.measure(path, cell.payload_bytes, rate=cell.rate, requests=cell.requests)

    result = measure(setting, arms, CELLS, rounds, after=second_opinion)
    controls = [
        control(
            f"{DIRECT} again − {DIRECT}, p50, {cell}, ms",
            result.p50_ms[DIRECT, cell],
            result.p50_ms[AGAIN, cell],
            among=len(CELLS),
        )
        for cell in CELLS
    ]
    return Ways(tuple(arm.name for arm in arms), CELLS, result, h2load, controls)
