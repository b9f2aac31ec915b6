from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

from lab.checkers import Evidence, FaultWindow, ProbeAnswer, RevisionInForce
from lab.checkers.kinds import convergence
from tests.checkers.builders import START_NS, make_evidence, make_record, two_versions

CHANGE = START_NS + 1_000_000_000
ENDED = CHANGE + 100_000_000
OLD, NEW = two_versions(), two_versions()
NEW["use_cases"]["Rows"]["default"] = "rows@v2"
RECORDS = [make_record(number * 1_000) for number in range(3)]


def _evidence(
    *probes: ProbeAnswer, fault_windows: tuple[FaultWindow, ...] = (), new: dict[str, object] = NEW
) -> Evidence:
    revisions = [RevisionInForce(1, OLD, 0, ENDED, 1), RevisionInForce(2, new, CHANGE, None, CHANGE + 1)]
    return make_evidence(RECORDS, revisions=revisions, probes=probes, fault_windows=fault_windows)


def _probe(revision: int, asked_ns: int) -> ProbeAnswer:
    return ProbeAnswer("homepage-resolver", asked_ns, asked_ns + 1_000_000, revision)


def _outcome(evidence: Evidence) -> str:
    verdict = convergence.check(evidence)
    return "" if verdict is None else str(verdict.outcome)


def test_answers_by_revisions_in_force_are_valid() -> None:
    verdict = convergence.check(
        _evidence(_probe(1, START_NS), _probe(1, ENDED - 1), _probe(2, CHANGE), _probe(2, ENDED + 5))
    )
    assert verdict
    assert (verdict.outcome, verdict.summary) == ("valid", "4 probes of 1 nodes, each by a revision in force")


def test_an_answer_by_an_ended_revision_is_invalid() -> None:
    verdict = convergence.check(_evidence(_probe(1, ENDED + 70_000_000), _probe(2, ENDED + 80_000_000)))
    assert verdict
    assert verdict.outcome == "invalid"
    [violation] = verdict.violations
    assert violation.sequence == 1_000  # the nearest request
    assert violation.message == "homepage-resolver answered by revision 1 70 ms after that had ended"


def test_a_resolver_need_not_know_a_revision_that_only_moves_a_model() -> None:
    moved = deepcopy(OLD)
    moved["models"]["rows"]["versions"]["v1"]["cluster"] = "b"
    assert _outcome(_evidence(_probe(1, ENDED + 70_000_000), new=moved)) == "valid"
    moved["models"]["rows"]["versions"]["v1"]["config"] = {"depth": 7}
    assert _outcome(_evidence(_probe(1, ENDED + 70_000_000), new=moved)) == "invalid"


def test_a_resolver_under_a_fault_is_not_judged_meanwhile() -> None:
    late = _probe(1, ENDED + 70_000_000)
    for target, outcome in (("homepage-resolver", ""), ("control-plane", ""), ("ml-cluster-1", "invalid")):
        paused = FaultWindow(f"{target} paused", target, CHANGE, None)
        assert _outcome(_evidence(late, fault_windows=(paused,))) == outcome
    healed = FaultWindow("homepage-resolver paused", "homepage-resolver", START_NS, CHANGE)
    assert _outcome(_evidence(late, fault_windows=(healed,))) == "invalid"


def test_nodes_that_the_requests_do_not_ask_are_judged_but_under_their_faults() -> None:
    for node, role in (("gateway-2", "gateway"), ("search-resolver", "resolver")):
        late = _probe(1, ENDED + 70_000_000)._replace(unit=node)
        assert _outcome(_evidence(late)) == "invalid"
        for target, outcome in ((node, ""), (role, ""), ("gateway-1", "invalid")):
            elsewhere = [FaultWindow(f"{target} paused", target, CHANGE, None, role=role)]
            assert _outcome(replace(_evidence(late), faults_elsewhere=elsewhere)) == outcome


def test_without_probes_or_tables_for_them_there_is_no_verdict() -> None:
    assert _outcome(_evidence()) == ""
    assert _outcome(_evidence(_probe(9, CHANGE))) == ""


class TestAfterAFault:
    """The resolver was paused from 2 s to 3 s, and is as before a second later; the run ends at 10 s."""

    S = 1_000_000_000
    PAUSED = FaultWindow(
        "homepage-resolver paused", "homepage-resolver", START_NS + 2 * S, START_NS + 3 * S, recovers_ns=S
    )

    def outcome(self, *answers: tuple[int, float]) -> str:
        records = [make_record(number, sent_ns=START_NS + number * self.S) for number in range(11)]
        probes = tuple(_probe(revision, START_NS + round(at_s * self.S)) for revision, at_s in answers)
        return _outcome(replace(_evidence(*probes, fault_windows=(self.PAUSED,)), records=records))

    def test_it_may_be_late_until_it_is_as_before(self) -> None:
        assert self.outcome((1, 0.5), (1, 3.9), (2, 4.1)) == "valid"
        assert self.outcome((1, 0.5), (1, 4.1), (2, 4.2)) == "invalid"

    def test_it_must_answer_again(self) -> None:
        assert self.outcome((1, 0.5), (2, 3.5)) == "invalid"
        assert self.outcome((1, 0.5), (2, 9)) == "valid"


def test_a_resolver_answers_by_what_is_staged_for_its_caller_and_no_other_does() -> None:
    late_ns = ENDED + 70_000_000

    def outcome(callers: set[str], unit: str, revision: int) -> str:
        revisions = [
            RevisionInForce(1, OLD, 0, None, 1),
            RevisionInForce(2, NEW, CHANGE, None, CHANGE + 1, callers=frozenset(callers)),
        ]
        probe = ProbeAnswer(unit, late_ns, late_ns + 1, revision)
        return _outcome(make_evidence(RECORDS, revisions=revisions, probes=[probe]))

    assert outcome({"homepage"}, "homepage-resolver", 2) == "valid"
    assert outcome({"homepage"}, "homepage-resolver", 1) == "invalid"
    assert outcome({"search"}, "homepage-resolver", 1) == "valid"
    assert outcome({"search"}, "homepage-resolver", 2) == "invalid"
    assert outcome({"search"}, "gateway-1", 1) == "valid"
