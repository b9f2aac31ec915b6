"""Asks all model replicas, after a run, for the requests that they received: evidence that needs no caller's word.

``arrivals.parquet`` has them, those of other callers included, and says what each replica knew: one that was
killed has forgotten, and one that keeps no more than its latest requests may have dropped some.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from lab.history.arrivals import Arrival, ArrivalCoverage, write_arrivals
from lab.runs.folder import ARRIVALS
from lab.transport import open_blocking_channel
from models.proto.control.v1 import stub_pb2, stub_pb2_grpc

if TYPE_CHECKING:
    from lab.history import Record
    from lab.roles import Unit

# Copies are sent asynchronously: the last ones may be in flight when the last request is answered.
_SETTLED_WITHIN_S = 3.0
_ASK_AGAIN_S = 0.1
_ASK_TIMEOUT_S = 5.0
_ASKED_AT_ONCE = 8


def save_arrivals(folder: Path, replicas: Iterable[Unit], records: Collection[Record], *, since_ns: int) -> None:
    """Writes what the replicas received since then, once all copies have arrived and all requests have ended.

    It waits 3 s at most. A replica that answered a request and is gone by now is listed as one that cannot be asked.
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
    write_arrivals(folder / ARRIVALS, arrivals, heard)


def _settled(marked: Mapping[str, str], arrivals: Sequence[Arrival]) -> bool:
    copies = {(each.request_id, each.routing_key) for each in arrivals if each.is_copy}
    return copies.issuperset(marked.items()) and all(each.ended_ns for each in arrivals)


def _ask_all(replicas: Sequence[Unit], since_ns: int) -> tuple[dict[str, ArrivalCoverage], list[Arrival]]:
    with ThreadPoolExecutor(max_workers=_ASKED_AT_ONCE) as pool:
        answers = list(pool.map(lambda replica: _ask(replica, since_ns), replicas))
    heard = {replica.name: each for replica, (each, _) in zip(replicas, answers, strict=True)}
    return heard, [arrival for _, arrivals in answers for arrival in arrivals]


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
                    )
                    for each in response.arrivals
                ]
        except grpc.RpcError as error:
            return ArrivalCoverage(None, error=f"cannot be asked: {error.details()}"), []
    return heard, arrivals
