from __future__ import annotations

import grpc

from models.stub.journal import ArrivalJournal


def add(journal: ArrivalJournal, number: int) -> int:
    is_copy, via = number % 2 == 1, "2 sidecar, 2 ü"[: 9 * (number % 3)]
    return journal.begin(f"r{number}", "rows.v2", "kids", b"%d" % number, is_copy, via)


def test_the_newest_are_kept_and_it_is_known_since_when() -> None:
    journal = ArrivalJournal(kept=2)
    began_ns = journal.known_from_ns
    numbers = [add(journal, 0), add(journal, 1)]
    assert journal.known_from_ns == began_ns == journal.began_ns

    numbers += [add(journal, number) for number in range(2, 5)]
    for number in numbers[:-1]:
        journal.end(number, grpc.StatusCode.INTERNAL)

    found = journal.since(0)
    assert [(each.request_id, each.tenant, each.receipt, each.is_copy, each.via) for each, _, _ in found] == [
        ("r3", "kids", b"3", True, ""),
        ("r4", "kids", b"4", False, "2 sidecar"),
    ]
    assert [(bool(ended_ns), status) for _, ended_ns, status in found] == [(True, "INTERNAL"), (False, "")]
    assert journal.known_from_ns == found[0][0].arrived_ns > began_ns


def test_only_later_ones_are_listed() -> None:
    journal = ArrivalJournal()
    journal.end(add(journal, 0), grpc.StatusCode.OK)
    journal.end(add(journal, 1), grpc.StatusCode.OK)
    [_, (second, ended_ns, status)] = journal.since(0)

    assert [each.request_id for each, _, _ in journal.since(second.arrived_ns)] == ["r1"]
    assert (ended_ns >= second.arrived_ns, status) == (True, "OK")
    assert journal.since(ended_ns + 1) == []


def test_a_journal_that_keeps_none_registers_none() -> None:
    journal = ArrivalJournal(kept=0)
    journal.end(add(journal, 0), grpc.StatusCode.OK)

    assert journal.since(0) == []
