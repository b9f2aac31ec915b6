"""Steps that many scenarios take."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from lab.checkers import Claim, Outcome
from lab.checkers.kinds.driver import RATE_TOLERANCE, rates
from lab.clock import lab_time_ns
from lab.errors import CallError
from lab.history import UNSENT, read_columns, read_parquet
from lab.lab import Lab
from lab.roles import CONTROL_PLANE
from lab.routing.document import read_path
from lab.runs import LoadOptions, background_load
from lab.runs.events import lab_events
from lab.runs.folder import HISTORY
from lab.runtime.cancellation import CancelToken
from lab.transport import ChannelCache, open_blocking_channel
from lab.waiting import eventually
from models.proto.control.v1 import stub_pb2, stub_pb2_grpc
from scenarios.entry import asked_runtime
from scenarios.framework.verdicts import LateError, UnknownError

if TYPE_CHECKING:
    import pytest

    from lab.client.admin_values import ControlPlaneStatus
    from lab.faults import Fault
    from lab.history import Record
    from lab.runs import RunResult

AT_MOST_S = 20.0
"""Maximum duration, in seconds, of a load that ends with its scenario."""

AFTERWARDS = timedelta(seconds=0.5)
"""How long load continues after the body, so that the effect of its last step is seen.

A scenario waits itself for effects that take longer, e.g. by :func:`await_requests`.
"""

FOUND_AGAIN_WITHIN = timedelta(seconds=1)
"""Two reconnects of a client, each after half a second at most (see lab.transport)."""

CONNECTED_WITHIN = timedelta(seconds=10)
SOME_REQUESTS = 10
GONE_WITHIN = timedelta(seconds=5)
# A version stays loaded for the use case's timeout and a second, for requests in flight.
UNLOADED_WITHIN = timedelta(seconds=15)
NOTICED_WITHIN_NS = 250_000_000

LEASE_TTL, LEASE_MAX_STALE = timedelta(seconds=0.5), timedelta(seconds=2)
"""How long callers of the small lab may reuse a decision, and how long without a resolver."""

USE_CASE = "ContinueWatchingRanking"
PHONES = {"device": ("phone",)}
"""Contexts of requests that the default version answers, ``cw-ranker@v1`` on ``ml-cluster-1``."""

_CHANNELS = ChannelCache()


def load_on(topology: str, rate: float, **options: Any) -> LoadOptions:
    """Load of the homepage on :data:`USE_CASE` until its scenario ends, unless ``options`` say otherwise."""
    ours = {"caller": "homepage", "use_cases": (USE_CASE,), "duration_s": AT_MOST_S, **options}
    return LoadOptions(topology=topology, rate=rate, **ours)


def table_with(routes: Path, folder: Path, **settings: Any) -> Path:
    """The default route table with further settings of :data:`USE_CASE`, written into a folder."""
    document = read_path(routes).document
    document["use_cases"][USE_CASE].update(settings)
    path = folder / "changed.yaml"
    path.write_text(json.dumps(document))
    return path


@contextmanager
def own_lab(config: pytest.Config, folder: Path, spec: str, routes: str) -> Iterator[Lab]:
    """Brings up a lab of the scenario's own in an empty folder, on the session's runtime, for as long as the block."""
    (folder / "routes.yaml").write_text(routes)
    (folder / "lab.toml").write_text(spec)
    lab = Lab(f"own-{secrets.token_hex(3)}", home=folder)
    try:
        lab.up(spec=folder / "lab.toml", runtime=asked_runtime(config))
        yield lab
    finally:
        lab.down()


@contextmanager
def under_load(lab: Lab, options: LoadOptions) -> Iterator[Future[RunResult]]:
    """Drives load until :data:`AFTERWARDS` after the body; the body begins once requests are being answered.

    The options' duration bounds the whole, see :data:`AT_MOST_S`.

    Raises:
        UnknownError: the load ended before the body did, so that no request saw the end of it.
    """
    with under_loads(lab, options) as (run,):
        yield run


@contextmanager
def under_loads(lab: Lab, *options: LoadOptions) -> Iterator[list[Future[RunResult]]]:
    """Drives several loads at once; see :func:`under_load`."""
    cancel_token = CancelToken()
    with ExitStack() as stack:
        try:
            load = partial(lab.load, cancel_token=cancel_token)
            runs = [stack.enter_context(background_load(load, each))[0] for each in options]
            yield runs
            over = [f"{each.duration_s:g} s" for run, each in zip(runs, options, strict=True) if _is_over(run)]
            if over:
                raise UnknownError(f"the load ended before the scenario did: give more than {' and '.join(over)}")
            wait(runs, timeout=AFTERWARDS.total_seconds())
        finally:
            cancel_token.cancel()


def _is_over(run: Future[RunResult]) -> bool:
    return run.done() and run.exception() is None


def known(lab: Lab) -> ControlPlaneStatus:
    """The control plane's status, once it answers; a missing answer tells nothing about nodes and replicas.

    Raises:
        DeadlineError: it does not answer in time.
    """
    answer = eventually("the control plane answers", lab.control_plane_status, within=CONNECTED_WITHIN)
    assert answer is not None
    return answer


def connected(lab: Lab) -> set[str]:
    """Names of the nodes that are connected to the control plane."""
    return _nodes(known(lab))


def _nodes(status: ControlPlaneStatus) -> set[str]:
    return {node.node for node in status.nodes}


def held(lab: Lab) -> set[int]:
    """The revisions that nodes have acknowledged."""
    return {node.acked_revision for node in known(lab).nodes}


def registered(lab: Lab) -> set[str]:
    """Names of the registered model replicas that have loaded a version."""
    return {replica.replica for replica in known(lab).replicas if replica.loaded}


def clusters_with(lab: Lab, key: str) -> set[str]:
    """Clusters of which a replica holds a version; each keeps it for a while after it has moved away."""
    return {each.replica.rpartition("-")[0] for each in known(lab).replicas if key in each.loaded}


def await_unloaded(lab: Lab, cluster: str, key: str) -> None:
    """Returns once no replica of a cluster holds a version."""
    eventually(f"{cluster} unloads {key}", lambda: cluster not in clusters_with(lab, key), within=UNLOADED_WITHIN)


def is_gone(lab: Lab, unit: str) -> bool:
    """Whether a unit does not run and the control plane no longer lists it."""
    status = lab.status()
    if any(each.state == "running" for each in status.units if each.name == unit):
        return False
    answer = status.control_plane
    if answer is None:
        return unit == CONTROL_PLANE
    return unit not in _nodes(answer) | {each.replica for each in answer.replicas}


def is_answered(lab: Lab, topology: str, caller: str, use_case: str = USE_CASE) -> bool:
    """Whether a model answers a caller over a topology; UNAVAILABLE and DEADLINE_EXCEEDED count as no.

    Raises:
        CallError: the call failed with another status.
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
    """Returns once the control plane answers and each of these nodes is connected to it."""
    eventually(
        "all nodes are connected again",
        lambda: nodes - _nodes(answer) if (answer := lab.control_plane_status()) else nodes,
        within=CONNECTED_WITHIN,
        until=lambda missing: not missing,
    )


def set_behaviour(lab: Lab, behaviour: stub_pb2.Behaviour, clusters: str = "") -> None:
    """Sets the behaviour of all stub models whose cluster's name begins with ``clusters``."""
    for unit in lab.status().units:
        if unit.role == "model" and unit.name.startswith(clusters):
            with open_blocking_channel(unit.address) as channel:
                stub_pb2_grpc.StubControlStub(channel).SetBehaviour(behaviour, timeout=5)


def arrived(lab: Lab, target: str) -> int:
    """Requests that a replica, or a cluster's replicas, have received so far, without shadow copies."""
    there = [unit for unit in lab.status().units if unit.role == "model" and unit.name.startswith(target)]
    return sum(_requests(unit.address) for unit in there)


def await_requests(lab: Lab, replica: str) -> None:
    """Returns once a replica has received :data:`SOME_REQUESTS` more requests."""
    before = arrived(lab, replica)
    eventually(
        f"{replica} gets requests", lambda: arrived(lab, replica) - before >= SOME_REQUESTS, within=CONNECTED_WITHIN
    )


def _requests(address: str) -> int:
    def ask(channel: grpc.Channel, within_s: float) -> stub_pb2.Counts:
        return stub_pb2_grpc.StubControlStub(channel).GetCounts(stub_pb2.GetCountsRequest(), timeout=within_s)

    return int(_CHANNELS.call(address, ask, timeout_s=5).requests)


def assert_all_answered_rightly(result: RunResult) -> None:
    """Requires correctness and availability: every request that came due was answered by a version that rules allow.

    Raises:
        UnknownError: there is no evidence against it, but too little for it.
    """
    summary = result.summary
    by_outcome: dict[str, list[str]] = {}
    for verdict in result.verdicts:
        # A driver that was stopped has requests left unsent by design.
        stopped = verdict.checker == "accounting" and verdict.outcome == "unknown" and UNSENT in summary.by_status
        if verdict.claim is not Claim.TIMING and not stopped:
            first = f"; first: {verdict.violations[0].message}" if verdict.violations else ""
            by_outcome.setdefault(str(verdict.outcome), []).append(f"{verdict.checker}: {verdict.summary}{first}")
    invalid = by_outcome.get("invalid", [])
    assert not invalid, f"{'; '.join(invalid)}\n{result.folder}"
    wrong = {
        "failed": summary.failed,
        "missing": summary.missing,
        "misrouted": result.misrouted,
        "torn": result.torn,
    }
    counts = ", ".join(f"{count} {name}" for name, count in wrong.items() if count)
    assert not counts, f"{counts} of {summary.planned}: {summary.by_status}\n{result.folder}"
    if unknown := by_outcome.get("unknown"):
        raise UnknownError(f"{'; '.join(unknown)}\n{result.folder}")
    if not summary.ok:
        raise UnknownError(f"nothing was sent\n{result.folder}")


def assert_no_wrong_answer(result: RunResult) -> None:
    """Requires that nothing speaks against correctness; requests may have failed."""
    wrong = [
        f"{verdict.checker}: {verdict.summary}"
        for verdict in result.verdicts
        if verdict.claim is Claim.CORRECTNESS and verdict.outcome is Outcome.INVALID
    ]
    assert not wrong, f"{'; '.join(wrong)}\n{result.folder}"


def is_on_time(result: RunResult) -> bool:
    """Whether requests were sent when they were due, so that latencies can be trusted."""
    return result.claims[Claim.TIMING] is Outcome.VALID


def assert_rate_was_kept(result: RunResult, *, behind: str = "") -> None:
    """Requires of timing what a scenario claims that names a rate: requests were sent as often as they were due.

    Comes after all that the scenario claims of answers. How late single requests were sent does not matter.

    Args:
        result: of the load.
        behind: what else was not done at the rate that the scenario names; empty if all was.

    Raises:
        LateError: the driver missed the rate, or ``behind`` is not empty.
    """
    assert_no_wrong_answer(result)
    if behind:
        raise LateError(behind)
    due, achieved = rates(read_parquet(result.folder / HISTORY))
    if due is None or achieved is None or abs(achieved - due) > RATE_TOLERANCE * due:
        raise LateError(f"requests were due at {due or 0:.1f} rps and sent at {achieved or 0:.1f}\n{result.folder}")


@dataclass(slots=True)
class Cut:
    """The interval, in Unix nanoseconds, in which something was killed."""

    from_ns: int = 0
    until_ns: int = 0


def cut_by(lab: Lab, fault: Fault) -> Cut:
    """The interval of a fault's events on its units, without the time to choose and observe them."""
    record = fault.record
    events = [each for each in lab_events(lab.folder) if each.from_ns >= record.injected_ns]
    hits = [each for each in events if each.target in record.units]
    return Cut(from_ns=hits[0].from_ns, until_ns=hits[len(record.units) - 1].until_ns)


@contextmanager
def cutting() -> Iterator[Cut]:
    """Measures the interval of a body that kills something."""
    cut = Cut(from_ns=lab_time_ns())
    yield cut
    cut.until_ns = lab_time_ns()


def records_of(result: RunResult) -> list[Record]:
    """Records of all requests of a run that were sent."""
    return [each for each in read_parquet(result.folder / HISTORY) if each.status != UNSENT]


def seen_by(result: RunResult, field: str) -> set[str]:
    """Distinct values of one field of those records; a hundred times as fast as reading records."""
    columns = read_columns(result.folder / HISTORY, {field, "status"})
    numbers, words = columns.words(field)
    return {words[number] for number in set(numbers[~columns.is_word("status", UNSENT)].tolist())}


def statuses_of(result: RunResult) -> set[str]:
    """Distinct statuses of those records."""
    return result.summary.by_status.keys() - {UNSENT}


def assert_only_the_cut_off_failed(result: RunResult, cut: Cut) -> None:
    """Only requests failed that were in flight at the cut, or were sent before it could be noticed."""
    noticed_ns = cut.until_ns + NOTICED_WITHIN_NS
    records = records_of(result)
    failed = [record for record in records if record.status != "OK"]
    at_risk = [record for record in records if record.sent_ns <= noticed_ns and record.done_ns >= cut.from_ns]
    late = [(record.sequence, record.status) for record in failed if record.sent_ns > noticed_ns]
    assert late == [], f"these were sent after the dead unit should have left rotation\n{result.folder}"
    # One of two replicas was cut off, so not every request in flight can have been with it.
    assert len(failed) < max(2, len(at_risk)), f"{result.summary.by_status}\n{result.folder}"


def verdict_of(result: RunResult, checker: str) -> Outcome:
    """One checker's outcome."""
    return next(verdict.outcome for verdict in result.verdicts if verdict.checker == checker)
