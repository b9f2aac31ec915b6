"""Parallel load that ends while the control plane is down: what can be saved is, and nothing is shown by it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from lab.checkers import Claim, Outcome
from lab.errors import UnitError
from lab.lab import Lab
from lab.load.progress import Progress
from lab.runs import LoadOptions, ParallelResult, judge, runs_in
from lab.runs.folder import RunFolder
from lab.runs.seal import verify
from lab.runtime.cancellation import CancelToken
from lab.waiting import eventually
from tests.labs import processes_of

TOPOLOGIES = ("gateway", "mesh")
WITHIN = timedelta(seconds=60)


class Load:
    """Parallel load by two topologies, in another thread, which goes on until it is cancelled."""

    def __init__(self, lab: Lab, pool: ThreadPoolExecutor) -> None:
        self._seen: dict[str, Progress] = {}
        self.cancel_token = CancelToken()
        options = [LoadOptions(topology=each, caller="homepage", rate=20, duration_s=600) for each in TOPOLOGIES]
        self._run = pool.submit(lab.load_parallel, options, progress=self._take, cancel_token=self.cancel_token)
        eventually("both are answered", self._all_answered, within=WITHIN)

    def _take(self, seen: Mapping[str, Progress]) -> None:
        self._seen.update(seen)

    def _all_answered(self) -> bool:
        assert not self._run.done()
        return len(self._seen) == len(TOPOLOGIES) and all(each.ok for each in self._seen.values())

    def result(self) -> ParallelResult:
        """Its result, once it has ended."""
        return self._run.result(timeout=WITHIN.total_seconds())


def nodes_of(lab: Lab) -> set[str]:
    """The nodes that the control plane knows; none while it does not answer."""
    status = lab.control_plane_status()
    return set() if status is None else {each.node for each in status.nodes}


@pytest.fixture
def load(small_lab: Lab) -> Iterator[tuple[Lab, Load]]:
    """A small lab whose control plane has just been killed, and the load through it."""
    nodes = nodes_of(small_lab)
    with ThreadPoolExecutor(max_workers=1) as pool:
        load = Load(small_lab, pool)
        try:
            small_lab.units.kill("control-plane")
            yield small_lab, load
        finally:
            load.cancel_token.cancel()
            small_lab.units.start("control-plane")
            eventually("nodes are back", partial(nodes_of, small_lab), within=WITHIN, until=nodes.issubset)


def test_its_verdicts_are_unknown_and_say_why(load: tuple[Lab, Load]) -> None:
    _, running = load
    running.cancel_token.cancel()
    result = running.result()

    assert result.outcome is Outcome.UNKNOWN
    for each in result.runs:
        assert each.summary.ok
        assert each.claims[Claim.CORRECTNESS] is each.claims[Claim.AVAILABILITY] is Outcome.UNKNOWN
        assert "Routing: not shown, revisions.json could not be saved: the control plane at " in each.sentence
        assert judge(each.folder).to_document() == each.to_document()


def test_a_driver_that_died_is_named_first(load: tuple[Lab, Load]) -> None:
    lab, running = load
    os.kill(processes_of(lab, "driver")[0].pid, signal.SIGKILL)
    with pytest.raises(UnitError, match="the driver ended with status -9"):
        running.result()

    folders: list[Path] = runs_in(lab.runs / "latest")
    assert len(folders) == len(TOPOLOGIES)
    for folder in folders:
        run = RunFolder(folder)
        assert (folder / RunFolder.history.name).exists()
        assert "the control plane at " in run.missing["revisions.json"]
        assert verify(run).known
