"""What a replica has received is in its file when the replica is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import pytest

from lab.clock import lab_time_ns
from models.stub import journal_file
from models.stub.journal import ArrivalJournal
from models.stub.journal_file import JournalFile, read_lifetimes
from tests.waiting import eventually


def begin(journal: ArrivalJournal, request_id: str) -> int:
    headers = [("x-request-id", request_id), ("via", "2 sidecar")]
    return journal.begin(request_id, "rows.v1", "kids", b"\1\2", False, "2 sidecar", 1.5, headers)  # noqa: FBT003


@pytest.fixture
def journal() -> ArrivalJournal:
    return ArrivalJournal(kept=100)


@pytest.fixture
def file(tmp_path: Path, journal: ArrivalJournal) -> Iterator[JournalFile]:
    with closing(JournalFile(tmp_path / "arrivals", journal)) as opened:
        yield opened


def test_a_killed_process_leaves_what_it_received_until_its_last_flush(
    tmp_path: Path, journal: ArrivalJournal, file: JournalFile
) -> None:
    first, second = begin(journal, "r1"), begin(journal, "r2")
    journal.end(first, grpc.StatusCode.OK)
    file.flush()
    journal.end(second, grpc.StatusCode.UNAVAILABLE)
    begin(journal, "r3")
    file.flush()
    begin(journal, "lost")

    [lifetime] = read_lifetimes(tmp_path / "arrivals", 0)
    kept = [(each.arrival, each.ended_ns, each.status) for each in lifetime.received]
    assert kept == journal.since(0)[:3]
    assert [status for _, _, status in kept] == ["OK", "UNAVAILABLE", ""]
    assert (lifetime.began_ns, lifetime.known_from_ns) == (journal.began_ns, journal.began_ns)
    assert lifetime.received[-1].arrival.arrived_ns <= lifetime.until_ns
    assert not lifetime.closed

    [lifetime] = read_lifetimes(tmp_path / "arrivals", lifetime.received[1].arrival.arrived_ns)
    assert [each.arrival.request_id for each in lifetime.received] == ["r2", "r3"]


async def test_a_process_that_ends_by_itself_says_so(
    tmp_path: Path, journal: ArrivalJournal, file: JournalFile
) -> None:
    async with file.running():
        begin(journal, "r1")

    [lifetime] = read_lifetimes(tmp_path / "arrivals", 0)
    assert [each.arrival.request_id for each in lifetime.received] == ["r1"]
    assert lifetime.closed


async def test_it_is_flushed_soon_after_an_arrival_also_when_it_was_idle(
    tmp_path: Path, journal: ArrivalJournal, file: JournalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_file, "IDLE_S", 3_600.0)

    def received() -> list[str]:
        return [each.arrival.request_id for one in read_lifetimes(tmp_path / "arrivals", 0) for each in one.received]

    async with file.running():
        for request_id in ("r1", "r2"):
            await eventually("the file is idle", lambda: journal.wake is not None)
            journal.end(begin(journal, request_id), grpc.StatusCode.OK)
            await eventually("the arrival is in the file", lambda: request_id in received())  # noqa: B023 (awaited at once)


async def test_flushes_of_a_busy_replica_do_not_wake_its_event_loop(
    tmp_path: Path, journal: ArrivalJournal, file: JournalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hand-over between threads costs as much as what a flush writes."""
    monkeypatch.setattr(journal_file, "FLUSH_S", 0.02)
    loop, woken = asyncio.get_running_loop(), list[object]()
    wake = loop.call_soon_threadsafe

    def noted(*what: Any, **context: Any) -> asyncio.Handle:
        woken.append(what)
        return wake(*what, **context)

    def flushed() -> int:
        journal.end(begin(journal, "r1"), grpc.StatusCode.OK)
        return sum(len(each.received) for each in read_lifetimes(tmp_path / "arrivals", 0))

    monkeypatch.setattr(loop, "call_soon_threadsafe", noted)
    async with file.running():
        await eventually("many are in the file", flushed, until=lambda count: count > 50)
    assert woken == []


@pytest.mark.parametrize("step", ["begin", "end"])
def test_nothing_is_missing_from_a_flush_that_comes_in_between(
    step: str, tmp_path: Path, journal: ArrivalJournal, file: JournalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread flushes right after a request's begin or end took the time, and before that is entered."""
    number = begin(journal, "r1") if step == "end" else 0
    flush = Thread(target=file.flush)

    def flushed_right_after() -> int:
        now_ns = lab_time_ns()
        flush.start()
        flush.join(0.2)  # it may not end now
        return now_ns

    with monkeypatch.context() as patch:
        patch.setattr("models.stub.journal.lab_time_ns", flushed_right_after)
        if step == "begin":
            begin(journal, "r1")
        else:
            journal.end(number, grpc.StatusCode.OK)
    flush.join()

    [lifetime] = read_lifetimes(tmp_path / "arrivals", 0)
    [(arrival, ended_ns, _)] = journal.since(0)
    assert max(arrival.arrived_ns, ended_ns) <= lifetime.until_ns
    assert [(each.arrival, each.ended_ns) for each in lifetime.received] == [(arrival, ended_ns)]


def test_the_next_process_appends_also_behind_a_torn_row(
    tmp_path: Path, journal: ArrivalJournal, file: JournalFile
) -> None:
    path = tmp_path / "arrivals"
    begin(journal, "r1")
    file.flush()
    begin(journal, "torn")
    file.flush()
    path.write_bytes(path.read_bytes()[:-40])
    following = ArrivalJournal()
    begin(following, "r2")
    with closing(JournalFile(path, following)) as its_file:
        its_file.flush()

    lifetimes = read_lifetimes(path, 0)
    assert [[each.arrival.request_id for each in one.received] for one in lifetimes] == [["r1"], ["r2"]]
    assert lifetimes[0].until_ns <= lifetimes[1].began_ns


def test_a_file_that_is_full_is_kept_beside_the_next_one_and_reads_as_one(
    tmp_path: Path, journal: ArrivalJournal, file: JournalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_file, "MOST_BYTES", 10)
    for number in range(2):
        ends_later = begin(journal, f"r{number}")
        file.flush()
        journal.end(ends_later, grpc.StatusCode.OK)
    file.flush()

    [lifetime] = read_lifetimes(tmp_path / "arrivals", 0)
    assert lifetime.known_from_ns > journal.began_ns  # the first is dropped
    assert [(each.arrival.request_id, each.status) for each in lifetime.received] == [("r1", "OK")]


def test_what_a_full_disk_did_not_take_is_known_to_be_missing(
    tmp_path: Path, journal: ArrivalJournal, file: JournalFile
) -> None:
    path = tmp_path / "arrivals"
    path.mkdir()  # nothing can be written to it
    begin(journal, "lost")
    file.flush()
    path.rmdir()
    begin(journal, "r1")
    file.flush()

    [lifetime] = read_lifetimes(path, 0)
    assert [each.arrival.request_id for each in lifetime.received] == ["r1"]
    assert lifetime.known_from_ns > journal.began_ns


def test_a_replica_without_a_file_has_written_nothing(tmp_path: Path) -> None:
    assert read_lifetimes(tmp_path / "arrivals", 0) == []
