"""Grafana's dashboards: what the library makes of the panels."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from lab.errors import InputError
from lab.plugins.render._dashboards import DASHBOARDS, Dashboard
from tests.plugins.render.agreement import EVERYTHING, render


@pytest.mark.parametrize("page", DASHBOARDS, ids=lambda page: page.name)
def test_a_dashboard_has_its_panels_in_order_and_none_over_another(page: Dashboard) -> None:
    document = json.loads(render("grafana", EVERYTHING).files[f"{page.name}.json"])

    shown = [
        (each["title"], each["targets"][0]["expr"], each["fieldConfig"]["defaults"]["unit"])
        for each in document["panels"]
    ]
    assert shown == [(each.title, each.query, each.unit) for each in page.panels]
    places = [(each["gridPos"]["x"], each["gridPos"]["y"]) for each in document["panels"]]
    assert len(set(places)) == len(places)
    assert len({each["id"] for each in document["panels"]}) == len(places)


@pytest.mark.parametrize("page", DASHBOARDS, ids=lambda page: page.name)
def test_the_library_knows_every_field_of_a_dashboard(page: Dashboard) -> None:
    document = json.loads(render("grafana", EVERYTHING).files[f"{page.name}.json"])

    assert read_back(document) == document
    document["panels"][0]["tarrgets"] = document["panels"][0].pop("targets")
    assert read_back(document) != document


def read_back(document: dict[str, Any]) -> dict[str, Any]:
    """What the library's models of Grafana's schema keep of a dashboard."""
    plugins.register_default_plugins()
    kept: dict[str, Any] = json.loads(JSONEncoder().encode(dashboard.Dashboard.from_json(document)))
    for panel in kept["panels"]:
        assert panel["fieldConfig"]["defaults"].pop("custom") == {}  # options of a kind of panel, which has none set
    return kept


def test_dashboards_have_names_of_their_own() -> None:
    documents = [json.loads(text) for text in render("grafana", EVERYTHING).files.values()]

    assert len({each["uid"] for each in documents}) == len({each["title"] for each in documents}) == len(DASHBOARDS)
    for document in documents:
        assert [each["name"] for each in document["templating"]["list"]] == ["datasource", "lab"]


def test_without_the_library_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grafana_foundation_sdk.builders", None)

    with pytest.raises(InputError, match=r"grafana_foundation_sdk.* is not installed: make \.venv/with-grafana"):
        render("grafana", EVERYTHING)
