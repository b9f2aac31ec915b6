"""The stage of an act: the lab, what happens on it as events, and what must be undone when the curtain falls."""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.checkers import Claim, Outcome
from lab.errors import DeadlineError, InputError
from lab.ops.routes import as_yaml
from lab.plugins.play.finding import Finding
from lab.runs.fault_rounds import parallel_runs
from lab.runtime.cancellation import CancelToken
from lab.runtime.state import LabState
from lab.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lab.lab import Lab
    from lab.load.progress import Progress
    from lab.runs import LoadOptions, ParallelResult, RunResult

_STARTS_WITHIN = timedelta(seconds=60)
_BACK_WITHIN = timedelta(seconds=30)
_REPORTS_S = 1.2  # drivers report every second
STEADY_S, HELD_S = 2.5, 4.0
"""How long all is well before a fault, and how long the fault lasts, in seconds."""
LONGEST_S = 120.0
"""Duration of a load that the act itself ends."""


@dataclass(slots=True)
class Loaded:
    """Load that is under way.

    Attributes:
        seen: the latest progress of each run, by its name.
    """

    future: Future[ParallelResult]
    _cancel: CancelToken
    seen: dict[str, Progress] = field(default_factory=dict)

    def failed(self) -> dict[str, int]:
        """Number of failed requests so far, by run."""
        return {name: progress.failed for name, progress in self.seen.items()}

    def answered(self) -> dict[str, int]:
        """Number of answered requests so far, by run."""
        return {name: progress.ok for name, progress in self.seen.items()}

    def end(self) -> tuple[RunResult, ...]:
        """Ends the load, and returns the judged runs."""
        self._cancel.cancel()
        return self.runs()

    def runs(self) -> tuple[RunResult, ...]:
        """The judged runs, once they are over."""
        return self.future.result().runs


class Stage:
    """What an act plays on.

    Args:
        lab: that is up.
        doing: called with what is done next, in words.
        live: called with a figure that changes while it is measured.
        clusters: number of clusters of the scale lab that the last act starts; 0 to show a recorded run.

    Attributes:
        document: the route table in force when the curtain rose.
        callers: that can send.
        topologies: of the lab.
    """

    def __init__(
        self, lab: Lab, doing: Callable[[str], None], live: Callable[[str], None], *, clusters: int = 0
    ) -> None:
        self.lab, self.doing, self.live, self.clusters = lab, doing, live, clusters
        state = LabState.of(lab.folder)
        self.topologies, self.callers = tuple(state.topologies), tuple(state.plan.callers)
        before = lab.routes.show()
        self._revision = before.revision
        self.document: Mapping[str, Any] = before.document or {}

    # -- what the route table has ---------------------------------------------------------------------------------

    def use_case(self, *, versions: int = 1) -> tuple[str, str, str, str]:
        """The first use case whose default model has so many versions: its name, a caller, the model, the version.

        Raises:
            InputError: the route table has none.
        """
        for name, use_case in self.document.get("use_cases", {}).items():
            model, _, version = use_case["default"].partition("@")
            caller = next((each for each in use_case["callers"] if each in self.callers), "")
            if caller and len(self.document["models"][model]["versions"]) >= versions:
                return name, caller, model, version
        raise InputError(f"lab play: the route table has no use case whose model has {versions} versions; publish one")

    # -- what is done and undone ----------------------------------------------------------------------------------

    @contextmanager
    def published(self, change: Callable[[dict[str, Any]], None], comment: str) -> Iterator[None]:
        """Publishes the table with a change; the earlier one is in force again after the body."""
        document = deepcopy(dict(self.document))
        change(document)
        try:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "routes.yaml"
                file.write_text(as_yaml(document))
                revision = self.lab.routes.publish(file, comment=comment)
            self.doing(f"revision {revision} is in force: {comment}")
            yield
        finally:
            self.restore()

    def restore(self) -> None:
        """Puts the route table in force again that was when the curtain rose, unless it is."""
        if self.lab.routes.show().document != self.document:
            self.doing("the route table as before")
            self.lab.routes.rollback(self._revision)

    @contextmanager
    def under_load(self, *options: LoadOptions) -> Iterator[Loaded]:
        """Drives loads at the same time. The body starts once each has an answer; an interrupt in it ends them all.

        Raises:
            DeadlineError: a load got no answer in time.
        """
        token = CancelToken()
        with ThreadPoolExecutor(1) as pool:
            seen: dict[str, Progress] = {}
            future = pool.submit(self.lab.load_parallel, options, progress=seen.update, cancel_token=token)
            loaded = Loaded(future, token, seen)
            try:
                eventually(
                    "each caller gets its first answer",
                    lambda: future.done() or (len(seen) == len(options) and all(loaded.answered().values())),
                    within=_STARTS_WITHIN,
                )
                yield loaded
            except BaseException:
                token.cancel()
                raise

    def load(self, *options: LoadOptions) -> tuple[RunResult, ...]:
        """Drives loads at the same time, and returns the judged runs."""
        with self.under_load(*options) as loaded:
            return loaded.runs()

    def blast_radius(self, target: str, *options: LoadOptions, wanted: int) -> Finding:
        """Kills units under load, heals them, and counts the callers that were hit.

        Args:
            target: unit or role.
            options: one load for each caller, of one topology.
            wanted: number of callers that must be hit.
        """
        with self.under_load(*options) as loaded:
            self.doing(f"{len(options)} callers send by {options[0].topology}")
            time.sleep(STEADY_S)
            before = loaded.failed()
            self.doing(f"killing {target}")
            with self.lab.faults.injected("kill", target):
                until = time.monotonic() + HELD_S
                while time.monotonic() < until:
                    hit = sum(count > before.get(name, 0) for name, count in loaded.failed().items())
                    self.live(f"blast radius: {hit} of {len(options)} callers")
                    time.sleep(min(0.25, HELD_S))
                self.doing(f"healing {target}")
            eventually("every caller gets answers again", lambda: _is_well(loaded), within=_BACK_WITHIN)
            self.doing("judging every answer")
            runs = loaded.end()
        radius = next(iter(parallel_runs([run.folder for run in runs]).radii()), None)
        if radius is None or radius.callers is None:
            why = radius.unknown[0] if radius else "the fault is not in the records"
            return Finding(
                figure="blast radius unknown", shown=False, basis=judged(runs), doubt=why, runs=folders(runs)
            )
        hit = round(radius.callers.greatest)
        return Finding(
            figure=f"blast radius: {hit} of {radius.of_callers} callers",
            shown=hit == wanted,
            basis=judged(runs),
            doubt="answers came late, as on a busy machine" if hit > wanted and is_late(runs) else "",
            runs=folders(runs),
            hit_callers=hit,
            of_callers=radius.of_callers,
        )


def _is_well(loaded: Loaded) -> bool:
    """Whether all callers get answers, and nothing fails any more, between two reports."""
    answered, failed = loaded.answered(), loaded.failed()
    time.sleep(_REPORTS_S)
    grew = all(count > answered.get(name, 0) for name, count in loaded.answered().items())
    if loaded.future.done():
        raise DeadlineError("the load ended before every caller had recovered; run the act again")
    return grew and loaded.failed() == failed


def folders(runs: tuple[RunResult, ...]) -> tuple[str, ...]:
    """The folders of runs."""
    return tuple(str(run.folder) for run in runs)


def judged(runs: tuple[RunResult, ...]) -> str:
    """How many requests were judged, and how they ended, in words."""
    counts = [run.counts for run in runs]
    sent = sum(each.sent for each in counts)
    ended = {name: sum(getattr(each, name) for each in counts) for name in ("right", "wrong", "failed")}
    words = ", ".join(f"{count:,} {name}" for name, count in ended.items() if count)
    return f"{sent:,} requests judged: {words or 'none ended'}"


def is_late(runs: tuple[RunResult, ...]) -> bool:
    """Whether a driver was late, so that times mean nothing."""
    return any(run.claims[Claim.TIMING] is not Outcome.VALID for run in runs)
