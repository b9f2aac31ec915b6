from __future__ import annotations

from pathlib import Path

import pytest

from lab import CHECKOUT
from lab.lab import Lab
from tests.lab_command import json_of, refusal, run_lab

ROUTES = str(CHECKOUT / "routes.yaml")


def test_call_names_version_cluster_and_replica(lab: Lab) -> None:
    answer = json_of(
        run_lab(
            lab,
            *("call", "ContinueWatchingRanking", "--topology", "mesh", "--caller", "homepage", "--user", "u1"),
            *("--context", "device=tv", "--context", "country=US", "--json"),
        )
    )

    expected = {
        "use_case": "ContinueWatchingRanking",
        "topology": "mesh",
        "routing_key": "cw-ranker.v2",
        "model": "cw-ranker",
        "version": "v2",
        "cluster": "ml-cluster-2",
    }
    assert {key: answer[key] for key in expected} == expected
    assert answer["replica"].startswith("ml-cluster-2-")
    assert answer.keys() >= {"revision", "latency_ms", "result"}


def test_status_lists_units_and_nodes(lab: Lab) -> None:
    status = json_of(run_lab(lab, "status", "--json"))

    assert status["runtime"] == "process"
    assert len(status["units"]) == 31
    assert {unit["state"] for unit in status["units"]} == {"running"}
    assert status["units"][0].keys() >= {"name", "role", "state", "address", "pid"}
    assert {node["node"] for node in status["nodes"]} >= {"homepage-resolver", "gateway-1", "gateway-2"}
    assert {node["acked_revision"] for node in status["nodes"]} == {status["revision"]}


def test_endpoints_name_what_stands_beside_each_caller(lab: Lab) -> None:
    where = json_of(run_lab(lab, "endpoints", "--json"))

    assert list(where["callers"]) == ["homepage", "search", "playback", "payments", "recommendations"]
    beside = where["callers"]["homepage"]
    assert [name for name, address in beside.items() if address] == ["address", "resolver", "sidecar"]
    assert len(where["gateway"]) == 2
    assert len(where["metrics"]) == 6


def test_validate_and_explain_need_no_lab() -> None:
    counts = json_of(run_lab(None, "routes", "validate", ROUTES, "--json"))
    assert counts == {"valid": True, "use_cases": 5, "model_versions": 9, "clusters": 6}

    explanation = json_of(
        run_lab(
            None,
            *("routes", "explain", "ContinueWatchingRanking", "--user", "u1", "--file", ROUTES),
            *("--context", "device=tv", "--context", "country=US", "--json"),
        )
    )
    assert (explanation["model"], explanation["version"], explanation["rule"]) == (
        "cw-ranker",
        "v2",
        "tv-north-america",
    )
    assert [(rule["rule"], rule["matched"]) for rule in explanation["rules"]] == [
        ("kids", False),
        ("tv-north-america", True),
    ]


def test_routes_are_published_listed_compared_and_rolled_back(lab: Lab, routes: Path, tmp_path: Path) -> None:
    first = json_of(run_lab(lab, "status", "--json"))["revision"]
    changed = tmp_path / "changed.yaml"
    changed.write_text(routes.read_text().replace("country: [US, CA]", "country: [US]"))

    second = json_of(run_lab(lab, "routes", "publish", str(changed), "--comment", "only the US", "--json"))["revision"]

    assert second == first + 1
    history = json_of(run_lab(lab, "routes", "history", "--json"))
    assert (history[-1]["revision"], history[-1]["comment"], history[-1]["in_force"]) == (second, "only the US", True)
    difference = json_of(run_lab(lab, "routes", "diff", str(first), str(second), "--json"))["diff"]
    assert any(line.startswith("-") and "CA" in line for line in difference)
    third = json_of(run_lab(lab, "routes", "rollback", str(first), "--json"))["revision"]
    shown = json_of(run_lab(lab, "routes", "show", str(third), "--json"))["document"]
    assert shown == json_of(run_lab(lab, "routes", "show", str(first), "--json"))["document"]


def test_of_two_publishers_from_one_revision_the_second_is_refused(lab: Lab, routes: Path) -> None:
    seen = str(json_of(run_lab(lab, "status", "--json"))["revision"])
    assert run_lab(lab, "routes", "publish", str(routes), "--expect", seen).returncode == 0

    assert f"not {seen}" in refusal(run_lab(lab, "routes", "publish", str(routes), "--expect", seen))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["call", "NoSuchThing"], "lab: NOT_FOUND: use case 'NoSuchThing'"),
        (["call", "FraudDetection"], "lab: PERMISSION_DENIED: "),
        (["call", "UpNext", "--caller", "nobody"], "lab: --caller: 'nobody' is not in this lab; there are homepage"),
        (["call", "UpNext", "--topology", "pigeon"], "lab: --topology: 'pigeon' is not up; there are direct"),
        (["call", "UpNext", "--context", "device"], "lab: --context: 'device' is not of the form field=value"),
        (["call", "UpNext", "--context", "shoe=44"], "lab: INVALID_ARGUMENT: request context: no field 'shoe'"),
        (["routes", "show", "999"], "lab: revision 999 does not exist"),
        (["routes", "publish", "no-such-file.yaml"], "lab: no-such-file.yaml: no such file"),
        (["load", "--use-case", "Nope", "--duration", "1"], "lab: --use-case: 'Nope' is not in the route table"),
        (["load", "--arrivals", "tides"], "lab: "),
        (["load", "--arrivals", "trace:no-such-file.csv"], "lab: no-such-file.csv: "),
        (["check", "no-such-folder"], "lab: "),
        (["bench", "nonsense"], "lab: bench 'nonsense' is not known"),
        (["up", "--runtime", "hovercraft"], "lab: --runtime: 'hovercraft' is not known"),
        (["up", "--topology", "pigeon"], "lab: --topology: topology 'pigeon' is not known; there are direct, gateway"),
        (["up", "--security", "hope"], "lab: --security: Input should be 'plaintext'"),
        (["up", "--spec", "no-such.toml"], "lab: "),
        (["status", "--nonsense"], "lab: "),
        (["load", "--rate", "-1"], "lab: "),
    ],
)
def test_a_users_mistake_is_one_line_and_no_verdict(lab: Lab, arguments: list[str], message: str) -> None:
    # Of commands that judge runs, status 1 says that one is invalid.
    status = 3 if arguments[0] in {"load", "check"} else 1
    assert refusal(run_lab(lab, *arguments), status=status).startswith(message)


def test_debug_shows_where_an_error_comes_from(lab: Lab) -> None:
    result = run_lab(lab, "routes", "show", "999", "--debug")

    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_without_a_lab_the_way_to_one_is_said(own_lab: Lab) -> None:
    assert "is not up: run `lab up`" in refusal(run_lab(own_lab, "status"))
