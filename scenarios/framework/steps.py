"""Steps that many scenarios take."""

from __future__ import annotations

import secrets
import time
from concurrent.futures import wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import grpc

from lab.errors import CallError
from lab.history import UNSENT, read_columns, read_parquet
from lab.lab import Lab
from lab.plan.control_planes import CONTROL_PLANE
from lab.runs import LoadOptions, background_load
from lab.runs.events import read_acts
from lab.runs.folder import HISTORY
from lab.runtime.cancellation import Breaking
from lab.transport import ChannelCache, open_blocking_channel
from lab.waiting import eventually
from models.proto.control.v1 import stub_pb2, stub_pb2_grpc
from scenarios.framework.verdicts import UnknownError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

    import pytest

    from lab.admin import ControlPlaneStatus
    from lab.checkers import Outcome
    from lab.faults import Fault
    from lab.history import Record
    from lab.runs import LoadOptions, RunResult

AT_MOST_S = 20.0
"""How long load may go on for that ends when a scenario does, seconds."""

AFTERWARDS = timedelta(seconds=0.5)
"""For how long load goes on when all is done, so that somebody sees what the last of it did.

What takes longer to be seen a scenario waits for: :func:`await_requests`, say.
"""

FOUND_AGAIN_WITHIN = timedelta(seconds=1)
"""A client tries a lost connection again after half a second at most (see lab.transport), and that twice."""

CONNECTED_WITHIN = timedelta(seconds=10)
SOME_REQUESTS = 10
GONE_WITHIN = timedelta(seconds=5)
NOTICED_WITHIN_NS = 250_000_000

_CHANNELS = ChannelCache()


@contextmanager
def own_lab(config: pytest.Config, folder: Path, spec: str, routes: str) -> Iterator[Lab]:
    """A lab of its own, in an empty folder, for as long as the block; on the runtime that all are on."""
    (folder / "routes.yaml").write_text(routes)
    (folder / "lab.toml").write_text(spec)
    lab = Lab(f"own-{secrets.token_hex(3)}", home=folder)
    try:
        lab.up(spec=folder / "lab.toml", runtime=config.getoption("--runtime"))
        yield lab
    finally:
        lab.down()


@contextmanager
def under_load(lab: Lab, options: LoadOptions) -> Iterator[Future[RunResult]]:
    """Drives load until a moment after the body is over; the body runs once requests are being answered.

    The options say how long that may take at most, see :data:`AT_MOST_S`; the moment is :data:`AFTERWARDS`.

    Raises:
        UnknownError: the load was over before the body was, so that part of that was seen by nobody.
    """
    with under_loads(lab, options) as (run,):
        yield run


@contextmanager
def under_loads(lab: Lab, *options: LoadOptions) -> Iterator[list[Future[RunResult]]]:
    """As :func:`under_load`, with several at once."""
    breaking = Breaking()
    with ExitStack() as stack:
        try:
            load = partial(lab.load, breaking=breaking)
            runs = [stack.enter_context(background_load(load, each))[0] for each in options]
            yield runs
            over = [f"{each.duration_s:g} s" for run, each in zip(runs, options, strict=True) if _is_over(run)]
            if over:
                raise UnknownError(f"the load was over before the scenario was: give more than {' and '.join(over)}")
            wait(runs, timeout=AFTERWARDS.total_seconds())
        finally:
            breaking.off()


def _is_over(run: Future[RunResult]) -> bool:
    return run.done() and run.exception() is None


def known(lab: Lab) -> ControlPlaneStatus:
    """What the control plane knows, once it answers: that it does not says nothing of nodes and replicas.

    Raises:
        DeadlineError: it does not.
    """
    answer = eventually("the control plane answers", lab.known, within=CONNECTED_WITHIN)
    assert answer is not None
    return answer


def connected(lab: Lab) -> set[str]:
    """The nodes that the control plane holds a stream with."""
    return _nodes(known(lab))


def _nodes(status: ControlPlaneStatus) -> set[str]:
    return {node.node for node in status.nodes}


def held(lab: Lab) -> set[int]:
    """The revisions that nodes hold."""
    return {node.acked_revision for node in known(lab).nodes}


def registered(lab: Lab) -> set[str]:
    """The model replicas that the control plane knows of and that have loaded something."""
    return {replica.replica for replica in known(lab).replicas if replica.loaded}


def is_gone(lab: Lab, unit: str) -> bool:
    """Whether a dead unit is not only dead, but missed: it neither runs, nor answers, nor does anybody count on it."""
    status = lab.status()
    if any(each.state == "running" for each in status.units if each.name == unit):
        return False
    answer = status.control_plane
    if answer is None:
        return unit == CONTROL_PLANE
    return unit not in _nodes(answer) | {each.replica for each in answer.replicas}


def is_answered(lab: Lab, topology: str, caller: str, use_case: str = "ContinueWatchingRanking") -> bool:
    """Whether a model answers a caller this way; any failure but UNAVAILABLE and being late is an error.

    Raises:
        CallError: with another status.
    """
    try:
        lab.call(use_case, topology=topology, caller=caller, context={"user_id": "u1"})
    except CallError as error:
        if error.code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
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
        lambda: nodes - _nodes(answer) if (answer := lab.known()) else nodes,
        within=CONNECTED_WITHIN,
        until=lambda missing: not missing,
    )


def dial(lab: Lab, behaviour: stub_pb2.Behaviour, clusters: str = "") -> None:
    """Turns the knobs of all stub models whose cluster's name begins so."""
    for unit in lab.status().units:
        if unit.role == "model" and unit.name.startswith(clusters):
            with open_blocking_channel(unit.address) as channel:
                stub_pb2_grpc.StubControlStub(channel).SetBehaviour(behaviour, timeout=5)


def arrived(lab: Lab, target: str) -> int:
    """How many requests have come to a replica, or to those of a cluster, so far; copies for a shadow do not count."""
    there = [unit for unit in lab.status().units if unit.role == "model" and unit.name.startswith(target)]
    return sum(_requests(unit.address) for unit in there)


def await_requests(lab: Lab, replica: str) -> None:
    """Returns once a replica has got some of the load."""
    before = arrived(lab, replica)
    eventually(
        f"{replica} gets requests", lambda: arrived(lab, replica) - before >= SOME_REQUESTS, within=CONNECTED_WITHIN
    )


def _requests(address: str) -> int:
    def ask(channel: grpc.Channel, within_s: float) -> stub_pb2.Counts:
        return stub_pb2_grpc.StubControlStub(channel).GetCounts(stub_pb2.GetCountsRequest(), timeout=within_s)

    return int(_CHANNELS.call(address, ask, timeout_s=5).requests)


def assert_all_answered_rightly(result: RunResult) -> None:
    """Every request that came due was sent, answered, and by a version that the rules allow.

    Raises:
        UnknownError: nothing speaks against it, but there is too little evidence.
    """
    summary = result.summary
    by_outcome: dict[str, list[str]] = {}
    for verdict in result.verdicts:
        # Whether a driver that was told to end had more to send is for nobody here to know.
        told_to_end = verdict.checker == "accounting" and verdict.outcome == "unknown" and UNSENT in summary.by_status
        if verdict.checker != "driver" and not told_to_end:
            by_outcome.setdefault(str(verdict.outcome), []).append(f"{verdict.checker}: {verdict.summary}")
    invalid = by_outcome.get("invalid", [])
    assert not invalid, f"{'; '.join(invalid)}\n{result.folder}"
    wrong = {
        "failed": summary.failed,
        "missing": summary.missing,
        "misrouted": result.misrouted,
        "torn": result.torn,
    }
    told = ", ".join(f"{count} {name}" for name, count in wrong.items() if count)
    assert not told, f"{told} of {summary.planned}: {summary.by_status}\n{result.folder}"
    if unknown := by_outcome.get("unknown"):
        raise UnknownError(f"{'; '.join(unknown)}\n{result.folder}")
    if not summary.ok:
        raise UnknownError(f"nothing was sent\n{result.folder}")


@dataclass(slots=True)
class Cut:
    """When something was killed, Unix nanoseconds: between these two."""

    from_ns: int = 0
    until_ns: int = 0


def cut_by(lab: Lab, fault: Fault) -> Cut:
    """When a fault's acts on its units were done, by their marks: without what it took to choose and to see them."""
    record = fault.record
    acts = [act for act in read_acts(lab.folder) if act.from_ns >= record.injected_ns and act.target in record.units]
    return Cut(from_ns=acts[0].from_ns, until_ns=acts[len(record.units) - 1].until_ns)


@contextmanager
def cutting() -> Iterator[Cut]:
    """The body kills something."""
    cut = Cut(from_ns=time.time_ns())
    yield cut
    cut.until_ns = time.time_ns()


def records_of(result: RunResult) -> list[Record]:
    """Every request of a run that was sent."""
    return [each for each in read_parquet(result.folder / HISTORY) if each.status != UNSENT]


def seen_by(result: RunResult, field: str) -> set[str]:
    """What stands in one field of those records; a hundred times as fast."""
    columns = read_columns(result.folder / HISTORY, {field, "status"})
    numbers, words = columns.words(field)
    return {words[number] for number in set(numbers[~columns.is_word("status", UNSENT)].tolist())}


def statuses_of(result: RunResult) -> set[str]:
    """How those of them ended."""
    return result.summary.by_status.keys() - {UNSENT}


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
