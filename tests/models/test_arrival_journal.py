from __future__ import annotations

from typing import Any
from zlib import crc32

import grpc

from models.stub.journal import NO_DEADLINE, ArrivalJournal


def add(journal: ArrivalJournal, number: int, remaining_s: float | None = None, *headers: tuple[str, Any]) -> int:
    more = (remaining_s, headers)
    is_copy, via = number % 2 == 1, "2 sidecar, 2 ü"[: 9 * (number % 3)]
    return journal.begin(f"r{number}", "rows.v2", "kids", b"%d" % number, is_copy, via, *more)


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


def test_deadlines_and_digests_of_headers_are_kept() -> None:
    journal = ArrivalJournal()
    add(journal, 0, 0.25, ("x-request-id", "r0"), ("via", "2 a"), ("trace-bin", b"\xff"), ("via", "2 b"))
    add(journal, 1, None, ("trace-bin", b"\xff"), ("via", "2 a"), ("via", "2 b"), ("x-request-id", "r1"))

    (first, *_), (second, *_) = journal.since(0)

    assert [each.remaining_ms for each in (first, second)] == [250, NO_DEADLINE]
    assert {journal.forms[each.form] for each in (first, second)} == {"trace-bin via via x-request-id"}
    values = [b"\xff", b"2 a", b"2 b"]
    for each, own in ((first, b"r0"), (second, b"r1")):
        assert each.values == b"".join(crc32(value).to_bytes(4, "big") for value in (*values, own))


def test_a_header_over_rest_may_be_no_utf_8() -> None:
    journal = ArrivalJournal()
    add(journal, 0, None, ("x-any", b"\xff".decode("utf-8", "surrogateescape")))
    [(arrival, *_)] = journal.since(0)

    assert journal.forms[arrival.form] == "x-any"


def test_forms_of_headers_that_are_too_many_are_not_kept() -> None:
    journal = ArrivalJournal()
    for number in range(1_000):
        add(journal, number, None, (f"x-{number}", ""))
    add(journal, 1_000, None, *[("x-0", "")] * 100)

    assert len(journal.forms) < 1_000
    assert [(journal.forms[each.form], each.values) for each, _, _ in journal.since(0)[-2:]] == [("", b"")] * 2
