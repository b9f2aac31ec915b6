"""Replicas are asked for what they received: what of their answers makes evidence, and what does not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from time import time_ns
from typing import Any, Protocol

import grpc
import pyarrow.parquet as pq
import pytest

from lab.checkers import ArrivalGap, FaultWindow, Registration, Registrations
from lab.errors import RunError
from lab.history import Record
from lab.history.arrivals import NO_TIME_RECORDED, NOT_RECORDED, Arrival, ArrivalCoverage, Arrivals
from lab.history.record import FIELD_TYPES, FIELDS
from lab.roles import Port, Unit
from lab.runs import unit_evidence
from lab.runs.evidence import gaps_in
from lab.runs.folder import RunFolder
from lab.runs.unit_evidence import arrivals_at
from lab.transport import listen, new_server
from models.proto.control.v1 import stub_pb2, stub_pb2_grpc
from models.stub.journal import ArrivalJournal
from models.stub.journal_file import JournalFile

KEY = "rows.v2"
BLANK = {name: kind() for name, kind in zip(FIELDS, FIELD_TYPES, strict=True)}
NOWHERE = Unit("rows-b", "model", (), Port("127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:1"))
FROM_NS = 1_000
ARRIVALS = RunFolder.arrivals.name


def record(request_id: str, shadow: str = KEY, replica: str = "") -> Record:
    return Record(**BLANK | {"request_id": request_id, "shadow": shadow, "replica": replica})


def copy_of(request_id: str, status: str = "OK") -> stub_pb2.Arrival:
    return stub_pb2.Arrival(
        request_id=request_id,
        routing_key=KEY,
        is_copy=True,
        received=b"\1",
        arrived_ns=5,
        ended_ns=7,
        status=status,
        via="2 sidecar",
        remaining_ms=250,
        form=1,
        values=b"\0\0\0\1",
    )


class Replica(stub_pb2_grpc.StubControlServicer):
    """Has received what it is given, and more each time that it is asked."""

    def __init__(self, *received: list[Any]) -> None:
        self._received = list(received)

    async def Arrivals(  # noqa: N802
        self, request: stub_pb2.ArrivalsRequest, context: Any
    ) -> AsyncIterator[stub_pb2.ArrivalsResponse]:
        del request, context
        arrivals = self._received.pop(0) if len(self._received) > 1 else self._received[0]
        for each in arrivals:
            if isinstance(each, stub_pb2.ArrivalsResponse):
                yield each
            else:
                yield stub_pb2.ArrivalsResponse(known_from_ns=3, began_ns=2, forms=["", "via"], arrivals=[each])


class Start(Protocol):
    """Starts a replica that has received this, each list once."""

    async def __call__(self, *received: list[Any]) -> Unit: ...


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def start_one(*received: list[Any]) -> Unit:
            # gRPC answers for the methods that are not there.
            replica = Replica(*received)  # type: ignore[abstract]
            server, _ = new_server()
            stub_pb2_grpc.add_StubControlServicer_to_server(replica, server)
            address = f"127.0.0.1:{listen(server, '127.0.0.1:0')}"
            await server.start()
            stack.push_async_callback(server.stop, 0)
            return Unit("rows-a", "model", (), Port(address, address, address))

        yield start_one


def files_in(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


async def saved(folder: Path, units: list[Unit], *records: Record, since_ns: int = 0) -> Arrivals:
    """What is kept of replicas that have their files in a folder, each by its name."""
    run, gone = RunFolder(folder), files_in(folder)
    run.arrivals = await asyncio.to_thread(
        arrivals_at, units, records, since_ns=since_ns, file_of=folder.joinpath, gone=gone
    )
    return RunFolder(folder).arrivals or Arrivals([], {})


async def test_all_that_a_replica_received_is_kept_with_what_it_can_say(start: Start, tmp_path: Path) -> None:
    arrivals, heard = await saved(tmp_path, [await start([copy_of("r1"), copy_of("r1")])], record("r1"))

    arrival = Arrival("r1", "rows-a", KEY, True, "", "01", 5, 7, "OK", "2 sidecar", 250, "via", "00000001", "")  # noqa: FBT003 (values in order)
    assert arrivals == [arrival, arrival]
    assert heard == {"rows-a": ArrivalCoverage(3, 2)}


async def test_what_an_earlier_release_has_saved_says_nothing_of_the_path(start: Start, tmp_path: Path) -> None:
    await saved(tmp_path, [await start([copy_of("r1")])], record("r1"))
    run = RunFolder(tmp_path)
    table = pq.read_table(tmp_path / ARRIVALS)
    pq.write_table(table.drop_columns(["via", "remaining_ms", "headers", "values"]), tmp_path / ARRIVALS)
    assert run.arrivals
    [found], _ = run.arrivals
    assert (found.status, found.via, found.headers) == ("OK", NOT_RECORDED, NOT_RECORDED)
    assert found.remaining_ms == NO_TIME_RECORDED

    pq.write_table(table.drop_columns(["status"]), tmp_path / ARRIVALS)
    with pytest.raises(RunError, match="no column status; write what replicas received again"):
        _ = run.arrivals


async def test_copies_that_are_still_under_way_are_waited_for(start: Start, tmp_path: Path) -> None:
    first, under_way = copy_of("r1"), copy_of("r2")
    under_way.ended_ns = 0
    unit = await start([first], [first, under_way], [first, copy_of("r2")])

    arrivals, _ = await saved(tmp_path, [unit], record("r1"), record("r2"))

    assert [(each.request_id, each.ended_ns) for each in arrivals] == [("r1", 7), ("r2", 7)]


async def test_a_replica_that_cannot_be_asked_is_named(start: Start, tmp_path: Path) -> None:
    _, heard = await saved(tmp_path, [await start([copy_of("r1")]), NOWHERE], record("r1", replica="rows-c"))

    assert [name for name, said in heard.items() if said.known_from_ns is not None] == ["rows-a"]
    assert heard["rows-b"].error.startswith("cannot be asked")
    assert "no longer there" in heard["rows-c"].error


def written(file: Path, request_id: str, *, closed: bool = False) -> ArrivalJournal:
    """A process of a replica receives a request, and is gone."""
    journal = ArrivalJournal()
    number = journal.begin(request_id, KEY, "kids", b"\1", False, "2 sidecar", 1.5, [("via", "2 sidecar")])  # noqa: FBT003
    journal.end(number, grpc.StatusCode.OK)
    with contextlib.closing(JournalFile(file, journal)) as its_file:
        its_file.flush(closed=closed)
    return journal


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for copies that will not come."""
    monkeypatch.setattr(unit_evidence, "_SETTLED_WITHIN_S", 0.1)


@pytest.mark.usefixtures("impatient")
async def test_what_a_killed_replica_received_is_read_from_its_file(tmp_path: Path) -> None:
    journal = written(tmp_path / "rows-b", "r1")
    [(arrival, ended_ns, _)] = journal.since(0)
    wanted = Arrival("r1", "rows-b", KEY, False, "kids", "01", arrival.arrived_ns, ended_ns, "OK", "2 sidecar")  # noqa: FBT003
    wanted = wanted._replace(remaining_ms=1_500, headers="via", values=arrival.values.hex(), answer="")

    arrivals, heard = await saved(tmp_path, [NOWHERE], record("r1", replica="rows-b"))

    assert arrivals == [wanted]
    [gap] = gaps_in(heard, [], FROM_NS)
    assert (gap.replica, gap.until_ns) == ("rows-b", None)
    assert gap.from_ns >= ended_ns
    assert "lost the last" in gap.reason


@pytest.mark.usefixtures("impatient")
async def test_a_replica_that_was_removed_and_ended_by_itself_hides_nothing(tmp_path: Path) -> None:
    written(tmp_path / "rows-c", "r1", closed=True)

    arrivals, heard = await saved(tmp_path, [], record("r1", replica="rows-c"))

    assert [each.request_id for each in arrivals] == ["r1"]
    assert gaps_in(heard, [], FROM_NS) == []


async def test_of_a_replica_that_was_started_again_only_the_time_between_is_unknown(
    start: Start, tmp_path: Path
) -> None:
    since_ns = time_ns()
    before = written(tmp_path / "rows-a", "r1")
    again = ArrivalJournal()
    response = stub_pb2.ArrivalsResponse(
        known_from_ns=again.began_ns, began_ns=again.began_ns, arrivals=[copy_of("r2")]
    )
    unit = await start([response])

    arrivals, heard = await saved(tmp_path, [unit], record("r1", replica="rows-a"), since_ns=since_ns)

    assert [each.request_id for each in arrivals] == ["r2", "r1"]
    [gap] = gaps_in(heard, [], since_ns)
    assert before.began_ns <= gap.from_ns <= again.began_ns == gap.until_ns


@pytest.mark.parametrize(
    ("said", "hit", "arrival_gaps"),
    [
        (ArrivalCoverage(None, error="gone"), "", ArrivalGap("rows-a", None, "gone")),
        (ArrivalCoverage(FROM_NS, 5), "", None),
        (ArrivalCoverage(2_000, 5), "", ArrivalGap("rows-a", 2_000, "has dropped what it received first")),
        (ArrivalCoverage(2_000, 2_000), "", None),  # it was started during the run, and there was none before it
        (
            ArrivalCoverage(2_000, 2_000),
            "rows-a",
            ArrivalGap("rows-a", 2_000, "has lost what it received before it was started again"),
        ),
        (ArrivalCoverage(2_000, 2_000), "rows-b", None),
    ],
)
def test_a_replica_that_lost_what_it_received_cannot_be_heard_about_it(
    said: ArrivalCoverage, hit: str, arrival_gaps: ArrivalGap | None
) -> None:
    events = [FaultWindow(f"{hit} killed", hit, 1_500, 2_000, kills=True)] if hit else []

    assert gaps_in({"rows-a": said}, events, FROM_NS) == ([arrival_gaps] if arrival_gaps else [])


def test_an_unmarked_restart_shows_by_the_registration_of_the_process_before() -> None:
    said = {"rows-a": ArrivalCoverage(2_000, 2_000)}
    before, after = Registration("rows", "rows-a", 10, 1_500), Registration("rows", "rows-a", 2_001, None)

    [gap] = gaps_in(said, [], FROM_NS, Registrations([before, after]))
    assert gap.until_ns == 2_000
    assert gaps_in(said, [], FROM_NS, Registrations([after])) == []
