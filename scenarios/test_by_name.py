"""Name the use case, not the endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest

from lab.errors import CallError
from lab.transport import open_blocking_channel
from models.proto.caller.v1 import caller_pb2, caller_pb2_grpc
from models.proto.serving.v1 import serving_pb2

if TYPE_CHECKING:
    from lab.lab import Lab
    from scenarios.framework.scenario import Scenario

ANSWERED_BY = {
    "ContinueWatchingRanking": ("homepage", "cw-ranker@v1", "ml-cluster-1"),
    "HomepageRows": ("homepage", "rows@v1", "ml-cluster-3"),
    "SearchRanking": ("search", "search-ranker@v1", "ml-cluster-4"),
    "UpNext": ("playback", "up-next@v1", "ml-cluster-5"),
    "FraudDetection": ("payments", "fraud@v1", "ml-cluster-6"),
}


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=2)
@pytest.mark.parametrize("use_case", ANSWERED_BY)
def test_every_use_case_reaches_its_model_by_name(scenario: Scenario, lab: Lab, topology: str, use_case: str) -> None:
    """A caller names the use case alone, and the model that the default rules choose answers from its cluster."""
    caller, model, cluster = ANSWERED_BY[use_case]

    with scenario.step(f"Ask for {use_case} as {caller}"):
        answer = lab.call(use_case, topology=topology, caller=caller, context={"user_id": "u1"})

    assert (model, cluster) == (f"{answer.model}@{answer.version}", answer.cluster)
    assert answer.source == "model"


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=3)
@pytest.mark.parametrize(
    ("context", "version"),
    [
        ({"device": "tv", "country": "US"}, "v2"),
        ({"device": "tv", "country": "CA"}, "v2"),
        ({"device": "phone", "country": "DE"}, "v1"),
        ({"device": "tv", "country": "DE"}, "v1"),
        ({"device": "tv"}, "v1"),
        ({"device": "tv", "country": "US", "segment": "kids"}, "v3"),
    ],
)
def test_context_rules_pick_the_version(
    scenario: Scenario, lab: Lab, topology: str, context: dict[str, str], version: str
) -> None:
    """The same use case is ranked by v1, v2 or v3, depending on device, country and segment."""
    with scenario.step(f"Ask in the context {context}"):
        answer = lab.call(
            "ContinueWatchingRanking", topology=topology, caller="homepage", context={"user_id": "u1", **context}
        )

    assert version == answer.version


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=2)
@pytest.mark.parametrize(
    ("use_case", "caller", "code", "message"),
    [
        ("NoSuchThing", "homepage", grpc.StatusCode.NOT_FOUND, "NoSuchThing"),
        ("FraudDetection", "homepage", grpc.StatusCode.PERMISSION_DENIED, "FraudDetection"),
    ],
)
def test_errors_read_alike_in_every_topology(
    scenario: Scenario, lab: Lab, topology: str, use_case: str, caller: str, code: grpc.StatusCode, message: str
) -> None:
    """An unknown use case is NOT_FOUND, one for others PERMISSION_DENIED, and the message names it."""
    with scenario.step(f"Ask for {use_case} as {caller}"), pytest.raises(CallError) as refusal:
        lab.call(use_case, topology=topology, caller=caller, context={"user_id": "u1"})

    assert code == refusal.value.code
    assert message in refusal.value.message


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=2)
@pytest.mark.parametrize(
    ("caller", "sections"),
    [
        ("homepage", {"HomepageRows", "ContinueWatchingRanking"}),
        ("search", {"SearchRanking"}),
        ("playback", {"UpNext"}),
        ("payments", {"FraudDetection"}),
        ("recommendations", {"ContinueWatchingRanking"}),
    ],
)
def test_every_callers_page_is_answered_in_full(
    scenario: Scenario, lab: Lab, topology: str, caller: str, sections: set[str]
) -> None:
    """A page asks for one to several use cases, and each of its sections comes from the right model."""
    with scenario.step(f"Ask {caller} for a page"), open_blocking_channel(lab.endpoints().callers[caller]) as channel:
        page = caller_pb2_grpc.PagesStub(channel).GetPage(
            caller_pb2.GetPageRequest(context=serving_pb2.RequestContext(user_id="u1"), topology=topology)
        )

    assert sections == {section.use_case for section in page.sections}
    assert {section.error for section in page.sections} == {""}
    for section in page.sections:
        _, model, _ = ANSWERED_BY[section.use_case]
        assert model == f"{section.answered_by.model}@{section.answered_by.version}"
