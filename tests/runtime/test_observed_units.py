"""Units of containers and pods get what traces and logs need, as processes do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import CHECKOUT
from lab.errors import SpecError
from lab.plugins.kubernetes.manifests import manifests
from lab.plugins.kubernetes.naming import Setting
from lab.plugins.kubernetes.site import FileSite
from lab.roles import COLLECTOR, CONTROL_PLANE, Plan, Site, plan
from lab.routing.document import read_path
from lab.runtime.compose import document
from lab.runtime.compose.__main__ import fixed_site
from lab.spec import override, read_spec
from lab.transport import logs
from lab.transport.trace_settings import VARIABLE, TraceSettings
from tests.manifests import problems

CERTIFICATE = dict.fromkeys(("cert.pem", "key.pem", "ca.pem", "term.json"), "…")


def planned(site: Site, **options: Any) -> Plan:
    spec = override(read_spec(CHECKOUT / "lab.toml"), **options)
    return plan(spec, read_path(spec.routes), site)


def compose_services(layout: Plan, site: Any) -> dict[str, Any]:
    setting = document.Setting(
        project="lab-test",
        image="lab",
        base_image="base",
        subnet=site.subnet,
        hosts=site.hosts,
        security="mtls",
        context="..",
        title="test",
        how_made="",
        file="compose.yaml",
        identities="/pki",
    )
    services: dict[str, Any] = yaml.safe_load(document.render(layout, setting))["services"]
    return services


def kubernetes_objects(layout: Plan) -> list[dict[str, Any]]:
    setting = Setting(
        lab="mini",
        namespace="lab",
        image="registry.example/lab@sha256:" + "0" * 64,
        security="mtls",
        routes={},
        attended=True,
        secrets=dict.fromkeys([unit.name for unit in layout.units] + ["operator"], CERTIFICATE),
    )
    return manifests(layout, setting)


def environments(objects: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    pods = [each["spec"]["template"]["spec"] for each in objects if each["kind"] in ("Deployment", "StatefulSet")]
    containers = [it for pod in pods for it in (*pod.get("initContainers", ()), *pod["containers"])]
    return {it["name"]: {each["name"]: each.get("value", "") for each in it.get("env", ())} for it in containers}


def settings_of(environment: dict[str, str]) -> TraceSettings:
    found = TraceSettings.of(environment)
    assert found is not None
    return found


def test_services_know_where_their_spans_go_and_how_they_log() -> None:
    layout = planned(fixed_site(), traces=0.01, log_format="json")

    for unit in layout.units:
        is_traced = unit.argv[0] == "python" and unit.role not in (CONTROL_PLANE, COLLECTOR)
        assert (VARIABLE in unit.environment) is is_traced
        assert unit.environment.get(logs.VARIABLE) == (unit.name if unit.argv[0] == "python" else None)
    where = layout.unit(COLLECTOR).port.inside
    for name, service in {
        "homepage": "homepage",
        "homepage-resolver": "homepage-resolver",
        "gateway-2": "gateway",
        "ml-cluster-1-b": "ml-cluster-1",
    }.items():
        assert settings_of(dict(layout.unit(name).environment)) == TraceSettings(where, COLLECTOR, 0.01, service, name)


def test_envoys_trace_by_themselves_and_log_with_the_same_keys() -> None:
    layout = planned(fixed_site(), traces=0.01, log_format="json")
    plain = planned(fixed_site())

    for name in ("homepage-sidecar", "central-envoy"):
        bootstrap = yaml.safe_load(layout.unit(name).files["envoy.yaml"])
        [requests] = [each for each in bootstrap["static_resources"]["listeners"] if each["name"] == "requests"]
        manager = requests["filter_chains"][0]["filters"][0]["typed_config"]
        assert manager["tracing"]["random_sampling"] == {"value": 1.0}
        assert manager["tracing"]["provider"]["typed_config"]["service_name"] == name
        [traces] = [each for each in bootstrap["static_resources"]["clusters"] if each["name"] == "traces"]
        assert "spiffe://lab.internal/collector/collector" in json.dumps(traces["transport_socket"])
        form = bootstrap["application_log_config"]["log_format"]["json_format"]
        assert form.keys() == {"time", "level", "logger", "message", "unit"}
        text = plain.unit(name).files["envoy.yaml"]
        assert "tracing" not in text
        assert "traces" not in text


def test_a_receiver_of_the_users_takes_the_place_of_the_collector() -> None:
    layout = planned(fixed_site(), otlp="collector.example:4317")

    assert not layout.with_role(COLLECTOR)
    settings = settings_of(dict(layout.unit("homepage").environment))
    assert settings == TraceSettings("collector.example:4317", "", 1.0, "homepage", "homepage")
    bootstrap = yaml.safe_load(layout.unit("homepage-sidecar").files["envoy.yaml"])
    [traces] = [each for each in bootstrap["static_resources"]["clusters"] if each["name"] == "traces"]
    assert (traces["type"], "transport_socket" in traces) == ("STRICT_DNS", False)


def test_a_receiver_with_tls_must_prove_its_name_to_every_unit(tmp_path: Path) -> None:
    pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    (tmp_path / "ca.pem").write_text(pem)
    layout = planned(fixed_site(), otlp="https://collector.example:4317", otlp_ca=tmp_path / "ca.pem")

    settings = settings_of(dict(layout.unit("homepage").environment))
    assert settings == TraceSettings("collector.example:4317", "", 1.0, "homepage", "homepage", pem)
    bootstrap = yaml.safe_load(layout.unit("homepage-sidecar").files["envoy.yaml"])
    [traces] = [each for each in bootstrap["static_resources"]["clusters"] if each["name"] == "traces"]
    secured = traces["transport_socket"]["typed_config"]
    assert secured["sni"] == "collector.example"
    assert secured["common_tls_context"]["validation_context"] == {
        "trusted_ca": {"inline_string": pem},
        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "collector.example"}}],
    }


def test_containers_get_the_variables_of_their_units_beside_their_own() -> None:
    site = fixed_site()
    layout = planned(site, traces=1.0, log_format="json")

    services = compose_services(layout, site)

    for unit in layout.units:
        environment = services[unit.name]["environment"]
        assert environment["LAB_SECURITY"] == "mtls"
        assert environment.items() >= unit.environment.items()
    assert set(services[COLLECTOR]["profiles"]) == set(services[CONTROL_PLANE]["profiles"])


def test_pods_get_them_too_and_may_reach_the_collector() -> None:
    layout = planned(FileSite(Path(), {}), traces=1.0, log_format="json")

    objects = kubernetes_objects(layout)

    assert problems(objects) == []
    found = environments(objects)
    for unit in layout.units:
        assert found[unit.name].items() >= unit.environment.items()
    assert VARIABLE in found["driver"]
    [policy] = [
        each["spec"]
        for each in objects
        if each["kind"] == "NetworkPolicy" and COLLECTOR in json.dumps(each["spec"]["podSelector"])
    ]
    admitted = json.dumps(policy["ingress"])
    assert all(role in admitted for role in ("caller", "gateway", "model", "central-envoy"))
    assert CONTROL_PLANE not in admitted


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"otlp": "http://collector:4317"}, "--otlp: 'http://collector:4317' is not an address; write HOST:PORT"),
        ({"otlp": "collector:99999"}, "--otlp: 'collector:99999' is not an address"),
        ({"otlp": "https://collector:4317"}, "--otlp: a receiver with TLS is https://HOST:PORT, and needs the certi"),
        ({"otlp": "collector:4317", "otlp_ca": CHECKOUT / "lab.toml"}, "lab.toml: has no certificate; name a file of"),
        ({"otlp": "https://c:4317", "otlp_ca": Path("nowhere.pem")}, "--otlp-ca: nowhere.pem: cannot be read: No such"),
        ({"traces": 2.0}, "--traces: Input should be less than or equal to 1"),
        ({"log_format": "xml"}, "--log-format: Input should be 'text' or 'json'"),
        ({"topologies": ["nowhere"]}, "--topology: "),
    ],
)
def test_a_wrong_option_is_named_with_its_remedy(options: dict[str, Any], line: str) -> None:
    with pytest.raises(SpecError, match=re.escape(line)):
        override(read_spec(CHECKOUT / "lab.toml"), **options)
