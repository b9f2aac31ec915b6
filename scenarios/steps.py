"""Steps that many scenarios take."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import grpc

from lab.errors import CallError
from lab.history import read_parquet
from lab.runs import driven
from lab.transport import open_blocking_channel
from lab.units import CONTROL_PLANE
from lab.waiting import eventually
from models.proto.control.v1 import stub_pb2, stub_pb2_grpc
from scenarios.verdicts import UnknownError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from lab.checkers import Outcome
    from lab.history import Record
    from lab.lab import Lab
    from lab.runs import LoadOptions, RunResult

CONNECTED_WITHIN = timedelta(seconds=10)
GONE_WITHIN = timedelta(seconds=5)
NOTICED_WITHIN_NS = 250_000_000


@contextmanager
def under_load(lab: Lab, options: LoadOptions) -> Iterator[Future[RunResult]]:
    """Drives load for as long as the options say; the body runs once requests are being answered.

    Raises:
        UnknownError: it was over before the body was, so that part of that was seen by nobody.
    """
    with under_loads(lab, options) as (run,):
        yield run


@contextmanager
def under_loads(lab: Lab, *options: LoadOptions) -> Iterator[list[Future[RunResult]]]:
    """As :func:`under_load`, with several at once."""
    with ExitStack() as stack:
        runs = [stack.enter_context(driven(lab.load, each))[0] for each in options]
        yield runs
        over = [f"{each.duration_s:g} s" for run, each in zip(runs, options, strict=True) if _is_over(run)]
        if over:
            raise UnknownError(f"the load was over before the scenario was: give more than {' and '.join(over)}")


def _is_over(run: Future[RunResult]) -> bool:
    return run.done() and run.exception() is None


def connected(lab: Lab) -> set[str]:
    """The nodes that the control plane holds a stream with; none if it does not answer."""
    known = lab.status().control_plane
    return {node.node for node in known.nodes} if known else set()


def registered(lab: Lab) -> set[str]:
    """The model replicas that the control plane knows of and that have loaded something; none if it does not answer."""
    known = lab.status().control_plane
    return {replica.replica for replica in known.replicas if replica.loaded} if known else set()


def is_gone(lab: Lab, unit: str) -> bool:
    """Whether a dead unit is not only dead, but missed: it neither runs, nor answers, nor does anybody count on it."""
    status = lab.status()
    if any(each.state == "running" for each in status.units if each.name == unit):
        return False
    known = status.control_plane
    if known is None:
        return unit == CONTROL_PLANE
    return unit not in {node.node for node in known.nodes} | {each.replica for each in known.replicas}


def is_answered(lab: Lab, topology: str, caller: str) -> bool:
    """Whether a model answers a caller this way; UNAVAILABLE is no answer, and any other failure an error.

    Raises:
        CallError: with another status.
    """
    try:
        lab.call("ContinueWatchingRanking", topology=topology, caller=caller, context={"user_id": "u1"})
    except CallError as error:
        if error.code is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False
    return True


def moved_table(routes: Path, folder: Path) -> Path:
    """The default route table, written into a folder, with ``cw-ranker@v1`` on ``ml-cluster-5``."""
    text = routes.read_text()
    before = "v1: {cluster: ml-cluster-1}"
    assert before in text
    path = folder / "moved.yaml"
    path.write_text(text.replace(before, "v1: {cluster: ml-cluster-5}"))
    return path


def await_connected(lab: Lab, nodes: set[str]) -> None:
    """Returns once the control plane is there and holds a stream with each of these nodes again."""
    eventually(
        "all nodes are connected again",
        lambda: nodes - connected(lab),
        within=CONNECTED_WITHIN,
        until=lambda missing: not missing,
    )


def dial(lab: Lab, behaviour: stub_pb2.Behaviour, clusters: str = "") -> None:
    """Turns the knobs of all stub models whose cluster's name begins so."""
    for unit in lab.status().units:
        if unit.role == "model" and unit.name.startswith(clusters):
            with open_blocking_channel(unit.address) as channel:
                stub_pb2_grpc.StubControlStub(channel).SetBehaviour(behaviour, timeout=5)


def assert_all_answered_rightly(result: RunResult) -> None:
    """Every planned request was sent, answered, and by a version that the rules allow.

    Raises:
        UnknownError: nothing speaks against it, but there is too little evidence.
    """
    by_outcome: dict[str, list[str]] = {}
    for verdict in result.verdicts:
        if verdict.checker != "driver":
            by_outcome.setdefault(str(verdict.outcome), []).append(f"{verdict.checker}: {verdict.summary}")
    assert by_outcome.get("invalid", []) == [], result.folder
    assert (result.summary.failed, result.misrouted, result.torn) == (0, 0, 0), result.folder
    assert result.summary.ok == result.summary.planned, result.folder
    if unknown := by_outcome.get("unknown"):
        raise UnknownError(f"{'; '.join(unknown)}\n{result.folder}")


@dataclass(slots=True)
class Cut:
    """When something was killed, Unix nanoseconds: between these two."""

    from_ns: int = 0
    until_ns: int = 0


@contextmanager
def cutting() -> Iterator[Cut]:
    """The body kills something."""
    cut = Cut(from_ns=time.time_ns())
    yield cut
    cut.until_ns = time.time_ns()


def records_of(result: RunResult) -> list[Record]:
    """Every request of a run."""
    return read_parquet(result.folder / "history.parquet")


def assert_only_the_cut_off_failed(result: RunResult, cut: Cut) -> None:
    """What failed was under way when the cut came, or was sent before anybody could know of it."""
    nobody_knew_until = cut.until_ns + NOTICED_WITHIN_NS
    records = records_of(result)
    failed = [record for record in records if record.status != "OK"]
    at_risk = [record for record in records if record.sent_ns <= nobody_knew_until and record.done_ns >= cut.from_ns]
    late = [(record.sequence, record.status) for record in failed if record.sent_ns > nobody_knew_until]
    assert late == [], f"these were sent when the dead one should have been left alone\n{result.folder}"
    # One of two replicas was cut off: not everything that was under way can have been with it.
    assert len(failed) < max(2, len(at_risk)), f"{result.summary.by_status}\n{result.folder}"


def verdict_of(result: RunResult, checker: str) -> Outcome:
    """One checker's outcome."""
    return next(verdict.outcome for verdict in result.verdicts if verdict.checker == checker)
