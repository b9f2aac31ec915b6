"""Arms measured in interleaved rounds: every arm once a round in every cell, by one driver that is up all the while.

A *cell* is a size and a rate; an arm's *turn* is one short open-loop run in one cell of one round. Every answer of a
turn is judged as that of any run is: a wrong one voids the bench. A turn in which the driver could not keep up is
thrown away and made again, twice at most; if it is still late, the claims that rest on it are unknown.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lab.checkers import Evidence, Outcome, check
from lab.errors import UnitError
from lab.history import read_spool, write_parquet
from lab.lab import CHECKOUT
from lab.load.arrivals import Constant
from lab.load.plan import LoadPlan, UseCase, write_plan
from lab.load.summary import summarize
from lab.measure.compare import interleave
from lab.measure.pace import RoundPace, pace_of
from lab.report.scales import size
from lab.runs import folder as run_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from lab.bench.setting import Setting
    from lab.checkers import RevisionInForce, Verdict
    from lab.client import Endpoints
    from lab.history import Record
    from lab.measure.pace import Pace

REPEATS = 2
CALLER, USE_CASE, API, CLUSTER = "playback", "UpNext", "ranking.v1", "ml-cluster-5"
MODEL, VERSION = "up-next", "v1"
"""What all arms ask for: no experiment, no shadow, one version, so that arms differ in the way alone."""

_TIMEOUT_S = 10.0
_STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class Arm:
    """One way from caller to model.

    Attributes:
        name: as tables have it.
        topology: whose client it takes.
        endpoints: where that finds what it needs.
    """

    name: str
    topology: str
    endpoints: Endpoints


@dataclass(frozen=True, slots=True)
class Cell:
    """What an arm is measured with.

    Attributes:
        payload_bytes: size of a request, its envelope not counted.
        rate: requests per second, evenly spaced.
        requests: in one turn.
    """

    payload_bytes: int
    rate: float
    requests: int

    def __str__(self) -> str:
        return f"{size(self.payload_bytes)}, {self.rate:g} rps"


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
    with _turns(setting, folder) as turns:
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
                    turn = _punctual_turn(turns, arm, cell, seed=number)
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


@dataclass(frozen=True, slots=True)
class _Turn:
    p50_ms: float
    pace: RoundPace
    records: list[Record]


def _punctual_turn(turns: _Turns, arm: Arm, cell: Cell, *, seed: int) -> _Turn:
    turn = turns.take(arm, cell, seed=seed)
    repeated = 0
    while turn.pace.late and repeated < REPEATS:
        repeated += 1
        again = turns.take(arm, cell, seed=seed)
        turn = _Turn(again.p50_ms, _with_repeats(again.pace, repeated), [*turn.records, *again.records])
    return turn


def _with_repeats(pace: RoundPace, repeated: int) -> RoundPace:
    return RoundPace(**{**asdict(pace), "repeated": repeated})


class _Turns:
    """The driver's process, see :mod:`lab.bench.turns`."""

    def __init__(
        self, process: subprocess.Popen[str], folder: Path, apis: Sequence[UseCase], revisions: list[RevisionInForce]
    ) -> None:
        self._process, self._folder, self._use_cases, self._revisions = process, folder, tuple(apis), revisions

    def take(self, arm: Arm, cell: Cell, *, seed: int) -> _Turn:
        spool = self._folder / run_folder.SPOOL
        plan = LoadPlan(
            topology=arm.topology,
            caller=CALLER,
            use_cases=self._use_cases,
            arrivals=Constant(rate=cell.rate, duration_s=cell.requests / cell.rate),
            endpoints=arm.endpoints,
            spool=spool,
            summary=self._folder / run_folder.DRIVER,
            payload_bytes=cell.payload_bytes,
            seed=seed,
            timeout_s=_TIMEOUT_S,
        )
        write_plan(plan, self._folder / run_folder.PLAN)
        self._carry_out(arm, self._folder / run_folder.PLAN)
        records = read_spool(spool)
        spool.unlink()
        return _judged(arm, cell, plan, records, self._revisions)

    def _carry_out(self, arm: Arm, plan: Path) -> Any:
        pipe_in, pipe_out = self._process.stdin, self._process.stdout
        assert pipe_in is not None  # noqa: S101 (for the type checker: both are pipes)
        assert pipe_out is not None  # noqa: S101 (likewise)
        with suppress(BrokenPipeError):  # then there is no answer either
            pipe_in.write(json.dumps({"arm": arm.name, "plan": str(plan)}) + "\n")
            pipe_in.flush()
        line = pipe_out.readline()
        if not line:
            raise UnitError(f"the driver of the bench has ended; its last words are in {self._folder / _LOG}")
        answer = json.loads(line)
        if "error" in answer:
            raise UnitError(f"{arm.name}: {answer['error']}")
        return answer


_LOG = "driver.log"


@contextmanager
def _turns(setting: Setting, folder: Path) -> Iterator[_Turns]:
    revisions = [asdict(setting.lab.revision(each.revision)) for each in setting.lab.revisions()]
    with (folder / _LOG).open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "lab.bench.turns"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=CHECKOUT,
        )
        with process:
            try:
                use_cases = [UseCase(USE_CASE, API)]
                yield _Turns(process, folder, use_cases, run_folder.in_force(revisions))
                assert process.stdin is not None  # noqa: S101 (for the type checker: it is a pipe)
                process.stdin.close()
                process.wait(_STOP_S)
            finally:
                if process.poll() is None:
                    process.kill()


def _judged(arm: Arm, cell: Cell, plan: LoadPlan, records: list[Record], revisions: list[RevisionInForce]) -> _Turn:
    schedule = plan.schedule()
    verdicts = check(
        Evidence(records=records, revisions=revisions, planned=len(schedule), offered_rate=schedule.offered_rps)
    )
    summary = summarize(records, schedule)
    wrong = [each.summary for each in verdicts if each.checker != "driver" and each.outcome is not Outcome.VALID]
    if wrong or summary.failed or not summary.ok:
        reasons = "; ".join(wrong) or f"{summary.by_status}"
        raise UnitError(f"{arm.name}, {cell}: not every request was answered rightly: {reasons}")
    pace = RoundPace(
        offered=summary.offered,
        achieved_rate=summary.achieved_rate,
        schedule_delay_p99_ms=summary.schedule_delay_p99_ms,
        late=_is_late(verdicts),
    )
    return _Turn(summary.p50_ms, pace, records)


def _is_late(verdicts: Sequence[Verdict]) -> bool:
    return any(each.checker == "driver" and each.outcome is not Outcome.VALID for each in verdicts)
