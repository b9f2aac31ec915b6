"""What a rendering loses is listed, ``--strict`` fails on it, and no file has what its program refuses."""

from pathlib import Path

import pytest

from lab.plugins.render.aws import MOST_RULES
from lab.spec import override
from tests.lab_command import json_of, refusal, run_lab
from tests.plugins.render.agreement import EVERYTHING, SPEC, documents_of, render
from tests.plugins.render.dialects import aws
from tests.plugins.render.dialects.answer import Request

PLAINTEXT = override(SPEC, security="plaintext")
ONE_USE_CASE = """
use_cases: {UpNext: {callers: [playback], api: ranking.v1, default: up-next@v1}}
models: {up-next: {versions: {v1: {cluster: c}}}}
clusters: {c: {replicas: 1}}
"""
ONLY_SECURITY = "lab.toml: security.mode: Linkerd opens TLS only between its own proxies, with its own certificates; "


@pytest.mark.parametrize("target", ["aws", "kong", "linkerd"])
def test_mutual_tls_that_a_target_lacks_is_listed_unless_the_lab_has_none(target: str) -> None:
    of_spec = [
        [each.path for each in render(target, EVERYTHING, spec).unexpressed if each.in_spec]
        for spec in (SPEC, PLAINTEXT)
    ]

    assert of_spec == [[("security", "mode")], []]


def test_kong_gets_no_field_that_it_refuses_for_grpcs() -> None:
    [document] = documents_of(render("kong", EVERYTHING))

    assert {each["protocol"] for each in document["services"]} == {"grpcs"}
    assert not [each for each in document["services"] if {"tls_verify", "client_certificate"} & each.keys()]


def test_a_rule_for_linkerd_has_at_most_the_matches_of_its_definition() -> None:
    most = {
        target: max(
            len(rule["matches"])
            for each in documents_of(render(target, EVERYTHING))
            if each["kind"] == "GRPCRoute"
            for rule in each["spec"]["rules"]
        )
        for target in ("gateway-api", "linkerd")
    }

    assert (most["linkerd"], most["gateway-api"] > 8) == (8, True)


def test_a_load_balancer_ignores_case_and_says_so() -> None:
    rendering = render("aws", EVERYTHING)

    in_capitals = Request("ranking.v1.Ranking", "Rank", {"x-routing-key": "CW-RANKER.V2"})
    assert aws.answer(documents_of(rendering), in_capitals) == {("ml-cluster-2", "CW-RANKER.V2"): 100}
    assert ("models",) in {each.path for each in rendering.unexpressed if "without regard to case" in each.reason}


def test_a_load_balancer_has_no_more_rules_than_its_quota_and_the_other_keys_are_listed() -> None:
    clusters = [f"c{number}" for number in range(MOST_RULES + 2)]
    table = {
        "use_cases": {"Rows": {"callers": ["homepage"], "api": "ranking.v1", "timeout": "1s", "default": "m@v0"}},
        "models": {"m": {"versions": {f"v{number}": {"cluster": each} for number, each in enumerate(clusters)}}},
        "clusters": {each: {"replicas": 1} for each in clusters},
    }
    rendering = render("aws", table)
    documents = documents_of(rendering)
    resources = documents[0]["Resources"].values()

    assert sum(each["Type"].endswith("::ListenerRule") for each in resources) == MOST_RULES
    without = [each.path[-1] for each in rendering.unexpressed if each.path[0] == "models" and len(each.path) == 4]
    assert without == [f"v{MOST_RULES}", f"v{MOST_RULES + 1}"]
    for version, cluster in (("v99", "c99"), (without[0], "")):
        request = Request("ranking.v1.Ranking", "Rank", {"x-routing-key": f"m.{version}"})
        assert aws.answer(documents, request) == ({(cluster, f"m.{version}"): 100} if cluster else {})


def test_strict_fails_if_only_mutual_tls_is_lost(tmp_path: Path) -> None:
    routes, out = tmp_path / "routes.yaml", tmp_path / "out"
    routes.write_text(ONE_USE_CASE)
    command = ["render", "linkerd", "--routes", routes, "--out", out, "--strict"]

    done = run_lab(None, *command)
    assert (done.returncode, out.exists()) == (1, False)
    lost, error = done.stderr.splitlines()
    assert f"{ONLY_SECURITY}its proxies speak plaintext to the models" in lost
    assert "security.mode: linkerd cannot express this: Linkerd opens TLS only" in error

    assert run_lab(None, *command, "--security", "plaintext").returncode == 0
    assert out.exists()


def test_an_option_that_cannot_be_expressed_is_named(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(ONE_USE_CASE)
    command = ["render", "linkerd", "--routes", tmp_path / "routes.yaml", "--security", "mtls"]

    assert refusal(run_lab(None, *command, "--strict", "--json")).startswith("lab: --security: security.mode: linkerd")
    [lost] = json_of(run_lab(None, *command, "--json"))["unexpressed"]
    assert (lost["file"], lost["line"], lost["field"]) == ("--security", None, "security.mode")
