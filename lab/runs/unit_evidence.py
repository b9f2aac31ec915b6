"""Evidence that units give: nodes are probed during a run, and all model replicas are asked after it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from lab.checkers import ProbeAnswer
from lab.clock import lab_time_ns
from lab.history.arrivals import NOT_RECORDED, Arrival, ArrivalCoverage, Arrivals
from lab.history.questions import Question, Questions
from lab.links import target_of
from lab.roles import ROLES, role_of
from lab.topologies import TOPOLOGIES
from lab.transport import open_blocking_channel
from models.proto.control.v1 import resolver_pb2, resolver_pb2_grpc, stub_pb2, stub_pb2_grpc
from models.stub.journal_file import Received, read_lifetimes

if TYPE_CHECKING:
    from lab.history import Record
    from lab.load.plan import LoadPlan
    from lab.roles import Unit
    from lab.runs.folder import RunFolder
    from lab.runtime.state import LabState

EVERY_S = 0.1
"""Interval of a resolver's probes, seconds: ten requests a second, each without a payload."""

OTHERS_EVERY_S = 0.5
"""Interval in which the nodes that the requests do not ask are probed in turn: two requests a second altogether."""

# Copies are sent asynchronously: the last ones may be in flight when the last request is answered.
_SETTLED_WITHIN_S = 3.0
_ASK_AGAIN_S = 0.1
_ASK_TIMEOUT_S = 5.0
_ASKED_AT_ONCE = 8


@contextmanager
def probing(run: RunFolder, state: LabState, plan: LoadPlan, table: Mapping[str, Any]) -> Iterator[None]:
    """Asks units during a run: writes the nodes' answers to probes, and how many copies units dropped.

    Probed are all nodes that decide by the rules: the resolvers that the run's requests ask often, as their answers
    show late ones, the others seldom and once at the end, as a probe takes processor time from what is measured. The
    table says who may ask them.
    """
    stop = Event()
    own, others = probed(state.plan.units, plan, table)
    answers: list[ProbeAnswer] = []
    threads = [Thread(target=_probe, args=([node], EVERY_S, stop, answers), daemon=True) for node in own]
    threads.append(Thread(target=_probe, args=(others, OTHERS_EVERY_S, stop, answers), daemon=True))
    dropped_before = _dropped(state, plan)
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        with ThreadPoolExecutor(max_workers=_ASKED_AT_ONCE) as pool:
            list(pool.map(lambda node: _probe([node], 0, None, answers), others))
        if answers:
            run.probes = answers
        dropped = _dropped(state, plan)
        run.dropped = {unit: (dropped_before[unit], count) for unit, count in dropped.items()}


def _dropped(state: LabState, plan: LoadPlan) -> dict[str, int | None]:
    """Returns how many copies the units of a run's path have dropped since they were started."""
    topology = TOPOLOGIES[plan.topology]
    shared = [each for each in state.plan.units if each.pod not in state.spec.callers or each.pod == plan.caller]
    of_path = [each for each in shared if each.role in topology.between]
    return {each.name: count(each) for each in of_path if (count := ROLES[each.role].copies_dropped) is not None}


class Node(NamedTuple):
    """A unit that decides by the rules, how to ask it, and for whom: a caller that may use the use case."""

    unit: Unit
    decides: Callable[[grpc.Channel, str, str], Callable[[], int]]
    use_case: str
    caller: str


def probed(units: Iterable[Unit], plan: LoadPlan, table: Mapping[str, Any]) -> tuple[list[Node], list[Node]]:
    """The nodes that the requests of a plan ask for decisions, and all others that follow the rules of a table."""
    asks = TOPOLOGIES[plan.topology].asks
    first: dict[str, str] = {}
    for name, use_case in table.get("use_cases", {}).items():
        for caller in use_case["callers"]:
            first.setdefault(caller, name)
    own: list[Node] = []
    others: list[Node] = []
    for unit in units:
        role = role_of(unit)
        if role is None or (decides := role.decides) is None:
            continue
        if _serves(unit, plan.caller):
            asked = Node(unit, decides, plan.use_cases[0].name, plan.caller)
            (own if unit.role in asks else others).append(asked)
        elif unit.pod in first:
            others.append(Node(unit, decides, first[unit.pod], unit.pod))
    return own, others


def _serves(unit: Unit, caller: str) -> bool:
    return unit.pod in (caller, unit.name)


def units_on_path(units: Sequence[Unit], plan: LoadPlan) -> dict[str, list[str]]:
    """Names of the units that a run's requests may pass or ask, by role: those at the plan's addresses.

    A plan that goes through a relay has other addresses; then they are the caller's own units and the shared ones.
    """
    found = {}
    linked: dict[str, set[str]] = {}
    for link in units:
        if link.relay:
            linked.setdefault(target_of(link.name), set()).update((link.relay.inside, link.relay.outside))
    for role in TOPOLOGIES[plan.topology].roles:
        every = [each for each in units if each.role == role]
        own = [each for each in every if _serves(each, plan.caller)]
        there = set(plan.endpoints.by_role.get(role, ()))

        def at(some: Sequence[Unit], there: set[str] = there) -> list[Unit]:
            return [each for each in some if there & {each.port.inside, each.port.outside, *linked.get(each.name, ())}]

        found[role] = [each.name for each in at(own) or at(every) or own]
    return found


def _probe(nodes: Sequence[Node], every_s: float, stop: Event | None, answers: list[ProbeAnswer]) -> None:
    """Asks nodes in turn until it is stopped, or each once without such an event."""
    with ExitStack() as channels:
        asked: dict[str, Callable[[], int]] = {}
        for node in nodes if stop is None else itertools.cycle(nodes):
            if stop is not None and stop.wait(every_s):
                return
            name = node.unit.name
            if name not in asked:
                channel = channels.enter_context(open_blocking_channel(node.unit.address))
                asked[name] = node.decides(channel, node.use_case, node.caller)
            asked_ns = lab_time_ns()
            try:
                revision = asked[name]()
            except grpc.RpcError:
                continue  # it is down or refuses: that is no word about a revision
            answers.append(ProbeAnswer(name, asked_ns, lab_time_ns(), revision))


def arrivals_at(
    replicas: Iterable[Unit],
    records: Collection[Record],
    *,
    since_ns: int,
    file_of: Callable[[str], Path],
    gone: Iterable[str] = (),
) -> Arrivals:
    """Returns what the replicas received since then, once all copies have arrived and all requests have ended.

    It needs no caller's word. It waits 3 s at most. What a process of a replica received that has ended is read from
    the replica's file. A replica that answered a request, is gone, and has no file is listed as one that cannot be
    asked; one that keeps no more than its latest requests may have dropped some.

    Args:
        replicas: to be asked.
        records: of the run.
        since_ns: Unix nanoseconds.
        file_of: returns where a replica's file is, if it has one; see :mod:`models.stub.journal_file`.
        gone: names of replicas that have been removed since.
    """
    marked = {record.request_id: record.shadow for record in records if record.shadow}
    replicas = list(replicas)
    give_up = time.monotonic() + _SETTLED_WITHIN_S
    while True:
        heard, arrivals = _ask_all(replicas, since_ns)
        if _settled(marked, arrivals) or time.monotonic() >= give_up:
            break
        time.sleep(_ASK_AGAIN_S)
    for name in sorted({record.replica for record in records} - {"", *heard}):
        heard[name] = ArrivalCoverage(None, error="was no longer there when the run was over")
    for name in gone:
        heard.setdefault(name, ArrivalCoverage(None))
    for name, said in list(heard.items()):
        # Another process may have received requests before.
        if said.known_from_ns is None or said.began_ns > since_ns:
            heard[name], found = _kept(name, said, file_of(name), since_ns)
            arrivals += found
    return Arrivals(arrivals, heard)


def questions_at(resolvers: Sequence[Unit], *, since_ns: int) -> Questions:
    """Returns what resolvers were asked since then."""
    with ThreadPoolExecutor(max_workers=_ASKED_AT_ONCE) as pool:
        answers = list(pool.map(lambda unit: _asked(unit, since_ns), resolvers))
    known_from_ns = {unit.name: since for unit, (since, _) in zip(resolvers, answers, strict=True)}
    return Questions([question for _, questions in answers for question in questions], known_from_ns)


def _asked(resolver: Unit, since_ns: int) -> tuple[int | None, list[Question]]:
    asked: list[Question] = []
    known_from_ns = None
    with open_blocking_channel(resolver.address) as channel:
        journal = resolver_pb2_grpc.ResolverJournalStub(channel)
        request = resolver_pb2.QuestionsRequest(since_ns=since_ns)
        try:
            for response in journal.Questions(request, timeout=_ASK_TIMEOUT_S):
                known_from_ns = response.known_from_ns
                asked += [Question(each.request_id, resolver.name, each.asked_ns) for each in response.questions]
        except grpc.RpcError:
            return None, []
    return known_from_ns, asked


def _kept(name: str, said: ArrivalCoverage, file: Path, since_ns: int) -> tuple[ArrivalCoverage, list[Arrival]]:
    """Returns what is known with a replica's file of all its processes, and what the ended ones received."""
    before = [each for each in read_lifetimes(file, since_ns) if not said.began_ns or each.began_ns < said.began_ns]
    if not before:
        return said, []
    gaps: list[tuple[int, int | None]] = []
    known_ns, closed = before[0].known_from_ns, True
    if known_ns > max(since_ns, before[0].began_ns):
        gaps.append((since_ns, known_ns))
    for each in before:
        if not closed or each.known_from_ns > each.began_ns:
            gaps.append((known_ns, each.known_from_ns))
        known_ns, closed = each.until_ns, each.closed
    if said.known_from_ns is None:
        gaps += [] if closed else [(known_ns, None)]
    elif not closed or said.known_from_ns > said.began_ns:
        gaps.append((known_ns, said.known_from_ns))
    arrivals = [_arrival(name, each) for process in before for each in process.received]
    within = [each for each in gaps if each[1] is None or each[1] > max(since_ns, each[0])]
    return said._replace(known_from_ns=before[0].known_from_ns, error="", gaps=within), arrivals


def _arrival(replica: str, received: Received) -> Arrival:
    """A request as a replica's file has it."""
    fields = received.arrival._asdict()
    receipt, values = fields.pop("receipt"), fields.pop("values")
    del fields["form"]
    return Arrival(
        replica=replica,
        received=receipt.hex(),
        ended_ns=received.ended_ns,
        status=received.status,
        headers=received.headers or NOT_RECORDED,
        values=values.hex(),
        **fields,
    )


def _settled(marked: Mapping[str, str], arrivals: Sequence[Arrival]) -> bool:
    copies = {(each.request_id, each.routing_key) for each in arrivals if each.is_copy}
    return copies.issuperset(marked.items()) and all(each.ended_ns for each in arrivals)


def _ask_all(replicas: Sequence[Unit], since_ns: int) -> tuple[dict[str, ArrivalCoverage], list[Arrival]]:
    with ThreadPoolExecutor(max_workers=_ASKED_AT_ONCE) as pool:
        answers = list(pool.map(lambda replica: _ask(replica, since_ns), replicas))
    heard = {replica.name: each for replica, (each, _) in zip(replicas, answers, strict=True)}
    return heard, [arrival for _, arrivals in answers for arrival in arrivals]


def _headers(response: stub_pb2.ArrivalsResponse, arrival: stub_pb2.Arrival) -> str:
    return next(iter(response.forms[arrival.form : arrival.form + 1]), "") or NOT_RECORDED


def _ask(replica: Unit, since_ns: int) -> tuple[ArrivalCoverage, list[Arrival]]:
    arrivals: list[Arrival] = []
    heard = ArrivalCoverage(None, error="gave no answer")
    with open_blocking_channel(replica.address) as channel:
        request = stub_pb2.ArrivalsRequest(since_ns=since_ns)
        try:
            for response in stub_pb2_grpc.StubControlStub(channel).Arrivals(request, timeout=_ASK_TIMEOUT_S):
                heard = ArrivalCoverage(max(response.known_from_ns, heard.known_from_ns or 0), response.began_ns)
                arrivals += [
                    Arrival(
                        each.request_id,
                        replica.name,
                        each.routing_key,
                        each.is_copy,
                        each.tenant,
                        each.received.hex(),
                        each.arrived_ns,
                        each.ended_ns,
                        each.status,
                        each.via,
                        each.remaining_ms,
                        _headers(response, each),
                        each.values.hex(),
                        each.answer,
                    )
                    for each in response.arrivals
                ]
        except grpc.RpcError as error:
            return ArrivalCoverage(None, error=f"cannot be asked: {error.details()}"), []
    return heard, arrivals
