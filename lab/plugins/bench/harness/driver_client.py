"""Client of a bench's driver process, :mod:`.driver_process`: one trial at a time, each judged."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import CHECKOUT, PYTHON
from lab.checkers import CHECKERS, Claim, Evidence, Outcome, Verdict, check
from lab.checkers.plain_models import receipt_keys
from lab.errors import UnitError
from lab.history import Record, read_spool
from lab.load.arrivals import ArrivalPlan, Constant, Schedule
from lab.load.plan import LoadPlan, UseCase, write_plan
from lab.load.summary import summarize
from lab.measure.pace import RoundPace
from lab.plugins.bench.harness.variant import API, CALLER, USE_CASE, LoadPoint, Variant
from lab.runs import folder as run_folder
from lab.runs.documents import merged
from lab.runs.evidence import revisions_in_force

if TYPE_CHECKING:
    from lab.plugins.bench.harness.environment import Environment

_LOG = "driver.log"
_TIMEOUT_S = 10.0
_STOP_S = 5.0
_BY_ARRIVALS = frozenset({"limits", "policy"})  # compare with what every replica received, which no trial asks


@dataclass(frozen=True, slots=True)
class OpenLoopTrial:
    """One variant, measured once in an open loop; every answer was right."""

    p50_ms: float
    pace: RoundPace
    records: list[Record]


@dataclass(frozen=True, slots=True)
class Overload:
    """One variant at a rate that may be more than it carries: requests may have failed, but no answer was wrong.

    Attributes:
        took_s: from the first intended time to the last right answer, seconds.
        answered_rps: right answers per second of that time.
        p99_ms: 99th percentile of their latency, from the intended times.
    """

    took_s: float
    answered_rps: float
    p99_ms: float
    records: list[Record]


class Driver:
    """A driver process that :func:`start_driver` has started; it has one trial at a time."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, environment: Environment) -> None:
        self.pid = process.pid
        self._process, self._folder, self._environment = process, folder, environment
        self._known: dict[str, Evidence] = {}

    def run_at(self, point: LoadPoint, variant: Variant, *, seed: int) -> OpenLoopTrial:
        """Runs one open-loop trial at a load point.

        Raises:
            UnitError: an answer was wrong or missing, or the driver ended.
        """
        arrivals = Constant(rate=point.rate, duration_s=point.requests / point.rate)
        return self.run_open_loop(variant, arrivals, f"{variant.name}, {point}", point.payload_bytes, seed=seed)

    def run_open_loop(
        self, variant: Variant, arrivals: ArrivalPlan, label: str, payload_bytes: int, *, seed: int
    ) -> OpenLoopTrial:
        """Runs one open-loop trial with any arrivals; ``label`` names it in errors.

        Raises:
            UnitError: as :meth:`run_at`.
        """
        _, records, schedule = self._carry_out(variant, arrivals, payload_bytes, seed)
        verdicts = self._judge(label, variant, records, planned=len(schedule), offered_rate=schedule.offered_rps)
        summary = summarize(records, schedule)
        pace = RoundPace(
            offered=schedule.offered_rps,
            achieved_rate=summary.achieved_rate,
            schedule_delay_p99_ms=summary.schedule_delay_p99_ms,
            late=any(each.claim is Claim.TIMING and each.outcome is not Outcome.VALID for each in verdicts),
        )
        return OpenLoopTrial(summary.p50_ms, pace, records)

    def run_overloaded(self, point: LoadPoint, variant: Variant, *, seed: int) -> Overload:
        """Runs one open-loop trial in which requests may fail.

        Raises:
            UnitError: an answer was wrong, none came, or the driver ended.
        """
        arrivals = Constant(rate=point.rate, duration_s=point.requests / point.rate)
        _, records, schedule = self._carry_out(variant, arrivals, point.payload_bytes, seed)
        verdicts = self._verdicts(variant, records, planned=len(schedule), offered_rate=schedule.offered_rps)
        right = [record for record in records if record.status == "OK"]
        wrong = [
            each.summary for each in verdicts if each.claim is Claim.CORRECTNESS and each.outcome is Outcome.INVALID
        ]
        if wrong or not right:
            raise UnitError(f"{variant.name}, {point}: {'; '.join(wrong) or 'nothing was answered'}")
        took_s = (max(record.done_ns for record in right) - min(record.intended_ns for record in records)) / 1e9
        return Overload(took_s, len(right) / took_s, summarize(right, None).p99_ms, records)

    def run_closed_loop(
        self, variant: Variant, *, payload_bytes: int, seconds: float, in_flight: int, seed: int
    ) -> tuple[float, list[Record]]:
        """Runs one closed-loop trial with ``in_flight`` requests at once; returns how long it took, s, and its records.

        Raises:
            UnitError: as :meth:`run_at`.
        """
        arrivals = Constant(rate=in_flight, duration_s=seconds)
        took_s, records, _ = self._carry_out(variant, arrivals, payload_bytes, seed, in_flight=in_flight)
        self._judge(variant.name, variant, records, planned=len(records), offered_rate=len(records) / took_s)
        return took_s, records

    def _carry_out(
        self, variant: Variant, arrivals: ArrivalPlan, payload_bytes: int, seed: int, **options: Any
    ) -> tuple[float, list[Record], Schedule]:
        plan = LoadPlan(
            topology=variant.topology,
            caller=CALLER,
            use_cases=(UseCase(USE_CASE, API),),
            arrivals=arrivals,
            endpoints=variant.endpoints,
            spool=self._folder / run_folder.SPOOL,
            summary=self._folder / run_folder.DRIVER,
            payload_bytes=payload_bytes,
            seed=seed,
            timeout_s=_TIMEOUT_S,
        )
        path = self._folder / run_folder.PLAN
        write_plan(plan, path)
        environment = dict(variant.lab.state.plan.unit(CALLER).environment) if variant.lab else {}
        command = {"variant": variant.name, "plan": str(path), "identity": variant.identity, "environment": environment}
        took_s = self._ask({**command, **options})
        records = read_spool(plan.spool)
        plan.spool.unlink()
        return took_s, records, plan.schedule()

    def _ask(self, command: dict[str, Any]) -> float:
        pipe_in, pipe_out = self._process.stdin, self._process.stdout
        assert pipe_in and pipe_out  # noqa: PT018, S101 (for the type checker: both are pipes)
        with suppress(BrokenPipeError):  # then there is no answer either
            pipe_in.write(json.dumps(command) + "\n")
            pipe_in.flush()
        line = pipe_out.readline()
        if not line:
            raise UnitError(f"the bench's driver process has ended; see its log, {self._folder / _LOG}")
        answer = json.loads(line)
        if "error" in answer:
            raise UnitError(f"{command['variant']}: {answer['error']}")
        return float(answer["took_s"])

    def _judge(
        self, label: str, variant: Variant, records: list[Record], *, planned: int, offered_rate: float
    ) -> Sequence[Verdict]:
        """Returns the verdicts on a trial; a wrong or missing answer is an error."""
        verdicts = self._verdicts(variant, records, planned=planned, offered_rate=offered_rate)
        wrong = [
            each.summary for each in verdicts if each.claim is not Claim.TIMING and each.outcome is not Outcome.VALID
        ]
        failed = [record for record in records if record.status != "OK"]
        if wrong or failed or not records:
            statuses = Counter(record.status for record in failed)
            by_status = ", ".join(f"{count} {status}" for status, count in statuses.most_common())
            first = f"; the first: {failed[0].message}" if failed else ""
            reasons = "; ".join([*wrong, f"{len(failed)} of {len(records)} failed ({by_status}){first}"])
            raise UnitError(f"{label}: not every request was answered rightly: {reasons}")
        return verdicts

    def _verdicts(
        self, variant: Variant, records: list[Record], *, planned: int, offered_rate: float
    ) -> Sequence[Verdict]:
        known = self._known_of(variant.lab or self._environment)
        secret = (variant.lab or self._environment).state.spec.receipt_key
        evidence = replace(
            known,
            records=records,
            planned=planned,
            offered_rate=offered_rate,
            receipt_keys=receipt_keys(secret, (record.request_id for record in records)),
        )
        return check(evidence, [each for name, each in CHECKERS.items() if name not in _BY_ARRIVALS])

    def _known_of(self, environment: Environment) -> Evidence:
        """Returns the evidence of a lab that is the same for all trials."""
        name = environment.lab.name
        if name not in self._known:
            self._known[name] = Evidence(
                records=(),
                revisions=revisions_in_force(environment.lab.routes.history(tables=True)),
                planned=0,
                offered_rate=None,
                registrations=merged((), environment.lab.registrations(), asked_ns=0),
            )
        return self._known[name]


@contextmanager
def start_driver(environment: Environment, folder: Path) -> Iterator[Driver]:
    """Starts a driver process, and ends it; the lab's route table must not change meanwhile."""
    with (folder / _LOG).open("w") as log:
        process = subprocess.Popen(
            [*PYTHON, "-m", "lab.plugins.bench.harness.driver_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=CHECKOUT,
            start_new_session=True,  # Ctrl-C at a terminal is for the bench, which may finish its trial
        )
        with process:
            try:
                yield Driver(process, folder, environment)
                assert process.stdin is not None  # noqa: S101 (for the type checker: it is a pipe)
                process.stdin.close()
                process.wait(_STOP_S)
            finally:
                if process.poll() is None:
                    process.kill()
