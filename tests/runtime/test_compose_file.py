from __future__ import annotations

import shutil
import subprocess
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
import yaml

from lab import CHECKOUT
from lab.runtime.compose.__main__ import fixed_site, standalone_document, standalone_files
from tests.missing import missing

FILE = CHECKOUT / "compose" / "compose.yaml"
DOCUMENT = yaml.safe_load(FILE.read_text())
SERVICES = DOCUMENT["services"]
UNITS = {name: service for name, service in SERVICES.items() if not name.endswith("-pod") and name != "first-revision"}


def test_the_checked_in_file_is_what_the_plan_says() -> None:
    assert standalone_document(fixed_site()) == FILE.read_text(), "run `make compose-file`"


def test_so_are_the_files_beside_it(tmp_path: Path) -> None:
    standalone_files(fixed_site(), tmp_path)

    kept = {path.name: path.read_text() for path in (FILE.parent / "files").iterdir()}
    assert {path.name: path.read_text() for path in (tmp_path / "files").iterdir()} == kept, "run `make compose-file`"


@pytest.mark.parametrize(
    ("profile", "there", "absent"),
    [
        ("gateway", "gateway-1", "homepage-sidecar"),
        ("gateway-header", "central-envoy", "homepage-sidecar"),
        ("mesh", "homepage-sidecar", "gateway-1"),
        ("proxyless", "homepage-resolver", "homepage-sidecar"),
        ("all", "homepage-sidecar", ""),
    ],
)
def test_docker_compose_takes_it_and_each_profile_stands_up_what_its_topology_needs(
    profile: str, there: str, absent: str
) -> None:
    if shutil.which("docker") is None:
        missing("no docker command")
    command = ["docker", "compose", "--file", str(FILE), "--profile", profile, "config", "--services"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unknown" in run.stderr:
        missing("no compose plugin")
    assert run.returncode == 0, run.stderr

    services = run.stdout.split()

    assert {"control-plane", "ml-cluster-1-a", "homepage", "homepage-pod", "first-revision", there} <= set(services)
    assert absent not in services


def test_caller_resolver_and_sidecar_share_the_network_of_a_holder_and_of_nobody_else() -> None:
    for unit in ("homepage", "homepage-resolver", "homepage-sidecar"):
        assert UNITS[unit]["network_mode"] == "service:homepage-pod"
        assert "ports" not in UNITS[unit]
        assert "networks" not in UNITS[unit]
    assert SERVICES["homepage-pod"]["command"] == ["sleep", "infinity"]
    assert "network_mode" not in UNITS["gateway-1"]


def test_every_unit_is_bounded_watched_and_without_privileges() -> None:
    for name, service in UNITS.items():
        assert service["init"] is True, name
        assert service["cpus"] > 0, name
        assert service["mem_limit"].endswith("m"), name
        assert service["healthcheck"]["test"][1] == "healthcheck", name
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True, name
        assert service["user"] == "10001:10001", name
        assert service["restart"] == "no", name
    assert "USER lab" in (CHECKOUT / "compose" / "Dockerfile").read_text()


def test_an_envoy_is_healthy_once_it_says_that_it_is_ready_and_all_others_by_their_own_port() -> None:
    checks = {name: service["healthcheck"]["test"][2:] for name, service in UNITS.items()}

    envoys = {name for name in checks if name.endswith("-sidecar") or name == "central-envoy"}
    assert {tuple(checks.pop(name)) for name in envoys} == {("http", "9003", "/ready")}
    assert {how for how, *_ in checks.values()} <= {"grpc", "tcp"}


def test_the_first_routes_wait_until_each_unit_that_is_always_there_is_healthy_but_callers() -> None:
    waits_for = SERVICES["first-revision"]["depends_on"]

    profiles = SERVICES["first-revision"]["profiles"]
    asked = {name for name, unit in UNITS.items() if unit["profiles"] == profiles and "network_mode" not in unit}
    assert {"control-plane", "ml-cluster-1-a"} <= waits_for.keys() == asked
    assert {each["condition"] for each in waits_for.values()} == {"service_healthy"}


def test_every_port_is_published_on_loopback_only_and_once() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert len(published) > 30
    assert {port.split(":")[0] for port in published} == {"127.0.0.1"}
    assert len({port.split(":")[1] for port in published}) == len(published)


def test_every_address_is_its_own_in_the_benchmarking_range_and_out_of_the_way_of_guests() -> None:
    [config] = DOCUMENT["networks"]["lab"]["ipam"]["config"]
    subnet, guests = IPv4Network(config["subnet"]), IPv4Network(config["ip_range"])
    addresses = [
        IPv4Address(service["networks"]["lab"]["ipv4_address"])
        for service in SERVICES.values()
        if isinstance(service.get("networks"), dict)
    ]

    assert subnet.subnet_of(IPv4Network("198.18.0.0/15"))
    assert len(set(addresses)) == len(addresses) == 21
    assert all(address in subnet and address not in guests for address in addresses)


def test_no_command_speaks_of_an_address_that_nobody_has() -> None:
    addresses = {
        service["networks"]["lab"]["ipv4_address"]
        for service in SERVICES.values()
        if isinstance(service.get("networks"), dict)
    }
    spoken = {
        word.rsplit(":", 1)[0]
        for service in SERVICES.values()
        for word in str(service["command"]).split()
        if word.startswith("198.")
    }

    assert spoken
    assert spoken <= addresses
