from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers import ArrivalGap, FaultWindow, RevisionInForce
from lab.checkers.kinds import shadow
from tests.checkers.builders import copies_of, make_evidence, make_record, make_table, obey

if TYPE_CHECKING:
    from lab.checkers import Evidence, Verdict
    from lab.checkers.verdict import TooFew
    from lab.history import Record

    Judge = Callable[..., Verdict | None]

KB, MB = 1024, 1024 * 1024
REQUESTS = 400


@pytest.fixture
def table() -> dict[str, Any]:
    """A copy of every other request goes to rows@v4, who answers nobody."""
    return make_table(shadow={"use": "rows@v4", "percent": 50})


@pytest.fixture
def records(table: dict[str, Any]) -> list[Record]:
    """Requests of four sizes by turns."""
    sizes = (400, 27 * KB, 500 * KB, 4 * MB)
    return [obey(table, number, payload_bytes=sizes[number % 4]) for number in range(REQUESTS)]


@pytest.fixture
def judge(table: dict[str, Any]) -> Judge:
    """Judges records; copies have arrived of all that are marked except for ``lost``, and of ``also``."""

    def judged(
        records: list[Record], *, lost: Iterable[str] = (), also: Iterable[str] = (), **settings: Any
    ) -> Verdict | None:
        ids = {record.request_id for record in records if record.shadow}
        copies = {"rows.v4": frozenset(ids - set(lost) | set(also))}
        evidence = make_evidence(records, revisions=[RevisionInForce(1, table, from_ns=0)], copies=copies_of(copies))
        return shadow.check(evidence, **settings)

    return judged


def test_a_copy_of_each_marked_request_and_of_no_other_is_valid(judge: Judge, records: list[Record]) -> None:
    verdict = judge(records)
    assert verdict is not None
    assert verdict.outcome == "valid"
    eligible = sum(bool(record.shadow) for record in records)
    assert 150 < eligible < 250
    shares = verdict.summary.removeprefix("copies of eligible requests: ").split(", ")
    assert [share.rsplit(" ", 2)[0] for share in shares] == [
        "up to 4 KB",
        "4 to 64 KB",
        "64 KB to 1 MB",
        "over 1 MB",
    ]
    assert all(share.endswith("(100.00%)") for share in shares)


@pytest.mark.parametrize("place", range(4))
def test_one_copy_lost_of_any_size_is_named(judge: Judge, records: list[Record], place: int) -> None:
    lost = next(record for record in records if record.shadow and record.sequence % 4 == place)
    verdict = judge(records, lost=[lost.request_id])
    assert verdict is not None
    [violation] = verdict.violations
    assert (violation.sequence, violation.request_id) == (lost.sequence, lost.request_id)
    assert violation.message == (
        f"no copy for rows.v4 arrived of request #{lost.sequence} ({lost.request_id}), "
        f"payload {lost.payload_bytes} bytes ({shadow.SIZES[place]})"
    )
    assert verdict.summary.count("(100.00%)") == 3


def test_the_bound_holds_for_each_size(judge: Judge, records: list[Record]) -> None:
    """Of the small ones one in 50 is lost, of those above 1 MB one in four."""
    large = [record.request_id for record in records if record.shadow and record.payload_bytes > MB]
    small = [record.request_id for record in records if record.shadow and record.payload_bytes < KB]
    lost = [*large[::4], small[0]]
    verdicts = [judge(records, lost=lost, least=least) for least in (0.5, 0.9, 1.0)]
    assert [verdict and len(verdict.violations) for verdict in verdicts] == [0, len(lost) - 1, len(lost)]
    assert [verdict and verdict.outcome for verdict in verdicts] == ["valid", "invalid", "invalid"]


def test_just_as_many_copies_as_the_bound_asks_for_are_enough(judge: Judge, records: list[Record]) -> None:
    small = [record for record in records if record.shadow and record.payload_bytes < KB][:20]
    lost = [record.request_id for record in small[:5]]
    verdicts = [judge(small, lost=lost, least=least) for least in (0.75, 0.751)]
    outcomes = [verdict.outcome for verdict in verdicts if verdict is not None]
    assert outcomes == ["valid", "invalid"]


@pytest.mark.parametrize(
    ("payload_bytes", "size"),
    [
        (0, "up to 4 KB"),
        (4 * KB, "up to 4 KB"),
        (4 * KB + 1, "4 to 64 KB"),
        (64 * KB, "4 to 64 KB"),
        (64 * KB + 1, "64 KB to 1 MB"),
        (MB, "64 KB to 1 MB"),
        (MB + 1, "over 1 MB"),
    ],
)
def test_sizes_end_with_their_bound(payload_bytes: int, size: str) -> None:
    assert shadow.size_of(make_record(0, payload_bytes=payload_bytes)) == size


def test_a_copy_of_a_request_that_was_not_drawn_is_wrong(judge: Judge, records: list[Record]) -> None:
    other = next(record for record in records if not record.shadow)
    verdict = judge(records, also=[other.request_id])
    assert verdict is not None
    [violation] = verdict.violations
    assert violation.message == (
        f"request #{other.sequence} ({other.request_id}): a copy for rows.v4 arrived; the rules want none"
    )


def test_a_mark_that_no_rule_wants_is_wrong_though_no_copy_came(
    judge: Judge, records: list[Record], table: dict[str, Any]
) -> None:
    other = next(record for record in records if not record.shadow)
    marked = [replace(one, shadow="rows.v4") if one is other else one for one in records]
    verdict = judge(marked, lost=[other.request_id])
    assert verdict is not None
    assert [violation.sequence for violation in verdict.violations] == [other.sequence]
    assert "it was marked for rows.v4; the rules want none" in verdict.violations[0].message
    # And even if nobody asked for copies.
    unasked = make_evidence(marked, revisions=[RevisionInForce(1, table, from_ns=0)])
    verdict = shadow.check(unasked)
    assert verdict is not None
    assert verdict.outcome == "invalid"


def test_a_pinned_request_gets_no_copy(judge: Judge, table: dict[str, Any]) -> None:
    table["use_cases"]["Rows"]["override"] = ["homepage"]
    pinned = [make_record(number, override="rows@v2", version="v2", cluster="v2") for number in range(100)]
    verdict = judge(pinned)
    assert verdict is not None
    assert (verdict.outcome, verdict.summary) == ("unknown", "no request was eligible, so nothing is shown")
    verdict = judge(pinned, also=["r7"])
    assert verdict is not None
    assert [violation.sequence for violation in verdict.violations] == [7]


def test_of_few_requests_a_shadow_need_not_sample_one(judge: Judge, records: list[Record]) -> None:
    others = [record for record in records if not record.shadow]
    few = _too_few(judge, others[:4])
    assert few is not None
    assert few.what == "too few requests for a shadow to sample one"
    assert few.times > 1
    # Of many it would have.
    assert _too_few(judge, others) is None


def _too_few(judge: Judge, records: list[Record]) -> TooFew | None:
    verdict = judge(records)
    assert verdict is not None
    assert verdict.outcome == "unknown"
    return verdict.too_few


@pytest.mark.parametrize("changes", [{"status": "UNAVAILABLE"}, {"source": "fallback"}, {"source": "default"}])
def test_of_what_failed_a_copy_may_come_but_need_not(
    judge: Judge, records: list[Record], changes: dict[str, Any]
) -> None:
    drawn = [record for record in records if record.shadow][:2]
    failed = {record.sequence: make_record(record.sequence, **changes) for record in drawn}
    mixed = [failed.get(record.sequence, record) for record in records]
    verdict = judge(mixed, also=[drawn[0].request_id])
    assert verdict is not None
    assert verdict.outcome == "valid"


def test_a_copy_for_another_version_is_wrong_and_leaves_one_missing(
    records: list[Record], table: dict[str, Any]
) -> None:
    ids = sorted(record.request_id for record in records if record.shadow)
    copies = {"rows.v4": frozenset(ids[1:]), "rows.v2": frozenset(ids[:1])}
    verdict = shadow.check(
        make_evidence(records, revisions=[RevisionInForce(1, table, from_ns=0)], copies=copies_of(copies))
    )
    assert verdict is not None
    assert [violation.request_id for violation in verdict.violations] == [ids[0]] * 2
    assert "a copy for rows.v2 arrived; the rules want rows.v4" in verdict.violations[0].message


def test_copies_that_arrive_twice_are_violations_and_unknown_ones_are_counted(
    records: list[Record], table: dict[str, Any]
) -> None:
    ids = {record.request_id for record in records if record.shadow}
    evidence = make_evidence(
        records,
        revisions=[RevisionInForce(1, table, from_ns=0)],
        copies=copies_of({"rows.v4": [*ids, "warm-up", "other", *list(ids)[:3]]}),
    )
    verdict = shadow.check(evidence)
    assert verdict is not None
    assert verdict.outcome == "invalid"
    assert ["more than one copy arrived" in each.message for each in verdict.violations] == [True] * 3
    assert verdict.summary.endswith("; 3 arrived more than once; 2 of requests that the history does not know")


class TestRevisions:
    """The shadow moves from rows@v4 to rows@v3."""

    def judged(
        self,
        records: list[Record],
        copies: dict[str, frozenset[str]],
        *,
        both: bool,
    ) -> Any:
        tables = [make_table(shadow={"use": use, "percent": 100}) for use in ("rows@v4", "rows@v3")]
        middle = records[len(records) // 2].intended_ns
        revisions = [
            RevisionInForce(1, tables[0], from_ns=0, until_ns=None if both else middle),
            RevisionInForce(2, tables[1], from_ns=0 if both else middle),
        ]
        return shadow.check(make_evidence(records, revisions=revisions, copies=copies_of(copies)))

    def test_each_holds_in_its_time(self) -> None:
        records = [make_record(number, cluster="v1") for number in range(10)]
        first, then = (frozenset(f"r{number}" for number in numbers) for numbers in (range(5), range(5, 10)))
        good = self.judged(records, {"rows.v4": first, "rows.v3": then}, both=False)
        assert good.outcome == "valid"
        assert "10/10" in good.summary
        late = {"rows.v4": first | {"r5"}, "rows.v3": then - {"r5"}}
        bad = self.judged(records, late, both=False)
        assert {violation.sequence for violation in bad.violations} == {5}

    def test_while_both_are_in_force_either_may_get_a_copy_and_neither_must(self) -> None:
        records = [make_record(number, cluster="v1") for number in range(3)]
        some = {"rows.v4": frozenset({"r0"}), "rows.v3": frozenset({"r1"})}
        verdict = self.judged(records, some, both=True)
        assert (verdict.outcome, verdict.violations) == ("unknown", ())
        verdict = self.judged(records, {"rows.v2": frozenset({"r0"})}, both=True)
        assert "the rules want rows.v3 or rows.v4" in verdict.violations[0].message


def test_without_copies_nothing_is_shown(records: list[Record], table: dict[str, Any]) -> None:
    verdict = shadow.check(make_evidence(records, revisions=[RevisionInForce(1, table, from_ns=0)]))
    assert verdict is not None
    assert verdict.outcome == "unknown"
    assert verdict.summary.endswith("requests were eligible, but the replicas were not asked for their copies")


def test_a_run_that_failed_as_a_whole_shows_nothing(judge: Judge) -> None:
    verdict = judge([make_record(number, status="UNAVAILABLE") for number in range(100)])
    assert verdict is not None
    assert verdict.outcome == "unknown"


def test_a_run_without_a_shadow_has_nothing_to_judge(judge: Judge) -> None:
    records = [make_record(0)]
    for copies in (None, {}, {"rows.v4": frozenset[str]()}):
        assert shadow.check(make_evidence(records, copies=copies_of(copies))) is None
    none = make_table(shadow={"use": "rows@v4", "percent": 0})
    assert shadow.check(make_evidence(records, revisions=[RevisionInForce(1, none, 0)], copies=copies_of({}))) is None
    assert judge([]) is None
    assert judge([make_record(0, status="UNSENT")]) is None


def test_copies_without_a_shadow_in_any_table_are_wrong() -> None:
    verdict = shadow.check(make_evidence([make_record(0)], copies=copies_of({"rows.v4": frozenset({"r0"})})))
    assert verdict is not None
    assert verdict.outcome == "invalid"


def test_of_a_time_without_a_known_revision_nothing_is_said() -> None:
    evidence = make_evidence([make_record(0)], revisions=[], copies=copies_of({"rows.v4": frozenset({"r0"})}))
    verdict = shadow.check(evidence)
    assert verdict is not None
    assert (verdict.outcome, verdict.violations) == ("unknown", ())


class TestWhatExplainsALostCopy:
    @pytest.fixture
    def evidence(self, records: list[Record], table: dict[str, Any]) -> Evidence:
        """All copies but the first are there; the shadow's replica is d-a."""
        marked = [record.request_id for record in records if record.shadow]
        copies = copies_of({"rows.v4": frozenset(marked[1:])})
        return make_evidence(records, revisions=[RevisionInForce(1, table, from_ns=0)], copies=copies)

    @staticmethod
    def outcome(evidence: Evidence, **changes: Any) -> str:
        verdict = shadow.check(replace(evidence, **changes))
        assert verdict is not None
        return verdict.outcome

    def test_a_unit_that_says_that_it_dropped_as_many(self, evidence: Evidence) -> None:
        assert self.outcome(evidence) == "invalid"
        assert self.outcome(evidence, copies_dropped={"gateway-1": 0, "gateway-2": 1}) == "valid"
        assert self.outcome(evidence, copies_dropped={"gateway-1": 0}) == "invalid"
        assert self.outcome(evidence, copies_dropped={"gateway-1": None}) == "unknown"

    def test_a_replica_that_lost_what_it_received_then(self, evidence: Evidence, table: dict[str, Any]) -> None:
        home = table["models"]["rows"]["versions"]["v4"]["cluster"]
        first = next(record for record in evidence.records if record.shadow)
        then = ArrivalGap(f"{home}-a", first.done_ns + 1, "killed", first.sent_ns)
        assert self.outcome(evidence, arrival_gaps=[then]) in {"valid", "unknown"}
        assert self.outcome(evidence, arrival_gaps=[replace(then, replica="other-a")]) == "invalid"
        later = first.done_ns + 2 * shadow.COPIES_NS
        assert self.outcome(evidence, arrival_gaps=[replace(then, from_ns=later, until_ns=later + 1)]) == "invalid"

    def test_a_marked_fault_of_the_shadow(self, evidence: Evidence, table: dict[str, Any]) -> None:
        home = table["models"]["rows"]["versions"]["v4"]["cluster"]
        first = next(record for record in evidence.records if record.shadow)
        killed = FaultWindow(f"{home} killed", home, first.sent_ns, first.done_ns, kills=True)
        assert self.outcome(evidence, fault_windows=[killed]) in {"valid", "unknown"}
        other = next(cluster for cluster in table["clusters"] if cluster != home)
        assert self.outcome(evidence, fault_windows=[replace(killed, target=other)]) == "invalid"
        assert self.outcome(evidence, fault_windows=[replace(killed, statuses=frozenset({"INTERNAL"}))]) == "invalid"
