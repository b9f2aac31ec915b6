"""Traffic of all callers through a lab of thousands of clusters, judged by the checkers of any run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.checkers import CHECKERS, Claim, Outcome, RevisionInForce, Verdict, check, combine
from lab.errors import UnitError
from lab.history import UNSENT, Record, read_spool
from lab.load.arrivals import Poisson
from lab.load.coordinator import BEGAN
from lab.load.plan import LoadPlan, UseCase
from lab.load.summary import RunSummary, summarize
from lab.plugins.bench.scale.synthetic_deployment import CONTEXTS
from lab.roles import Port, Unit
from lab.roles.resolver import RESOLVER
from lab.runs.evidence import evidence_of, revisions_in_force
from lab.runs.folder import DRIVER, SPOOL, RunFolder
from lab.runs.unit_evidence import probing, questions_at, units_on_path
from lab.waiting import eventually

if TYPE_CHECKING:
    from lab.client.admin_values import RevisionInfo
    from lab.plugins.bench.scale.scale_lab import ScaleLab

_UNIT = "drivers"
_WARM_UP = timedelta(seconds=120)
_GRACE_S = 60
_CHECKERS_BY_CALLER = ("accounting", "asked", "arrivals", "driver")
_CHECKERS_OF_ALL = ("routing", "answered", "staleness", "tear", "origin", "drivers", "convergence", "leases")
_TIMEOUT_S = 5.0
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Traffic:
    """The judged traffic.

    Attributes:
        summary: of all requests.
        verdicts: on all callers together, and those on single callers that are not valid.
        misrouted: number of answers to which a checker of correctness objects.
        clusters: number of clusters that answered.
        callers: number of callers that got an answer.
        failures: status and message of failed requests → how many, the most frequent first.
    """

    summary: RunSummary
    verdicts: tuple[Verdict, ...]
    misrouted: int
    clusters: int
    callers: int
    failures: Mapping[str, int]

    @property
    def outcome(self) -> Outcome:
        """Of all verdicts but those on timing, which concern latency alone."""
        return combine(each for each in self.verdicts if each.claim is not Claim.TIMING)


class TrafficRun:
    """Traffic of all callers, sent by some drivers at ``rate`` requests per second together; it has begun.

    Each driver sends the requests of some callers. Each caller has a folder below ``folder``, which is the lab's own by
    default.

    Raises:
        UnitError: the driver ended during warm-up.
    """

    def __init__(
        self, up: ScaleLab, *, rate: float, seconds: float, seed: int, drivers: int = 1, folder: Path | None = None
    ) -> None:
        self._up, self._folder = up, folder or up.lab.folder / "traffic"
        self._plans: dict[str, LoadPlan] = {}
        known, callers = up.deployment.document["use_cases"], up.state.plan.callers
        for number, (caller, endpoints) in enumerate(sorted(callers.items()), start=seed):
            self._plans[caller] = LoadPlan(
                topology="mesh",
                caller=caller,
                use_cases=tuple(UseCase(name, known[name]["api"]) for name in up.deployment.popularity[caller]),
                arrivals=Poisson(rate / len(callers), seconds, seed=number),
                endpoints=endpoints,
                # Relative to the folder of the plan, where the driver writes them.
                spool=Path(SPOOL),
                summary=Path(DRIVER),
                seed=number,
                contexts=CONTEXTS,
                timeout_s=_TIMEOUT_S,
            )
            run = RunFolder(self._folder / caller)
            run.path.mkdir(parents=True)
            run.plan, run.spec = (
                self._plans[caller],
                up.state.spec.model_dump(mode="json", exclude={"store", "receipt_key"}),
            )
            run.path_units = units_on_path(up.state.plan.units, self._plans[caller])
        up.say(f"warming up {len(callers)} callers")
        argv = ("python", "-m", "lab.load.driver", str(self._folder), str(drivers))
        self._running = dict(up.runtime.start([Unit(_UNIT, _UNIT, argv, Port("", "", ""), pod=_UNIT)]))
        eventually("all callers are warm", self._has_begun, within=_WARM_UP)
        self._probing = ExitStack()
        first = next(iter(self._plans.values()))
        self._probing.enter_context(probing(RunFolder(self._folder), up.state, first, {}))

    def wait(self) -> None:
        """Returns when every caller has sent everything.

        Raises:
            UnitError: the driver ended early.
        """
        longest_s = max(plan.schedule().duration_ns for plan in self._plans.values()) / 1e9
        with self._probing:
            eventually("the traffic has ended", self._has_ended, within=timedelta(seconds=longest_s + _GRACE_S))
        if missing := [name for name in self._plans if not (self._folder / name / DRIVER).exists()]:
            raise UnitError(f"the driver ended early, without {missing[0]}: {self._up.runtime.last_words(_UNIT)}")

    def judged(self, revisions: Sequence[RevisionInfo]) -> Traffic:
        """Returns the traffic, judged by ``revisions``, see :func:`lab.runs.evidence.revisions_in_force`."""
        units = self._up.state.plan.units
        records = {name: read_spool(self._folder / name / SPOOL) for name in self._plans}
        return judge(
            {name: self._folder / name for name in self._plans},
            records,
            revisions_in_force(revisions),
            drivers=RunFolder(self._folder).driver.drivers,
            probes=RunFolder(self._folder).probes,
            questions=questions_at([each for each in units if each.role == RESOLVER], since_ns=0),
        )

    def _has_begun(self) -> bool:
        if self._has_ended():
            raise UnitError(f"the driver ended during warm-up: {self._up.runtime.last_words(_UNIT)}")
        return (self._folder / BEGAN).exists()

    def _has_ended(self) -> bool:
        return self._up.runtime.states(self._running)[_UNIT] == "exited"


def judge(
    folders: Mapping[str, Path],
    records: Mapping[str, Sequence[Record]],
    tables: Sequence[RevisionInForce],
    **of_all: Any,
) -> Traffic:
    """Returns the traffic, judged by every checker: those of :data:`_CHECKERS_OF_ALL` see all callers together.

    Nobody asks the model host what it received, so the others can tell less than of a run, and only those of
    :data:`_CHECKERS_BY_CALLER` must be able to.

    Args:
        folders: runs' folders with their plans, by caller.
        records: by caller.
        tables: the revisions that were in force.
        **of_all: further evidence of all callers together, by its name in :class:`lab.checkers.Evidence`.
    """
    each_alone = [checker for name, checker in CHECKERS.items() if name not in _CHECKERS_OF_ALL]
    evidence = {name: evidence_of(RunFolder(folder), records[name], tables) for name, folder in folders.items()}
    verdicts = [
        verdict
        for its in evidence.values()
        for verdict in check(its, each_alone)
        if verdict.outcome is Outcome.INVALID
        or (verdict.outcome is Outcome.UNKNOWN and verdict.checker in _CHECKERS_BY_CALLER)
    ]
    everything = [record for each in records.values() for record in each]
    together = replace(
        next(iter(evidence.values())),
        records=everything,
        planned=sum(each.planned for each in evidence.values()),
        offered_rate=sum(each.offered_rate or 0.0 for each in evidence.values()),
        plan=None,
        request_mix=None,
        **of_all,
    )
    verdicts += check(together, [CHECKERS[name] for name in _CHECKERS_OF_ALL])
    objected = {one.request_id for each in verdicts if each.claim is Claim.CORRECTNESS for one in each.violations}
    answered = [record for record in everything if record.status == "OK"]
    failed = Counter(f"{each.status}: {each.message}" for each in everything if each.status not in {"OK", UNSENT})
    return Traffic(
        summarize(everything, None, came_due=together.planned),
        tuple(verdicts),
        sum(record.status == "OK" and record.request_id in objected for record in everything),
        len({record.cluster for record in answered}),
        len({record.caller for record in answered}),
        dict(failed.most_common(_SHOWN)),
    )
