from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest

from lab.client import Endpoints
from lab.errors import SpecError
from lab.transport import listen, new_server, open_channel
from models.apis import APIS
from models.context import write_context
from models.proto.caller.v1 import caller_pb2, caller_pb2_grpc
from models.proto.serving.v1 import serving_pb2
from services.caller.answers import WORDINGS, default_answer
from services.caller.config import CallerConfig, read_config
from services.caller.page_builder import PageBuilder
from services.caller.page_journal import PageJournal
from services.caller.pages import PAGES
from services.caller.service import Caller
from tests.parts import ControlPlane, Model, gateway_up, resolver_up, update, use_case

DOCUMENT: dict[str, Any] = {
    "topologies": ["gateway", "mesh"],
    "endpoints": {
        "by_role": {"resolver": ["127.0.0.1:1"], "sidecar": ["127.0.0.1:2"], "gateway": ["127.0.0.1:3"]},
        "direct": {"UpNext": {"model": "up-next", "version": "v1", "addresses": ["127.0.0.1:4"]}},
    },
    "apis": {"HomepageRows": "ranking.v1", "ContinueWatchingRanking": "ranking.v1", "FraudDetection": "fraud.v1"},
}


def context(**fields: str) -> serving_pb2.RequestContext:
    message = serving_pb2.RequestContext()
    write_context(message, fields)
    return message


@asynccontextmanager
async def homepage(control_plane: ControlPlane, model: Model, use_cases: dict[str, Any]) -> AsyncIterator[Any]:
    """The RPCs of the homepage with gateway and mesh; the model is in place of the sidecar."""
    async with resolver_up(control_plane.address) as resolver, gateway_up(control_plane.address) as gateway:
        endpoints = {"rows.v1": [model.address], "rows.v2": [model.address]}
        await control_plane.put_in_force(update(1, use_cases=use_cases, endpoints=endpoints), "resolver", "gateway")
        config = CallerConfig(
            name="homepage",
            topologies=("gateway", "mesh", "direct"),
            endpoints=Endpoints({"resolver": (resolver,), "sidecar": (model.address,), "gateway": (gateway,)}),
            apis=DOCUMENT["apis"],
            page=PAGES["homepage"],
        )
        caller = Caller(config)
        server, _ = new_server()
        caller_pb2_grpc.add_CallerServicer_to_server(caller, server)
        caller_pb2_grpc.add_PagesServicer_to_server(PageBuilder(caller, PageJournal(Path())), server)
        port = listen(server, "127.0.0.1:0")
        await server.start()
        try:
            async with open_channel(f"127.0.0.1:{port}") as channel:
                call, page = caller_pb2_grpc.CallerStub(channel).Call, caller_pb2_grpc.PagesStub(channel).GetPage
                yield SimpleNamespace(Call=call, GetPage=page)
        finally:
            await server.stop(0)
            await caller.close()


BOTH = {"HomepageRows": use_case("rows@v1"), "ContinueWatchingRanking": use_case("rows@v2")}


@pytest.mark.parametrize("topology", ["gateway", "mesh"])
async def test_a_call_reports_how_it_was_answered(topology: str, control_plane: ControlPlane, model: Model) -> None:
    async with homepage(control_plane, model, BOTH) as caller:
        request = caller_pb2.CallRequest(
            use_case="HomepageRows",
            context=context(user_id="u1", caller="liar"),
            topology=topology,
            payload_bytes=8_000,
        )
        result = await caller.Call(request)
    assert (result.use_case, result.topology, result.routing_key) == ("HomepageRows", topology, "rows.v1")
    assert (result.revision, result.source, result.error) == (1, "model", "")
    assert (result.answered_by.version, result.answered_by.replica) == ("v1", "r1")
    assert result.latency_ms > 0
    assert result.result.startswith("t")
    assert result.result.endswith("and 7 more")
    [(envelope, _)] = model.seen
    assert (envelope.context.caller, envelope.request_id) == ("homepage", result.request_id)


@pytest.mark.parametrize("topology", ["", "mesh"])
async def test_a_page_has_a_section_for_each_use_case(topology: str, control_plane: ControlPlane, model: Model) -> None:
    async with homepage(control_plane, model, BOTH) as caller:
        page = await caller.GetPage(caller_pb2.GetPageRequest(context=context(user_id="u1"), topology=topology))
    assert [(section.use_case, section.routing_key, section.error) for section in page.sections] == [
        ("HomepageRows", "rows.v1", ""),
        ("ContinueWatchingRanking", "rows.v2", ""),
    ]
    assert {section.topology for section in page.sections} == {topology or "gateway"}


@pytest.mark.parametrize("topology", ["gateway", "mesh"])
async def test_a_section_may_fail_alone(topology: str, control_plane: ControlPlane, model: Model) -> None:
    model.holds.discard("rows.v2")
    async with homepage(control_plane, model, BOTH) as caller:
        page = await caller.GetPage(caller_pb2.GetPageRequest(context=context(user_id="u1"), topology=topology))
    good, bad = page.sections
    assert (good.error, good.source) == ("", "model")
    assert (bad.use_case, bad.routing_key, bad.source) == ("ContinueWatchingRanking", "rows.v2", "")
    assert bad.error.startswith("FAILED_PRECONDITION: ")
    assert "rows.v2" in bad.error


@pytest.mark.parametrize("topology", ["gateway", "mesh"])
async def test_the_status_of_a_call_is_the_inference_calls_own(
    topology: str, control_plane: ControlPlane, model: Model
) -> None:
    async with homepage(control_plane, model, BOTH) as caller:
        with pytest.raises(grpc.aio.AioRpcError, match="Nonsense") as caught:
            await caller.Call(caller_pb2.CallRequest(use_case="Nonsense", topology=topology))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        unreal = serving_pb2.RequestContext(traffic_origin=7)  # type: ignore[arg-type]  # protobuf lets it through
        for ask in (
            caller.Call(caller_pb2.CallRequest(use_case="HomepageRows", topology=topology, context=unreal)),
            caller.GetPage(caller_pb2.GetPageRequest(topology=topology, context=unreal)),
        ):
            with pytest.raises(grpc.aio.AioRpcError, match="traffic_origin: 7 is not known") as caught:
                await ask
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        model.failure = (grpc.StatusCode.RESOURCE_EXHAUSTED, "over the limit")
        with pytest.raises(grpc.aio.AioRpcError, match=r"rows\.v1.*over the limit") as caught:
            await caller.Call(caller_pb2.CallRequest(use_case="HomepageRows", topology=topology))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(("topology", "reason"), [("pigeon", "homepage has gateway, mesh"), ("direct", "no addresses")])
async def test_a_topology_that_cannot_be_used_is_an_invalid_argument(
    topology: str, reason: str, control_plane: ControlPlane, model: Model
) -> None:
    async with homepage(control_plane, model, BOTH) as caller:
        for call in (
            caller.Call(caller_pb2.CallRequest(use_case="HomepageRows", topology=topology)),
            caller.GetPage(caller_pb2.GetPageRequest(topology=topology)),
        ):
            with pytest.raises(grpc.aio.AioRpcError, match=reason) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_every_api_has_a_wording_for_its_answers() -> None:
    assert set(APIS) == set(WORDINGS)
    for api in APIS.values():
        request = api.build_request(400)
        response = default_answer("X", request, {})
        assert isinstance(response, api.unary.response_class)
        assert WORDINGS[api.name].line(response).startswith(api.first_item(response)[0])


def written(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "caller.json"
    path.write_text(json.dumps({name: value for name, value in {**DOCUMENT, **changes}.items() if value is not None}))
    return path


def test_a_configuration_is_read_completely(tmp_path: Path) -> None:
    config = read_config("homepage", written(tmp_path))
    assert config.page == (("HomepageRows", "ContinueWatchingRanking"),)
    assert config.topologies == ("gateway", "mesh")
    assert config.endpoints.address_of("resolver") == "127.0.0.1:1"
    assert config.endpoints.addresses_of("gateway") == ("127.0.0.1:3",)
    assert config.endpoints.direct["UpNext"].addresses == ("127.0.0.1:4",)
    assert read_config("generic", written(tmp_path, page=[["UpNext"], ["A", "B"]])).page == (("UpNext",), ("A", "B"))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"topologies": ["pigeon"]}, r"topology 'pigeon' is not known; there are direct"),
        ({"topologies": []}, r"topologies: give at least one"),
        ({"apis": {"A": "soap.v1"}}, r"API 'soap.v1' is not known"),
        ({"endpoints": None}, r"endpoints is missing"),
        ({"endpoints": {"direct": {"A": {}}}}, r"model is missing"),
        ({"apis": 3}, r"caller.json"),
        ({"colour": "red"}, r"field 'colour' is not known"),
    ],
)
def test_a_bad_configuration_is_refused_with_place_and_reason(
    changes: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=rf"caller\.json: .*{complaint}|{complaint}"):
        read_config("homepage", written(tmp_path, **changes))


def test_a_caller_without_a_plan_of_its_own_needs_one(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"caller 'kids' has no plan of its own"):
        read_config("kids", written(tmp_path))
    path = tmp_path / "caller.json"
    path.write_text("{")
    with pytest.raises(SpecError, match="cannot be read as JSON"):
        read_config("kids", path)
