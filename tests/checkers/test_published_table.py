from __future__ import annotations

from lab.checkers import RevisionInForce
from lab.checkers.kinds import published_table
from tests.checkers.builders import make_evidence, make_record, two_versions

KEPT = two_versions()
RECORDS = [make_record(0), make_record(1, revision=2)]


def test_a_table_that_is_kept_as_published_is_valid() -> None:
    revisions = [RevisionInForce(1, KEPT, 0, kept=two_versions()), RevisionInForce(2, KEPT, 5)]
    verdict = published_table.check(make_evidence(RECORDS, revisions=revisions))
    assert verdict
    assert (verdict.outcome, verdict.summary) == ("valid", "1 of 2 revisions compared with their published text")


def test_no_tenants_may_be_kept_as_an_empty_section() -> None:
    revisions = [RevisionInForce(1, KEPT, 0, kept={**two_versions(), "tenants": {}})]
    verdict = published_table.check(make_evidence(RECORDS, revisions=revisions))
    assert verdict
    assert verdict.outcome == "valid"


def test_a_table_that_is_kept_otherwise_is_invalid() -> None:
    published = two_versions()
    published["use_cases"]["Rows"]["rules"][0]["when"]["device"] = ["TV"]
    revisions = [RevisionInForce(1, KEPT, 0, kept=KEPT), RevisionInForce(2, published, 5, kept=KEPT)]
    verdict = published_table.check(make_evidence(RECORDS, revisions=revisions))
    assert verdict
    assert verdict.outcome == "invalid"
    [violation] = verdict.violations
    where = "use_cases.Rows.rules[0].when.device[0]: 'tv', not 'TV'"
    assert violation.sequence == 1
    assert violation.message == f"the control plane keeps revision 2 with {where} as published"


def test_without_a_published_text_there_is_no_verdict() -> None:
    assert published_table.check(make_evidence(RECORDS)) is None
