"""An Envoy's key filter behind its TLS, which takes a certificate if any of its URIs may come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from envoy.config.core.v3 import extension_pb2
from envoy.extensions.filters.http.lua.v3 import lua_pb2

from lab.identity import Identity
from lab.identity.authority import Authority, folder_of
from lab.identity.envoy import sds_files, sockets_of
from services.controlplane.xds.key_guard import key_list, shared_key_list
from services.controlplane.xds.resources import Resource
from tests.envoys import envoy_of
from tests.forging import forged
from tests.negative.wire import Answer, Wire, tls_context

KEY = (b"x-routing-key", b"cw-ranker.v1")
HOMEPAGE, SEARCH, OPERATOR = Identity("caller", "homepage"), Identity("caller", "search"), Identity("operator", "cli")
FILTERS = {
    "sidecar": key_list(["cw-ranker.v1"]),
    "central-envoy": shared_key_list(["cw-ranker.v1"], {"homepage": ["cw-ranker.v1"]}, {}),
}
# Envoy's status for a direct response to a gRPC request.
PASSED = ("UNKNOWN", "passed")
REFUSED = ("PERMISSION_DENIED", "your certificate names 2 identities; exactly one is accepted")
_TYPES = "type.googleapis.com/envoy.extensions.filters"


def _script(of: Resource) -> str:
    wrapper, lua = extension_pb2.TypedExtensionConfig(), lua_pb2.Lua()
    assert of.body.Unpack(wrapper)
    assert wrapper.typed_config.Unpack(lua)
    return str(lua.default_source_code.inline_string)


def _config(script: str, socket: str) -> dict[str, object]:
    answered = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "passed"}}}
    lua = {"@type": f"{_TYPES}.http.lua.v3.Lua", "default_source_code": {"inline_string": script}}
    connections = {
        "@type": f"{_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "requests",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [answered]}]},
        "http_filters": [
            {"name": "keys", "typed_config": lua},
            {"name": "router", "typed_config": {"@type": f"{_TYPES}.http.router.v3.Router"}},
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": connections}]
    chain = {"transport_socket": json.loads(socket), "filters": filters}
    here = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    listener = {"name": "requests", "address": here, "filter_chains": [chain]}
    return {"admin": {"address": here}, "static_resources": {"listeners": [listener]}}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("authority") / "pki", lifetime_s=3600)


@pytest.fixture(params=FILTERS)
async def address(request: pytest.FixtureRequest, authority: Authority, tmp_path: Path) -> AsyncIterator[str]:
    authority.issue("envoy", Identity("central-envoy", "central-envoy"), {"127.0.0.1"})
    for name, text in sds_files(str(folder_of(authority.folder, "envoy"))).items():
        (tmp_path / name).write_text(text)
    config = _config(_script(FILTERS[request.param]), sockets_of(str(tmp_path), "")["listener_socket"])
    async with envoy_of(json.dumps(config), tmp_path, "envoy") as envoy:
        yield envoy.address


@pytest.mark.parametrize(
    ("identities", "expected"),
    [
        ([HOMEPAGE], PASSED),
        ([HOMEPAGE, SEARCH], REFUSED),
        ([OPERATOR, SEARCH], REFUSED),
    ],
    ids=["one", "two", "the operator's and another"],
)
async def test_a_certificate_must_name_exactly_one(
    address: str, authority: Authority, identities: list[Identity], expected: tuple[str, str]
) -> None:
    security = forged(authority, "client", identities)

    def ask() -> Answer:
        with Wire(address, tls_context(security)) as wire:
            return wire.ask(KEY)

    answer = await asyncio.to_thread(ask)

    assert (answer.status, answer.reason) == expected
