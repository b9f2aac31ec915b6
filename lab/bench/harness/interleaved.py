"""Arms measured in interleaved rounds: every arm once a round in every cell, by one driver that is up all the while.

An arm's *turn* is one short open-loop run in one cell of one round. Every answer of a turn is judged as that of any run
is: a wrong one voids the bench. A turn in which the driver could not keep up is thrown away and made again, twice at
most; if it is still late, the claims that rest on it are unknown.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from lab.bench.harness.driver_client import Turn, driver
from lab.history import write_parquet
from lab.measure.compare import interleave
from lab.measure.pace import pace_of
from lab.runs import folder as run_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lab.bench.harness.environment import Setting
    from lab.bench.harness.variant import Arm, Cell
    from lab.history import Record
    from lab.measure.pace import Pace, RoundPace

REPEATS = 2


@dataclass(slots=True)
class Rounds:
    """What was measured.

    Attributes:
        p50_ms: by arm and cell, one value a round; latency counts from the intended time.
        paces: likewise, how well the driver kept up.
        folder: where the history of all turns is.
    """

    folder: Path
    p50_ms: dict[tuple[str, Cell], list[float]] = field(default_factory=dict)
    paces: dict[tuple[str, Cell], list[RoundPace]] = field(default_factory=dict)

    def pace(self, arm: str, cell: Cell) -> Pace:
        """How well the driver kept up over all rounds."""
        return pace_of(self.paces[arm, cell])

    def doubts(self, cell: Cell, *arms: str) -> tuple[str, ...]:
        """Why figures of these arms show nothing, if there is a reason."""
        doubts = ((arm, self.pace(arm, cell).doubt) for arm in arms)
        return tuple(f"{arm}, {cell}: {doubt}" for arm, doubt in doubts if doubt)

    def repeated(self) -> int:
        """Turns that were thrown away because the driver was late."""
        return sum(each.repeated for paces in self.paces.values() for each in paces)


def measure(
    setting: Setting,
    arms: Sequence[Arm],
    cells: Sequence[Cell],
    rounds: int,
    *,
    before: Callable[[Arm], None] = lambda _: None,
    after: Callable[[int, Cell], None] = lambda _, __: None,
) -> Rounds:
    """Measures every arm once a round in every cell, in an order drawn anew each time.

    Args:
        setting: the lab.
        arms: of distinct names.
        cells: sizes and rates.
        rounds: how many.
        before: called before each turn, for what makes an arm that arm.
        after: called once a round and cell, for what is measured by other means beside the arms.

    Raises:
        UnitError: an answer was wrong or missing, or the driver ended.
    """
    folder = run_folder.folder_of_now(setting.lab.runs)
    run_folder.make(folder)
    result = Rounds(folder)
    records: list[Record] = []
    with driver(setting, folder) as turns:
        for arm in arms:
            setting.say(f"warming up {arm.name}")
            before(arm)
            for cell in {cell.payload_bytes: cell for cell in cells}.values():
                turns.take(arm, cell, seed=0)
        for number, order in enumerate(interleave(cells, rounds, seed=0), start=1):
            setting.say(f"round {number} of {rounds}: {len(arms)} arms at {len(cells)} sizes and rates")
            for place, cell in enumerate(order):
                [arms_in_order] = interleave(arms, 1, seed=number * len(cells) + place)
                for arm in arms_in_order:
                    before(arm)
                    turn = punctual(partial(turns.take, arm, cell, seed=number))
                    result.p50_ms.setdefault((arm.name, cell), []).append(turn.p50_ms)
                    result.paces.setdefault((arm.name, cell), []).append(turn.pace)
                    records += turn.records
                after(number, cell)
    write_parquet(records, folder / run_folder.HISTORY)
    document = [
        {"arm": arm, **asdict(cell), "p50_ms": values, "paces": [asdict(each) for each in result.paces[arm, cell]]}
        for (arm, cell), values in result.p50_ms.items()
    ]
    (folder / "turns.json").write_text(json.dumps(document, indent=1))
    return result


def punctual(take: Callable[[], Turn]) -> Turn:
    """A turn, made again if the driver was late, :data:`REPEATS` times at most; it has the records of all."""
    turn = take()
    repeated = 0
    while turn.pace.late and repeated < REPEATS:
        repeated += 1
        again = take()
        turn = Turn(again.p50_ms, replace(again.pace, repeated=repeated), [*turn.records, *again.records])
    return turn
