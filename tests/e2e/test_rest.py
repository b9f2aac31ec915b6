"""REST on a lab that is up, by a client that knows nothing but the standard library."""

from __future__ import annotations

import pytest

from lab import CHECKOUT
from lab.lab import Lab
from lab.runtime.state import LabState
from models.scoring import scores
from tests.lab_command import json_of, run_lab
from tests.rest_client import asking, post

PAGE = (CHECKOUT / "docs" / "clients.md").read_text()


def test_every_gateway_answers_by_name_and_every_replica_by_key(lab: Lab) -> None:
    shown = json_of(run_lab(lab, "endpoints", "--json"))["rest"]
    units = {unit.name: unit for unit in LabState.of(lab.folder).plan.units if unit.role in {"gateway", "model"}}
    assert set(units) == set(shown)

    for name in ("gateway-1", "gateway-2"):
        url = f"{shown[name]}/v1/use-cases/ContinueWatchingRanking:call"
        for context in ({"device": "phone"}, {"device": "tv", "country": "US"}):
            wanted = lab.routes.explain(
                "ContinueWatchingRanking", {"user_id": "u1", "caller": "homepage", **context}
            ).choice
            status, answer = post(lab, url, asking(**context, trafficOrigin="TRAFFIC_ORIGIN_ARTIFICIAL", tenant="ads"))
            by = answer["answeredBy"]
            assert (status, by["model"], by["version"]) == (200, wanted.model, wanted.version)
            assert (by["trafficOrigin"], by["tenant"]) == ("TRAFFIC_ORIGIN_ARTIFICIAL", "ads")
            assert answer["titles"] == [{"id": "t1", "score": scores(by["model"], by["version"], "u1", ["t1"])[0]}]
        assert post(lab, url, asking("payments"))[0] == 403
        assert post(lab, url.replace("Ranking:", "Rnaking:"), asking())[0] == 404

    for name, unit in units.items():
        if unit.cluster == "ml-cluster-5":
            status, answer = post(lab, f"{shown[name]}/v1/ranking:rank", asking(), x_routing_key="up-next.v1")
            assert (status, answer["answeredBy"]["replica"]) == (200, name)


def test_a_replica_that_takes_anothers_place_answers_rest_there(mini_lab: Lab) -> None:
    [(_, before)] = [each for each in mini_lab.endpoints().rest.items() if each[0].startswith("ml-")]

    name = mini_lab.units.replace("ml-cluster-1-a", "ml-cluster-1")

    assert mini_lab.endpoints().rest[name] == before
    [added] = set(mini_lab.units.scale("ml-cluster-1", 2)) - {name}
    assert mini_lab.endpoints().rest[added] != before


@pytest.mark.parametrize("where", ["gateway-1", "ml-cluster-5-a"])
def test_the_error_that_the_page_shows_is_the_real_one(lab: Lab, where: str) -> None:
    path = "v1/use-cases/UpNext:call" if where.startswith("gateway") else "v1/ranking:rank"
    status, answer = post(lab, f"{lab.endpoints().rest[where]}/{path}", {"titels": []})

    assert status == 400
    assert f'"code": {answer["code"]}, "message": "{answer["message"]}"' in PAGE
