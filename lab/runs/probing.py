"""Asks a run's resolvers while it goes on by which revision they answer: beside the control plane's word."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

import grpc

from lab.checkers import ProbeAnswer
from lab.errors import RunError
from lab.roles.resolver import SHARED_RESOLVER
from lab.runs.folder import MALFORMED, PROBES, read_json
from lab.topologies import TOPOLOGIES
from lab.transport import open_blocking_channel
from models.proto.control.v1 import resolver_pb2, resolver_pb2_grpc

if TYPE_CHECKING:
    from lab.load.plan import LoadPlan
    from lab.roles import Unit
    from lab.runtime.state import LabState

EVERY_S = 0.1
"""Interval of a resolver's probes, seconds: ten requests a second, each without a payload."""

_TIMEOUT_S = 1.0


@contextmanager
def probing(folder: Path, state: LabState, plan: LoadPlan) -> Iterator[None]:
    """Probes the resolver that the run's requests ask, and writes its answers into the run's folder.

    Nothing is written if none answered, nor where the topology asks no resolver: a probe would take processor time from
    what is measured, and each answer of a gateway in the history has its revision.
    """
    stop = Event()
    resolvers = probed(state.plan.units, plan.topology, plan.caller)
    answers: list[ProbeAnswer] = []
    threads = [Thread(target=_probe, args=(unit, plan, stop, answers), daemon=True) for unit in resolvers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        if answers:
            (folder / PROBES).write_text(json.dumps(answers))


def probed(units: Iterable[Unit], topology: str, caller: str) -> list[Unit]:
    """The resolvers that a caller's requests ask on a topology: its own, or the one that all share."""
    roles, pods = TOPOLOGIES[topology].asks, (SHARED_RESOLVER, caller)
    return [each for each in units if each.role in roles and each.pod in pods]


def probes_in(folder: Path) -> list[ProbeAnswer]:
    """Returns the answers to a run's probes.

    Raises:
        RunError: the file holds something else.
    """
    path = folder / PROBES
    if not path.exists():
        return []
    try:
        return [
            ProbeAnswer(str(unit), int(asked), int(answered), int(by)) for unit, asked, answered, by in read_json(path)
        ]
    except MALFORMED as error:
        raise RunError(f"{path}: no answers to probes ({error}); restore the file, or remove it") from error


def _probe(unit: Unit, plan: LoadPlan, stop: Event, answers: list[ProbeAnswer]) -> None:
    request = resolver_pb2.ResolveRequest(use_case=plan.use_cases[0].name)
    request.context.user_id, request.context.caller = "probe", plan.caller
    with open_blocking_channel(unit.address) as channel:
        resolve = resolver_pb2_grpc.ResolverStub(channel).Resolve
        while not stop.wait(EVERY_S):
            asked_ns = time.time_ns()
            try:
                decision = resolve(request, timeout=_TIMEOUT_S)
            except grpc.RpcError:
                continue  # it is down or refuses: that is no word about a revision
            answers.append(ProbeAnswer(unit.name, asked_ns, time.time_ns(), decision.revision))
