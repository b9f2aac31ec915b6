"""An Envoy before a picker, configured as the topology ``picker`` is: what a gateway under test may look like."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from lab.plugins.conform.control import Control, Document
from lab.plugins.endpoint_picker.contract import DESTINATION, NAMESPACE, SERVED, SUBSET, SUBSET_NAMESPACE
from lab.plugins.endpoint_picker.envoy import cluster, filters
from lab.roles._envoy import envoy_address
from services.renderer.child import Child

NAME = "picking-envoy"
_REMEDY = "install the lab as its README says, Envoy comes with it"
_TYPES = "type.googleapis.com/envoy"
_RETRIES = 5
_GRACE_S = 2.0

Spec = dict[str, Any]


def control(change: Callable[[Spec], None] = lambda _: None) -> Control:
    """Starts it on the address under test.

    Args:
        change: of its configuration, before it starts.
    """
    child = Child()

    async def apply(document: Document) -> None:
        bootstrap = configuration(document, str(child.folder / "admin.sock"))
        change(bootstrap)
        file = child.folder / "envoy.json"
        file.write_text(json.dumps(bootstrap))
        flags = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "error")
        child.run(("envoy", "--config-path", str(file), *flags), remedy=_REMEDY)
        await child.listening(child.folder / "admin.sock")

    async def close() -> None:
        await child.stop(_GRACE_S)

    return Control(name=NAME, apply=apply, close=close)


def configuration(document: Mapping[str, Any], admin: str) -> Spec:
    """Its bootstrap, for pools as :meth:`.gateway_stage.GatewayStage.needed` has them."""
    pools = document["pools"]
    pickers = {pool["picker"] for pool in pools.values()}
    [picker] = pickers
    manager = {
        "@type": f"{_TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "pools",
        "codec_type": "HTTP2",
        "stream_idle_timeout": "0s",
        "http_filters": [
            {
                "name": "subset",
                "typed_config": {
                    "@type": f"{_TYPES}.extensions.filters.http.lua.v3.Lua",
                    "default_source_code": {"inline_string": "-- no subset"},
                },
            },
            *filters(fails_open=False),
            {
                "name": "router",
                "typed_config": {"@type": f"{_TYPES}.extensions.filters.http.router.v3.Router"},
            },
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "pools",
                    "domains": ["*"],
                    "routes": [_route(document["header"], key, pool) for key, pool in pools.items()],
                }
            ]
        },
    }
    listener = {
        "name": "requests",
        "address": envoy_address(document["address"]),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    upstreams = [_pool(key, pool) for key, pool in pools.items()]
    return {
        "admin": {"address": {"pipe": {"path": admin}}},
        "static_resources": {
            "listeners": [listener],
            "clusters": [*upstreams, cluster(envoy_address(picker), "STATIC", None)],
        },
    }


def _route(header: str, key: str, pool: Mapping[str, Any]) -> Spec:
    overrides: Spec = {}
    if pool["failure"] == "FailOpen":
        overrides["picker"] = {
            "@type": f"{_TYPES}.extensions.filters.http.ext_proc.v3.ExtProcPerRoute",
            "overrides": {"failure_mode_allow": True},
        }
    if "subset" in pool:
        members = ", ".join(json.dumps(each) for each in pool["subset"])
        overrides["subset"] = {
            "@type": f"{_TYPES}.extensions.filters.http.lua.v3.LuaPerRoute",
            "source_code": {
                "inline_string": "function envoy_on_request(handle)\n"
                f'  handle:streamInfo():dynamicMetadata():set("{SUBSET_NAMESPACE}", "{SUBSET}", {{{members}}})\n'
                "end\n"
            },
        }
    return {
        "match": {"prefix": "/", "headers": [{"name": header, "string_match": {"exact": key}}]},
        "typed_per_filter_config": overrides,
        "route": {
            "cluster": key,
            "timeout": "0s",
            "retry_policy": {
                "retry_on": "connect-failure",
                "num_retries": _RETRIES,
                "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.008s"},
            },
        },
    }


def _pool(key: str, pool: Mapping[str, Any]) -> Spec:
    endpoints = [{"endpoint": {"address": envoy_address(each["address"])}} for each in pool["endpoints"]]
    policies = f"{_TYPES}.extensions.load_balancing_policies"
    override = {
        "@type": f"{policies}.override_host.v3.OverrideHost",
        "override_host_sources": [{"metadata": _metadata(DESTINATION)}],
        "selected_host_key": _metadata(SERVED),
        "fallback_policy": {"policies": [_policy("round_robin", {"@type": f"{policies}.round_robin.v3.RoundRobin"})]},
    }
    return {
        "name": key,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_balancing_policy": {"policies": [_policy("override_host", override)]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {"cluster_name": key, "endpoints": [{"lb_endpoints": endpoints}]},
    }


def _metadata(key: str) -> Spec:
    return {"key": NAMESPACE, "path": [{"key": key}]}


def _policy(name: str, config: Spec) -> Spec:
    return {"typed_extension_config": {"name": f"envoy.load_balancing_policies.{name}", "typed_config": config}}
