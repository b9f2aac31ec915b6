import pytest

from lab.errors import CallerNotAllowedError, UnknownUseCaseError
from lab.routing.compiled import Router
from lab.routing.explanation import explain

CW = "ContinueWatchingRanking"
NOT_TRIED = "not tried, as {} matched before"


@pytest.mark.parametrize(
    ("context", "reasons"),
    [
        (
            {"device": "tv", "country": "US"},
            [
                (True, "device is tv and country is US and what 'not' rules out does not hold"),
                (False, NOT_TRIED.format("tv-north-america")),
                (False, NOT_TRIED.format("tv-north-america")),
            ],
        ),
        (
            {"device": "phone", "country": "NO", "user_id": "u1"},
            [
                (False, "device is phone, not one of tv"),
                (True, "country is NO; user_id is u1: bucket 1081 is among 0 to 7999 of cell 1"),
                (False, NOT_TRIED.format("ab-12345")),
            ],
        ),
        (
            {"device": "tv", "country": "US", "segment": "kids"},
            [
                (False, "segment is kids, which 'not' rules out"),
                (False, "country is US, not one of DE, NO"),
                (False, "user_id is not in the request, so that no share can be drawn for it"),
            ],
        ),
        (
            {"device": "a\nb", "user_id": "u1"},
            [
                (False, "device is 'a\\nb', not one of tv"),
                (False, "country is not in the request; DE, NO would match"),
                (True, "user_id is u1: bucket 2881 is among 0 to 9499 of cw-ranker@v1"),
            ],
        ),
    ],
)
def test_every_rule_says_why(sample_router: Router, context: dict[str, str], reasons: list[tuple[bool, str]]) -> None:
    context["caller"] = "homepage"
    explanation = explain(sample_router, CW, context)
    assert sample_router.resolve(CW, context) == explanation.choice
    assert [outcome.rule for outcome in explanation.rules] == ["tv-north-america", "ab-12345", "canary"]
    assert [(outcome.matched, outcome.reason) for outcome in explanation.rules] == reasons


def test_an_unresolvable_request_cannot_be_explained(sample_router: Router) -> None:
    with pytest.raises(UnknownUseCaseError):
        explain(sample_router, "Nope", {})
    with pytest.raises(CallerNotAllowedError):
        explain(sample_router, CW, {"caller": "search"})
