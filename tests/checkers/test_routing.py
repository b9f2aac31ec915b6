from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers import RevisionInForce
from lab.checkers.kinds import routing
from lab.checkers.plain_models import score_of
from lab.client import Answer
from lab.client.outcome import answered
from models.apis import APIS
from models.proto.fraud.v1 import fraud_pb2
from models.proto.ranking.v1 import ranking_pb2
from tests.checkers.builders import best_first, make_evidence, make_record, make_table

if TYPE_CHECKING:
    from lab.history import Record

TV = {"device": "tv", "version": "v2", "cluster": "b", "routing_key": "rows.v2"}
AFTER = 10_000_000_000


@pytest.fixture
def moved(document: dict[str, Any]) -> dict[str, Any]:
    """The same table after v1 has moved from cluster a to cluster c."""
    other = copy.deepcopy(document)
    other["models"]["rows"]["versions"]["v1"]["cluster"] = "c"
    return other


def test_a_run_answered_as_the_rules_say_is_valid() -> None:
    records = [make_record(number, **(TV if number % 2 else {})) for number in range(100)]
    verdict = routing.check(make_evidence(records))
    assert (verdict.checker, verdict.outcome, verdict.violations) == ("routing", "valid", ())
    assert verdict.summary == "100 answered by models, 0 refused, 0 failed"


def _right_items() -> list[tuple[str, float]]:
    """What rows@v1 must answer user u0, best first."""
    return best_first(make_record(0))


def _with_items(items: list[tuple[str, float]], **changes: Any) -> Record:
    """A record as the driver makes it of a unary answer with these items."""
    titles = [ranking_pb2.RankedTitle(id=title, score=score) for title, score in items]
    answer = Answer(ranking_pb2.RankResponse(titles=titles), "model", "rows.v1", 1, 1, "r0")
    outcome = answered(answer, APIS["ranking.v1"])
    first = {"item_id": outcome.item_id, "score": outcome.score, "items_digest": outcome.items_digest}
    return make_record(0, **{**first, **changes})


def test_an_answer_with_all_items_in_their_order_is_right() -> None:
    assert routing.check(make_evidence([_with_items(_right_items())])).outcome == "valid"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda items: items[:1],
        lambda items: items[:-1],
        lambda items: [*items, items[-1]],
        lambda items: [items[0], *reversed(items[1:])],
        lambda items: items[::-1],
        lambda items: [items[0], *((title, score / 2) for title, score in items[1:])],
        lambda items: [*items[:-1], ("t99", items[-1][1])],
    ],
)
def test_an_answer_without_an_item_or_in_another_order_is_wrong(wrong: Callable[[Any], Any]) -> None:
    verdict = routing.check(make_evidence([_with_items(wrong(_right_items()))]))
    assert (verdict.outcome, len(verdict.violations)) == ("invalid", 1)
    assert "it lacks an item, or has another item, order or score than it must" in verdict.violations[0].message


@pytest.mark.parametrize(("payment", "outcome"), [("p01", "valid"), ("p02", "invalid"), ("t01", "invalid")])
def test_a_payment_is_scored_as_asked(payment: str, outcome: str, document: dict[str, Any]) -> None:
    document["use_cases"]["Rows"]["api"] = "fraud.v1"
    score = score_of("rows", "v1", "u0", payment)
    answer = Answer(fraud_pb2.ScoreResponse(payment_id=payment, score=score), "model", "rows.v1", 1, 1, "r0")
    said = answered(answer, APIS["fraud.v1"])
    record = make_record(0, item_id=said.item_id, score=said.score, items_digest=said.items_digest)

    verdict = routing.check(make_evidence([record], table=document))

    assert verdict.outcome == outcome
    assert all("did not give this answer" in each.message for each in verdict.violations)


def test_a_cluster_that_stands_in_for_another_may_answer_for_it(document: dict[str, Any]) -> None:
    records = [make_record(0), make_record(1, cluster="b")]
    assert routing.check(make_evidence(records, table=document)).outcome == "invalid"
    document["clusters"]["a"]["failover"] = "b"
    assert routing.check(make_evidence(records, table=document)).outcome == "valid"
    assert routing.check(make_evidence([make_record(0, cluster="c")], table=document)).outcome == "invalid"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "v2", "cluster": "b"}, "answered by rows@v2 on b; revision 1 wants rows@v1 on a"),
        ({"device": "tv"}, "answered by rows@v1 on a; revision 1 wants rows@v2 on b"),
        ({"cluster": "b"}, "answered by rows@v1 on b; revision 1 wants rows@v1 on a"),
        ({"model": "cw"}, "answered by cw@v1 on a; revision 1 wants rows@v1 on a"),
        ({"model": ""}, "answered by @v1 on a; revision 1 wants rows@v1 on a"),
        ({"caller": "search"}, "answered by rows@v1 on a; revision 1 wants PERMISSION_DENIED"),
        ({"use_case": "Nope"}, "answered by rows@v1 on a; revision 1 wants NOT_FOUND"),
        ({"topology": "direct", "device": "tv"}, "answered by rows@v1 on a; revision 1 wants rows@v2 on b"),
        ({"score": 0.5}, "rows@v1 on a did not compute this answer: item 't01' of user 'u1' scores 0.58"),
        ({"score": math.nan}, "rows@v1 on a did not compute this answer"),
        ({"item_id": "", "score": 0.0}, "rows@v1 on a did not compute this answer: item '' of user 'u1'"),
        ({"source": ""}, "OK from source '', which is neither a model nor the caller's own default"),
        ({"status": "NOT_FOUND"}, "refused with NOT_FOUND (''); revision 1 wants rows@v1 on a"),
        ({"status": "PERMISSION_DENIED"}, "refused with PERMISSION_DENIED (''); revision 1 wants rows@v1 on a"),
        ({"status": "FAILED_PRECONDITION", "message": "torn"}, "refused with FAILED_PRECONDITION ('torn'); revision"),
        ({"status": "INVALID_ARGUMENT"}, "refused with INVALID_ARGUMENT (''); revision 1 wants rows@v1 on a"),
        (
            {"status": "NOT_FOUND", "caller": "search"},
            "refused with NOT_FOUND (''); revision 1 wants PERMISSION_DENIED",
        ),
    ],
)
def test_what_the_rules_do_not_allow_is_a_violation(changes: dict[str, Any], message: str) -> None:
    verdict = routing.check(make_evidence([make_record(0), make_record(1, **changes)]))
    assert verdict.outcome == "invalid"
    [violation] = verdict.violations
    assert (violation.checker, violation.sequence, violation.request_id) == ("routing", 1, "r1")
    assert violation.message.startswith(message)


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "NOT_FOUND", "use_case": "Nope"},
        {"status": "PERMISSION_DENIED", "caller": "search"},
        {"status": "UNAVAILABLE"},
        {"status": "DEADLINE_EXCEEDED"},
        {"status": "INTERNAL"},
        {"status": "RESOURCE_EXHAUSTED"},
        {"status": "UNSENT"},
        {"source": "default", "model": "", "version": "", "cluster": ""},
    ],
)
def test_what_says_nothing_against_routing_is_counted_only(changes: dict[str, Any]) -> None:
    verdict = routing.check(make_evidence([make_record(0), make_record(1, **changes)]))
    assert verdict.outcome == "valid"
    assert verdict.summary.startswith("1 answered by models")
    assert verdict.summary != "1 answered by models, 0 refused, 0 failed"


@pytest.mark.parametrize("status", ["UNAVAILABLE", "UNSENT", "NOT_FOUND", "OK"])
def test_a_run_without_a_model_s_answer_is_unknown(status: str) -> None:
    changes = {"use_case": "Nope"} if status == "NOT_FOUND" else {"source": "default"}
    verdict = routing.check(make_evidence([make_record(0, status=status, **changes)]))
    assert verdict.outcome == "unknown"
    assert "no model answered" in verdict.summary


def test_no_record_and_no_revision_are_unknown() -> None:
    assert routing.check(make_evidence([])).outcome == "unknown"
    verdict = routing.check(make_evidence([make_record(0)], revisions=[]))
    assert (verdict.outcome, verdict.violations) == ("unknown", ())
    assert verdict.summary.endswith("1 at a time that no known revision covers")


class TestFallback:
    """Phones get v1; should that fail v3, then v1 itself, which is skipped, then v2."""

    @pytest.fixture
    def judged(self) -> Any:
        def judge(**changes: Any) -> Any:
            table = make_table(rules=[], fallback=["rows@v3", "rows@v1", "rows@v2"], override=["homepage"])
            record = make_record(1, **{"source": "fallback", "version": "v3", "cluster": "v3", **changes})
            return routing.check(make_evidence([record], revisions=[RevisionInForce(7, table, from_ns=0)]))

        return judge

    def test_an_answer_from_the_chain_is_right(self, judged: Any) -> None:
        assert judged().outcome == judged(version="v2", cluster="v2").outcome == "valid"
        assert judged().summary == "0 answered by models, 0 refused, 0 failed, 1 answered by a fallback"

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"version": "v1", "cluster": "v1"},
                "answered by rows@v1 on v1 as a fallback; revision 7 falls back to rows@v3 on v3, then rows@v2 on v2",
            ),
            (
                {"version": "v4", "cluster": "v4"},
                "answered by rows@v4 on v4 as a fallback; revision 7 falls back to ro",
            ),
            ({"cluster": "v2"}, "answered by rows@v3 on v2 as a fallback; revision 7 falls back to rows@v3 on v3, "),
            ({"score": 0.5}, "rows@v3 on v3 did not compute this answer"),
            ({"override": "rows@v3"}, "answered by rows@v3 on v3 as a fallback; revision 7 falls back to none"),
            ({"caller": "search"}, "answered by rows@v3 on v3 as a fallback; revision 7 falls back to none"),
            ({"source": "model"}, "answered by rows@v3 on v3; revision 7 wants rows@v1 on v1"),
        ],
    )
    def test_any_other_is_wrong(self, judged: Any, changes: dict[str, Any], message: str) -> None:
        verdict = judged(**changes)
        assert verdict.outcome == "invalid"
        assert verdict.violations[0].message.startswith(message)

    def test_the_chain_of_any_revision_in_force_will_do_but_of_no_other(self) -> None:
        tables = [make_table(rules=[], fallback=[use]) for use in ("rows@v2", "rows@v3")]
        records = [make_record(number, source="fallback", version="v2", cluster="v2") for number in range(20)]
        until = records[9].done_ns
        revisions = [RevisionInForce(1, tables[0], 0, until), RevisionInForce(2, tables[1], 0)]
        verdict = routing.check(make_evidence(records, revisions=revisions))
        assert [violation.sequence for violation in verdict.violations] == list(range(10, 20))


class TestOverride:
    """Only homepage may pin; phones get v1 otherwise."""

    @pytest.mark.parametrize(
        ("changes", "outcome"),
        [
            ({"override": "rows@v3", "version": "v3", "cluster": "v3"}, "valid"),
            ({"override": "rows@v3", "version": "v1", "cluster": "v1"}, "invalid"),
            ({"override": "rows@v9", "status": "NOT_FOUND"}, "valid"),
            ({"override": "rows@v9", "version": "v1", "cluster": "v1"}, "invalid"),
            ({"override": "rows@v3", "caller": "search", "status": "PERMISSION_DENIED"}, "valid"),
            ({"override": "rows@v3", "caller": "search", "version": "v3", "cluster": "v3"}, "invalid"),
            ({"override": "", "caller": "search", "version": "v1", "cluster": "v1"}, "valid"),
            ({"override": "", "version": "v3", "cluster": "v3"}, "invalid"),
        ],
    )
    def test_who_may_pin_gets_what_it_asks_for(self, changes: dict[str, Any], outcome: str) -> None:
        table = make_table(rules=[], callers=["homepage", "search"], override=["homepage"])
        good = make_record(0, cluster="v1")
        evidence = make_evidence([good, make_record(1, **changes)], revisions=[RevisionInForce(1, table, from_ns=0)])
        assert routing.check(evidence).outcome == outcome


class TestRevisions:
    """Request 0 is sent at its start and done within 400 µs; revision 2 moves v1 from cluster a to c."""

    @pytest.fixture
    def judged(self, document: dict[str, Any], moved: dict[str, Any]) -> Any:
        def judge(cluster: str, *, old_until: int, new_from: int) -> str:
            record = make_record(0, cluster=cluster)
            revisions = [
                RevisionInForce(2, moved, from_ns=record.sent_ns + new_from),
                RevisionInForce(1, document, from_ns=0, until_ns=record.sent_ns + old_until),
            ]
            return str(routing.check(make_evidence([record], revisions=revisions)).outcome)

        return judge

    def test_while_both_are_in_force_either_is_right(self, judged: Any) -> None:
        assert judged("a", old_until=AFTER, new_from=-AFTER) == "valid"
        assert judged("c", old_until=AFTER, new_from=-AFTER) == "valid"
        assert judged("b", old_until=AFTER, new_from=-AFTER) == "invalid"

    def test_one_that_ends_or_begins_under_way_is_right(self, judged: Any) -> None:
        assert judged("a", old_until=1, new_from=0) == "valid"
        assert judged("c", old_until=AFTER, new_from=1) == "valid"

    def test_one_that_ended_before_or_begins_after_is_wrong(self, judged: Any) -> None:
        assert judged("a", old_until=-1, new_from=-AFTER) == "invalid"
        assert judged("c", old_until=AFTER, new_from=AFTER) == "invalid"

    def test_between_two_with_a_gap_nothing_is_known(self, judged: Any) -> None:
        assert judged("a", old_until=-1, new_from=AFTER) == "unknown"

    def test_an_early_revision_that_stayed_long_is_not_overlooked(
        self, document: dict[str, Any], moved: dict[str, Any]
    ) -> None:
        short = [RevisionInForce(number, moved, from_ns=number, until_ns=number + 1) for number in range(2, 50)]
        long = RevisionInForce(1, document, from_ns=0)
        revisions = [*short, long]
        assert routing.check(make_evidence([make_record(0)], revisions=revisions)).outcome == "valid"
        # And the short ones, though later than it, are over.
        late = make_record(0, cluster="c")
        assert routing.check(make_evidence([late], revisions=revisions)).outcome == "invalid"

    def test_an_answer_is_right_if_any_revision_allows_it_and_a_refusal_too(self, document: dict[str, Any]) -> None:
        without = {**document, "use_cases": {}}
        revisions = [RevisionInForce(1, document, 0), RevisionInForce(2, without, 0)]
        records = [make_record(0), make_record(1, status="NOT_FOUND")]
        assert routing.check(make_evidence(records, revisions=revisions)).outcome == "valid"


class TestAMoveAndARuleInOneRevision:
    """Revision 2 gives phones v2, and moves v1 from cluster a to c: where that runs goes out first, then the rules."""

    @pytest.fixture
    def after(self, moved: dict[str, Any]) -> dict[str, Any]:
        moved["use_cases"]["Rows"]["default"] = "rows@v2"
        return moved

    @pytest.fixture
    def judged(self, document: dict[str, Any], after: dict[str, Any]) -> Any:
        def judge(*ends: str, **answer: str) -> str:
            record = make_record(0, **answer)
            times: dict[str, Any] = dict.fromkeys(ends, record.done_ns)
            second = RevisionInForce(2, after, 1, **times)
            evidence = make_evidence([record], revisions=[RevisionInForce(1, document, 0), second])
            return str(routing.check(evidence).outcome)

        return judge

    @pytest.mark.parametrize(
        ("version", "cluster", "outcome"),
        [
            ("v1", "a", "valid"),  # all by the first
            ("v1", "c", "valid"),  # decided by the first, on its way by the second
            ("v2", "b", "valid"),
            ("v1", "b", "invalid"),
            ("v2", "c", "invalid"),
        ],
    )
    def test_who_is_decided_by_the_old_may_find_its_way_by_the_new(
        self, judged: Any, version: str, cluster: str, outcome: str
    ) -> None:
        assert judged(version=version, cluster=cluster) == outcome

    @pytest.mark.parametrize(("end", "outcome"), [("converged_ns", "invalid"), ("until_ns", "valid")])
    def test_the_other_way_round_only_by_one_that_was_put_back(
        self, judged: Any, after: dict[str, Any], end: str, outcome: str
    ) -> None:
        after["models"]["rows"]["versions"]["v2"]["cluster"] = "d"
        assert judged(end, version="v2", cluster="b") == outcome

    @pytest.mark.parametrize(("cluster", "outcome"), [("a", "valid"), ("c", "valid"), ("b", "invalid")])
    def test_so_may_who_falls_back(
        self, judged: Any, document: dict[str, Any], after: dict[str, Any], cluster: str, outcome: str
    ) -> None:
        document["use_cases"]["Rows"].update(default="rows@v2", fallback=["rows@v1"])
        after["use_cases"]["Rows"]["default"] = "rows@v1"
        assert judged(source="fallback", cluster=cluster) == outcome


def test_remembered_decisions_do_not_leak_between_requests(document: dict[str, Any]) -> None:
    document["use_cases"]["Other"] = {**document["use_cases"]["Rows"], "default": "rows@v2", "rules": []}
    changes: list[dict[str, Any]] = [{}, TV, {**TV, "device": "phone", "use_case": "Other"}]
    good = [make_record(number, **changes[number % 3]) for number in range(30)]
    assert routing.check(make_evidence(good, table=document)).outcome == "valid"
    bad = [make_record(number, **changes[(number + number // 15) % 3] | {"device": "phone"}) for number in range(30)]
    assert len(routing.check(make_evidence(bad, table=document)).violations) == 10


def test_judging_takes_longer_with_the_number_of_records_alone(document: dict[str, Any]) -> None:
    document["use_cases"]["Rows"]["rules"].append(
        {"name": "all", "split": {"unit": "user_id", "weights": {"rows@v1": 100, "rows@v2": 0}}}
    )
    revisions = [RevisionInForce(1, document, 0), RevisionInForce(2, document, 0)]

    def judging_s(count: int) -> float:
        evidence = make_evidence([make_record(number) for number in range(count)], revisions=revisions)
        before = time.process_time()
        assert routing.check(evidence).outcome == "valid"
        return time.process_time() - before

    # In proportion: 8 times. With its square: 64 times.
    assert judging_s(24_000) < 24 * min(judging_s(3_000) for _ in range(3))


SHARDS = {"shards": ["a", "b"], "tenants": {"ads": 1, "default": 2}}


@pytest.mark.parametrize(
    ("tenant", "cluster", "outcome"), [("ads", "a", "valid"), ("kids", "b", "valid"), ("ads", "b", "invalid")]
)
def test_a_shard_is_answered_by_its_own_cluster(
    document: dict[str, Any], tenant: str, cluster: str, outcome: str
) -> None:
    document["models"]["rows"]["versions"]["v1"]["cluster"] = SHARDS
    verdict = routing.check(make_evidence([make_record(0, tenant=tenant, cluster=cluster)], table=document))
    assert verdict.outcome == outcome
