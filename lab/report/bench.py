"""Everything that a report shows of benches, read from the folder that ``lab bench`` wrote."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from lab.errors import RunError
from lab.measure.control import Control  # noqa: TC001 (same)
from lab.measure.findings import Claim, Ran, ResultTable, State
from lab.measure.pace import Pace, in_words
from lab.report.picture import AnyChart  # noqa: TC001 (same)
from lab.runs.folder import PLAN, TOGETHER, read_json


def _or_nan(value: float | None) -> float:
    """A round that is missing is null in JSON."""
    return math.nan if value is None else value


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedBench:
    """One bench of a report; ``BenchResult`` explains the attributes."""

    name: str
    unit: str
    rounds: Mapping[str, Sequence[Annotated[float, BeforeValidator(_or_nan)]]]
    claims: Sequence[Claim]
    notes: Sequence[str]
    missing: Sequence[str] = ()
    tables: Sequence[ResultTable] = ()
    charts: Sequence[AnyChart] = ()
    controls: Sequence[Control] = ()
    paces: Mapping[str, Pace] = field(default_factory=dict)
    ran: Ran | None = None

    @property
    def driver(self) -> str:
        """How well the driver kept its rate; empty if it had none."""
        return in_words(self.paces) if self.paces else ""

    @property
    def worst(self) -> State | None:
        """The worst state of its claims; None without claims."""
        states = {claim.state for claim in self.claims}
        return next((state for state in (State.FAILS, State.UNDECIDED, State.HOLDS) if state in states), None)

    @property
    def counts(self) -> str:
        """E.g. ``9 claims hold, 1 does not hold``."""
        states = Counter(claim.state for claim in self.claims)
        holds, fails, undecided = (states[state] for state in State)
        parts = [
            f"{holds} {'claim holds' if holds == 1 else 'claims hold'}" if holds else "",
            f"{fails} {'does' if fails == 1 else 'do'} not hold" if fails else "",
            f"{undecided} undecided" if undecided else "",
        ]
        return ", ".join(filter(None, parts)) or "measures only, makes no claims"

    @property
    def doubts(self) -> Sequence[str]:
        """Why some of its claims are undecided, each reason once."""
        of_claims = [doubt for claim in self.claims for doubt in claim.doubts]
        return list(dict.fromkeys([*of_claims, *(each.doubt for each in self.controls if each.doubt)]))

    @property
    def origin(self) -> str:
        """The bench, when it ran and on which machine, for captions of charts."""
        return f"Bench {self.name}" if self.ran is None else f"Bench {self.name}, {self.ran}"


_BENCH = TypeAdapter(ReportedBench)


def is_of_benches(folder: Path) -> bool:
    """Whether a folder holds results of benches, not a run."""
    is_of_runs = (folder / PLAN).exists() or (folder / TOGETHER).exists()
    return not is_of_runs and any(folder.glob("*.json"))


def read_benches(folder: Path) -> list[ReportedBench]:
    """Reads the results of one ``lab bench`` command, in the order of measurement.

    Raises:
        RunError: a file cannot be read, or is not a result of a bench.
    """
    benches = []
    for path in sorted(folder.glob("*.json")):
        document = read_json(path)
        try:
            benches.append(_BENCH.validate_python(document))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise RunError(
                f"{path}: no result of a bench ({place}: {first['msg']}); name a folder that lab bench wrote"
            ) from error
    return sorted(benches, key=lambda bench: bench.ran.started if bench.ran else "")
