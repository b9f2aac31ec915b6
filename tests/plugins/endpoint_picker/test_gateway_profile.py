"""Every check of a gateway passes on an Envoy configured as the topology is, and fails on one with its bug."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from lab.errors import InputError, UnitError
from lab.plugins.conform import Control, Result, Target
from lab.plugins.conform.profile import PROFILES, ProfileOptions
from lab.plugins.endpoint_picker.conformance import gateway_checks, gateway_stage
from lab.plugins.endpoint_picker.conformance.gateway_checks import CHECKS
from lab.plugins.endpoint_picker.conformance.gateway_profile import run
from lab.plugins.endpoint_picker.conformance.reference_gateway import configuration
from lab.plugins.endpoint_picker.contract import DESTINATION
from lab.roles._envoy import envoy_address
from tests.envoys import envoy_of
from tests.ports import free_port, free_row

Spec = dict[str, Any]
TYPES = "type.googleapis.com/envoy.extensions"


def manager(spec: Spec) -> Spec:
    found: Spec = spec["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    return found


def asks(spec: Spec) -> Spec:
    """The filter that asks the picker."""
    found: Spec = next(each for each in manager(spec)["http_filters"] if each["name"] == "picker")["typed_config"]
    return found


def routes(spec: Spec) -> list[Spec]:
    found: list[Spec] = manager(spec)["route_config"]["virtual_hosts"][0]["routes"]
    return found


def balancers(spec: Spec) -> list[Spec]:
    pools = spec["static_resources"]["clusters"][:-1]
    return [each["load_balancing_policy"]["policies"][0]["typed_extension_config"]["typed_config"] for each in pools]


def with_lua(spec: Spec, code: str, *, before: str) -> None:
    filters = manager(spec)["http_filters"]
    place = next(number for number, each in enumerate(filters) if each["name"] == before)
    config = {"@type": f"{TYPES}.filters.http.lua.v3.Lua", "default_source_code": {"inline_string": code}}
    filters.insert(place, {"name": "bug", "typed_config": config})


def ignores_the_pick(spec: Spec) -> None:
    for each in balancers(spec):
        each["override_host_sources"] = [{"header": "x-something-else"}]


def does_not_retry(spec: Spec) -> None:
    for each in routes(spec):
        del each["route"]["retry_policy"]


def walks_no_list(spec: Spec) -> None:
    code = f"""function envoy_on_request(handle)
  local metadata = handle:streamInfo():dynamicMetadata()
  local pick = (metadata:get("envoy.lb") or {{}})["{DESTINATION}"]
  if pick then metadata:set("envoy.lb", "{DESTINATION}", pick:match("[^,]*")) end
end"""
    with_lua(spec, code, before="router")


def tells_no_subset(spec: Spec) -> None:
    for each in routes(spec):
        each["typed_per_filter_config"].pop("subset", None)


def sends_differing_picks_anywhere(spec: Spec) -> None:
    code = f"""function envoy_on_request(handle)
  local metadata = handle:streamInfo():dynamicMetadata()
  local pick = (metadata:get("envoy.lb") or {{}})["{DESTINATION}"]
  if pick ~= handle:headers():get("{DESTINATION}") then metadata:set("envoy.lb", "{DESTINATION}", "none") end
end"""
    with_lua(spec, code, before="router")


def dials_whatever_the_header_says(spec: Spec) -> None:
    for each in spec["static_resources"]["clusters"][:-1]:
        for name in ("load_balancing_policy", "load_assignment"):
            del each[name]
        options = {"use_http_header": True, "http_header_name": DESTINATION}
        each |= {"type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "original_dst_lb_config": options}


def dials_what_clients_say(spec: Spec) -> None:
    dials_whatever_the_header_says(spec)
    removes_the_header_too_late(spec)


def does_not_say_who_served(spec: Spec) -> None:
    for each in balancers(spec):
        del each["selected_host_key"]


def says_the_pick_served(spec: Spec) -> None:
    """As the pick is in the same namespace, under another key."""
    for each in balancers(spec):
        each["selected_host_key"]["path"][0]["key"] = "somewhere-else"


def believes_clients(spec: Spec) -> None:
    filters = manager(spec)["http_filters"]
    filters[:] = [each for each in filters if each["name"] != "forged"]
    for each in balancers(spec):
        each["override_host_sources"].append({"header": DESTINATION})


def removes_the_header_too_late(spec: Spec) -> None:
    filters = manager(spec)["http_filters"]
    filters[:] = [each for each in filters if each["name"] != "forged"]


def changes_bodies(spec: Spec) -> None:
    code = """function envoy_on_request(handle)
  local body = handle:body()
  if body and body:length() > 1000 then body:setBytes(body:getBytes(0, body:length() - 1) .. "z") end
end"""
    with_lua(spec, code, before="router")


def buffers_answers(spec: Spec) -> None:
    with_lua(spec, "function envoy_on_response(handle) handle:body() end", before="router")


def never_opens(spec: Spec) -> None:
    for each in routes(spec):
        each["typed_per_filter_config"].pop("picker", None)


def always_opens(spec: Spec) -> None:
    asks(spec)["failure_mode_allow"] = True


def waits_for_ever(spec: Spec) -> None:
    asks(spec)["message_timeout"] = "60s"


MUTANTS: list[tuple[Callable[[Spec], None], str]] = [
    (ignores_the_pick, "pick"),
    (does_not_retry, "fallback"),
    (walks_no_list, "fallback"),
    (tells_no_subset, "subset"),
    (sends_differing_picks_anywhere, "header-not-metadata"),
    (dials_whatever_the_header_says, "outside-pool"),
    (does_not_say_who_served, "served"),
    (says_the_pick_served, "served"),
    (believes_clients, "forged"),
    (removes_the_header_too_late, "forged"),
    (dials_what_clients_say, "forged"),
    (changes_bodies, "body"),
    (buffers_answers, "streaming"),
    *((never_opens, f"fail-open-{how}") for how in ("dead", "slow", "nonsense")),
    *((always_opens, f"fail-close-{how}") for how in ("dead", "slow", "nonsense")),
    (waits_for_ever, "fail-open-slow"),
    (waits_for_ever, "fail-close-slow"),
]


async def results_of(folder: Path, *checks: str, change: Callable[[Spec], None] = lambda _: None) -> list[Result]:
    """What these checks find in an Envoy whose configuration is changed so."""
    target = Target.of(f"127.0.0.1:{free_port()}")
    options = ProfileOptions(header="x-routing-key", checks=checks, send={})
    async with AsyncExitStack() as running:

        async def apply(document: Mapping[str, Any]) -> None:
            spec = {**configuration(document, ""), "admin": {"address": envoy_address("127.0.0.1:0")}}
            change(spec)
            await running.enter_async_context(envoy_of(json.dumps(spec), folder, "gateway"))

        return await run(target, options, control=Control(name="changed", apply=apply))


async def test_an_envoy_as_the_topology_has_it_passes(tmp_path: Path) -> None:
    results = {each.feature: (each.verdict, each.reason) for each in await results_of(tmp_path)}
    assert results == dict.fromkeys(CHECKS, ("pass", ""))


@pytest.mark.parametrize(
    ("bug", "check"), MUTANTS, ids=[f"{bug.__name__.replace('_', ' ')}: {check}" for bug, check in MUTANTS]
)
async def test_a_bug_is_caught_by_the_check_meant_for_it(
    tmp_path: Path, bug: Callable[[Spec], None], check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (gateway_checks, gateway_stage):
        monkeypatch.setattr(module, "FAILS_WITHIN_S", 1.5)  # three times the gateway's own
    monkeypatch.setattr(gateway_checks, "TIMEOUT_S", 1.5)
    [result] = await results_of(tmp_path, check, change=bug)
    assert (result.verdict, bool(result.reason)) == ("fail", True), result


def test_every_check_has_a_mutant_and_the_profile_is_known() -> None:
    assert {check for _, check in MUTANTS} == set(CHECKS)
    assert PROFILES["endpoint-picker"].run is run


async def test_what_cannot_be_tried_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="check 'pik' is not known; there are pick, fallback"):
        await results_of(tmp_path, "pik")
    target = Target.of(f"127.0.0.1:{free_port()}")
    with pytest.raises(UnitError, match=r"not ready within 0.1 s: last UNAVAILABLE .* does not ask the picker"):
        await run(target, ProfileOptions(header="x-routing-key", send={}, wait_s=0.1, first_port=free_row()))
