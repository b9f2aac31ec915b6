from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from lab.transport import listen, new_server, open_channel
from models.proto.control.v1 import rules_pb2
from models.proto.fraud.v1 import fraud_pb2, fraud_pb2_grpc
from models.proto.ranking.v1 import ranking_pb2, ranking_pb2_grpc
from models.proto.serving.v1 import serving_pb2
from services.gateway.request import decision_of
from services.rules import RuleSet, decisions_of
from tests.parts import ControlPlane, Hold, Model, gateway_up, rank_request, update, use_case
from tests.raw_calls import server_stream, unary
from tests.waiting import eventually

ROWS = {"HomepageRows": use_case("rows@v1")}
DECIDED = {"x-routing-key": "rows.v1", "x-revision": "4", "x-timeout-ms": "5000"}


def asking(name: str = "HomepageRows", caller: str = "homepage", **envelope: Any) -> ranking_pb2.RankRequest:
    request = rank_request()
    context = serving_pb2.RequestContext(caller=caller, user_id="u1")
    request.envelope.CopyFrom(serving_pb2.Envelope(use_case=name, context=context, **envelope))
    return request


@asynccontextmanager
async def gateway_with(
    control_plane: ControlPlane, message: rules_pb2.RulesUpdate, **options: Any
) -> AsyncIterator[ranking_pb2_grpc.RankingAsyncStub]:
    """A gateway that has the update in force."""
    async with gateway_up(control_plane.address, **options) as address, ranking(address) as gateway:
        await control_plane.put_in_force(message, "gateway")
        yield gateway


def rows_at(*models: Model, revision: int = 1, **more: Any) -> rules_pb2.RulesUpdate:
    return update(revision, use_cases=ROWS, endpoints={"rows.v1": [model.address for model in models]}, **more)


@asynccontextmanager
async def ranking(address: str) -> AsyncIterator[ranking_pb2_grpc.RankingAsyncStub]:
    async with open_channel(address) as channel:
        yield ranking_pb2_grpc.RankingStub(channel)


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


async def test_any_client_that_names_a_use_case_reaches_its_model(control_plane: ControlPlane, model: Model) -> None:
    message = rows_at(model, revision=4, versions={"rows.v1": {"depth": 2}})
    async with gateway_with(control_plane, message) as gateway:
        false_config = serving_pb2.ModelConfig(model="rows", version="v2")
        call = gateway.Rank(asking(model_config=false_config))
        assert (await call).answered_by.version == "v1"
        assert dict(await call.trailing_metadata()) == DECIDED
        [(envelope, metadata)] = model.seen
        assert (envelope.model_config.version, envelope.model_config.parameters["depth"]) == ("v1", 2)
        assert metadata["x-request-id"] == envelope.request_id == "gateway-00000001"


async def test_staged_rules_decide_for_their_callers_alone_until_they_end(
    control_plane: ControlPlane, model: Model
) -> None:
    callers = ("homepage", "search")
    places = {key: [model.address] for key in ("rows.v1", "rows.v2")}
    message = update(3, use_cases={"HomepageRows": use_case("rows@v1", callers=callers)}, endpoints=places)
    later = update(4, use_cases={"HomepageRows": use_case("rows@v2", callers=callers)})
    staged = rules_pb2.StagedRules(callers=["homepage"], revision=4, use_cases=later.use_cases)
    staged.model_versions.extend(later.model_versions)
    message.staged.CopyFrom(staged)

    async def decided(gateway: ranking_pb2_grpc.RankingAsyncStub, caller: str) -> tuple[str, str]:
        call = gateway.Rank(asking(caller=caller))
        metadata = dict(await call.trailing_metadata())
        return (await call).answered_by.version, str(metadata["x-revision"])

    async with gateway_with(control_plane, message) as gateway:
        assert [await decided(gateway, each) for each in callers] == [("v2", "4"), ("v1", "3")]
        over = rules_pb2.RulesUpdate(revision=3, staged=rules_pb2.StagedRules())
        await control_plane.put_in_force(over, "gateway")
        assert [await decided(gateway, each) for each in callers] == [("v1", "3")] * 2


def test_what_a_decision_says_of_a_use_case_is_by_the_rules_for_its_caller() -> None:
    """Queues before a pick go by the priority, pickers that predict by the SLO."""
    before = use_case("rows@v1", callers=("homepage", "search"))
    after = {**before, "priority": 7, "slo": {"first_token": "1s"}}
    message = update(3, use_cases={"A": before})
    staged = rules_pb2.StagedRules(
        callers=["homepage"], revision=4, use_cases=update(4, use_cases={"A": after}).use_cases
    )
    message.staged.CopyFrom(staged)
    decisions = decisions_of(RuleSet().updated(message), decision_of)

    found = [decisions.look_up("A", {"caller": each, "user_id": "u1"}) for each in ("homepage", "search")]
    assert [(each.priority, each.slo.first_ms) for each in found] == [(7, 1_000), (0, 0)]


async def test_every_api_is_carried(control_plane: ControlPlane) -> None:
    async with (
        Model("fraud.v1").up() as model,
        gateway_up(control_plane.address) as address,
        open_channel(address) as channel,
    ):
        message = update(
            1,
            use_cases={"FraudDetection": use_case("fraud@v1", api="fraud.v1")},
            endpoints={"fraud.v1": [model.address]},
        )
        await control_plane.put_in_force(message, "gateway")
        envelope = asking("FraudDetection").envelope
        request = fraud_pb2.ScoreRequest(envelope=envelope, payment=fraud_pb2.Payment(id="p1"))
        answer = await fraud_pb2_grpc.FraudStub(channel).Score(request)
        assert (answer.payment_id, answer.answered_by.model) == ("p1", "fraud")
        assert (await refused(unary(channel, "/fraud.v1.Fraud/Explain")(b"")))[0] is grpc.StatusCode.UNIMPLEMENTED


def unread(request: ranking_pb2.RankRequest) -> tuple[bytes, tuple[tuple[str, bytes]]]:
    """A request that the gateway does not parse: the envelope in a header, the rest as bytes."""
    envelope = request.envelope.SerializeToString()
    request.ClearField("envelope")
    return request.SerializeToString(), (("x-envelope-bin", envelope),)


async def test_an_unreadable_payload_is_passed_on_unchanged(control_plane: ControlPlane) -> None:
    arrived = []

    async def read(payload: bytes, context: Any) -> bytes:
        arrived.append((payload, dict(context.invocation_metadata())))
        return b"\xff no protobuf either"

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(read)
    server, _ = new_server(handlers=[grpc.method_handlers_generic_handler("ranking.v1.Ranking", {"Rank": handler})])
    port = listen(server, "127.0.0.1:0")
    await server.start()
    async with gateway_up(control_plane.address) as address, open_channel(address) as channel:
        await control_plane.put_in_force(
            update(4, use_cases=ROWS, endpoints={"rows.v1": [f"127.0.0.1:{port}"]}), "gateway"
        )
        _, metadata = unread(asking(request_id="mine"))
        call = unary(channel, "/ranking.v1.Ranking/Rank")(b"\xff\xff garbage", metadata=metadata)
        assert await call == b"\xff no protobuf either"
        assert dict(await call.trailing_metadata()) == DECIDED
    await server.stop(0)
    [(payload, seen)] = arrived
    assert payload.startswith(b"\xff\xff garbage")
    behind = ranking_pb2.RankRequest.FromString(payload.removeprefix(b"\xff\xff garbage"))
    envelope = behind.envelope
    assert (envelope.request_id, envelope.use_case, envelope.context.user_id) == ("mine", "HomepageRows", "u1")
    assert (envelope.model_config.model, envelope.model_config.version) == ("rows", "v1")
    assert (seen["x-routing-key"], seen["x-request-id"]) == ("rows.v1", "mine")
    assert "x-envelope-bin" not in seen


async def test_the_gateways_envelope_overrides_the_payloads(control_plane: ControlPlane, model: Model) -> None:
    async with gateway_up(control_plane.address) as address, open_channel(address) as channel:
        message = rows_at(model, revision=4, versions={"rows.v1": {"depth": 2}})
        await control_plane.put_in_force(message, "gateway")
        said = asking("Payments", "payments", model_config=serving_pb2.ModelConfig(model="rows", version="v2"))
        _, metadata = unread(asking())
        await unary(channel, "/ranking.v1.Ranking/Rank")(said.SerializeToString(), metadata=metadata)
    [(envelope, _)] = model.seen
    assert (envelope.use_case, envelope.context.caller) == ("HomepageRows", "homepage")
    assert (envelope.model_config.version, envelope.model_config.parameters["depth"]) == ("v1", 2)
    assert envelope.request_id == "gateway-00000001"


async def test_a_header_that_is_no_envelope_is_an_invalid_argument(control_plane: ControlPlane) -> None:
    async with gateway_up(control_plane.address) as address, open_channel(address) as channel:
        metadata = (("x-envelope-bin", b"\xff"),)
        code, message = await refused(unary(channel, "/ranking.v1.Ranking/Rank")(b"", metadata=metadata))
        assert (code, message) == (grpc.StatusCode.INVALID_ARGUMENT, "x-envelope-bin: not a serving.v1.Envelope")
        stream = server_stream(channel, "/ranking.v1.Ranking/RankStream")(b"", metadata=metadata)
        assert (await refused(anext(aiter(stream))))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_envelope_in_the_body_adds_nothing_to_the_one_in_the_header(
    control_plane: ControlPlane, model: Model
) -> None:
    async with gateway_with(control_plane, rows_at(model)) as gateway:
        _, metadata = unread(asking())
        request = rank_request()
        request.envelope.context.tenant, request.envelope.context.override = "ads", "rows@v2"
        request.envelope.model_config.parameters["depth"] = 9
        unary = await gateway.Rank(request, metadata=metadata)
        [stream, *_] = [item async for item in gateway.RankStream(request, metadata=metadata)]

    assert (unary.answered_by.tenant, stream.answered_by.tenant) == ("", "")
    assert len(unary.titles) == len(request.titles)
    for envelope, _ in model.seen:
        assert envelope.context == serving_pb2.RequestContext(caller="homepage", user_id="u1")
        assert not envelope.model_config.parameters.fields


async def test_a_use_case_of_another_api_is_refused(control_plane: ControlPlane, model: Model) -> None:
    fraud = {"FraudDetection": {**use_case("rows@v1"), "api": "fraud.v1"}}
    message = update(1, use_cases={**ROWS, **fraud}, endpoints={"rows.v1": [model.address]})
    async with gateway_with(control_plane, message) as gateway:
        for answer in (gateway.Rank(asking("FraudDetection")), gateway.RankStream(asking("FraudDetection")).read()):
            assert await refused(answer) == (
                grpc.StatusCode.INVALID_ARGUMENT,
                "use case 'FraudDetection' is of fraud.v1 by the route table; call that, not ranking.v1",
            )

    assert not model.seen


async def test_refusals_name_the_use_case_or_the_key_and_the_reason(control_plane: ControlPlane) -> None:
    async with gateway_up(control_plane.address) as address, ranking(address) as gateway:
        code, message = await refused(gateway.Rank(asking()))
        assert code is grpc.StatusCode.UNAVAILABLE
        assert message == "use case 'HomepageRows': gateway gateway has no rules yet"

        await control_plane.put_in_force(update(1, use_cases=ROWS), "gateway")
        code, message = await refused(gateway.Rank(asking("Nonsense")))
        assert code is grpc.StatusCode.NOT_FOUND
        assert "'Nonsense'" in message
        code, message = await refused(gateway.Rank(asking(caller="search")))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "'search' may not ask for use case 'HomepageRows'" in message
        unreal = asking()
        unreal.envelope.context.traffic_origin = 7  # type: ignore[assignment]  # protobuf lets it through
        assert await refused(gateway.Rank(unreal)) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "HomepageRows: traffic_origin: 7 is not known; write 'real' or 'artificial'",
        )
        code, message = await refused(gateway.Rank(asking()))
        assert code is grpc.StatusCode.UNAVAILABLE
        assert message == "HomepageRows (rows.v1): no healthy replica"


async def test_a_replica_that_cannot_be_reached_is_unavailable(control_plane: ControlPlane) -> None:
    async with Model("rows.v1").up() as gone:
        pass
    async with gateway_with(control_plane, rows_at(gone)) as gateway:
        code, message = await refused(gateway.Rank(asking()))
        assert code is grpc.StatusCode.UNAVAILABLE
        assert message.startswith("HomepageRows (rows.v1): ")


async def test_the_callers_own_deadline_holds_if_it_is_shorter(control_plane: ControlPlane, model: Model) -> None:
    model.before_answer = hold = Hold()
    async with gateway_with(control_plane, rows_at(model)) as gateway, asyncio.timeout(10):
        code, _ = await refused(gateway.Rank(asking(), timeout=0.05))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        await hold.ended.wait()


async def test_a_caller_that_gives_up_cancels_the_models_work(
    control_plane: ControlPlane, model: Model, tmp_path: Path
) -> None:
    model.before_answer = hold = Hold()
    log = tmp_path / "access.jsonl"
    async with gateway_with(control_plane, rows_at(model), log=log) as gateway, asyncio.timeout(10):
        call = asyncio.create_task(_ask(gateway))
        await hold.begun.wait()
        call.cancel()
        await hold.ended.wait()
    assert [json.loads(line)["status"] for line in log.read_text().splitlines()] == ["CANCELLED"]


async def _ask(gateway: ranking_pb2_grpc.RankingAsyncStub) -> str:
    return (await gateway.Rank(asking())).answered_by.replica


async def test_the_access_log_has_a_line_a_request(control_plane: ControlPlane, model: Model, tmp_path: Path) -> None:
    log = tmp_path / "access.jsonl"
    async with gateway_with(control_plane, rows_at(model, revision=6), log=log) as gateway:
        await gateway.Rank(asking(request_id="r1"))
        await refused(gateway.Rank(asking("Nonsense", request_id="r2")))
        assert len([item async for item in gateway.RankStream(asking(request_id="r3"))]) == 10
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [
        tuple(line[field] for field in ("request_id", "use_case", "caller", "routing_key", "revision", "status"))
        for line in lines
    ] == [
        ("r1", "HomepageRows", "homepage", "rows.v1", 6, "OK"),
        ("r2", "Nonsense", "homepage", "", 0, "NOT_FOUND"),
        ("r3", "HomepageRows", "homepage", "rows.v1", 6, "OK"),
    ]
    assert all(line["ms"] > 0 and line["time"] > 0 for line in lines)


async def test_a_replica_that_is_acknowledged_gets_the_next_request(control_plane: ControlPlane) -> None:
    async with gateway_with(control_plane, update(1, use_cases=ROWS)) as gateway:
        for number in range(10):
            async with Model("rows.v1", replica=f"r{number}").up() as model:
                moved = update(1, endpoints={"rows.v1": [model.address]}, full=False)
                await control_plane.put_in_force(moved, "gateway")
                assert await _ask(gateway) == f"r{number}"


async def test_requests_are_spread_over_the_replicas_and_leave_out_dead_ones(control_plane: ControlPlane) -> None:
    async with Model("rows.v1", replica="living").up() as living, AsyncExitStack() as stack:
        dying = Model("rows.v1", replica="dying")
        async with dying.up():
            gateway = await stack.enter_async_context(gateway_with(control_plane, rows_at(living, dying)))

            async def some_replicas() -> set[str]:
                return {await _ask(gateway) for _ in range(4)}

            await eventually("both are asked", some_replicas, until={"living", "dying"}.__eq__)
        assert {await _ask(gateway) for _ in range(20)} == {"living"}


async def test_a_model_moves_under_load_and_no_request_fails(control_plane: ControlPlane) -> None:
    async with gateway_up(control_plane.address) as address, ranking(address) as gateway, AsyncExitStack() as models:
        served: dict[str, int] = {}
        done = False

        async def load() -> None:
            while not done:
                replica = await _ask(gateway)
                served[replica] = served.get(replica, 0) + 1

        old = [await models.enter_async_context(Model("rows.v1", replica="r0").up(drained=True))]
        await control_plane.put_in_force(
            update(1, use_cases=ROWS, endpoints={"rows.v1": [model.address for model in old]}), "gateway"
        )
        loads = [asyncio.create_task(load()) for _ in range(8)]
        for move in range(1, 9):
            async with AsyncExitStack() as retired:
                new_models = AsyncExitStack()
                new = [
                    await new_models.enter_async_context(Model("rows.v1", replica=f"r{move}").up(drained=True))
                    for _ in range(1 + move % 2)
                ]
                moved = update(1, endpoints={"rows.v1": [model.address for model in new]}, full=False)
                await control_plane.put_in_force(moved, "gateway")
                # Once it is acknowledged, the old replicas may go: they finish what they have.
                retired.push_async_exit(models.pop_all())
                models.push_async_exit(new_models)
            await eventually(f"move {move} is served", partial(served.get, f"r{move}"))
        done = True
        await asyncio.gather(*loads)
        assert {f"r{move}" for move in range(1, 9)} <= set(served)


SHADOWED = {"HomepageRows": use_case("rows@v1", shadow={"use": "rows@v2", "percent": 100})}


async def test_a_shadow_that_never_answers_delays_no_request_and_is_limited(
    control_plane: ControlPlane, model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        Model("rows.v2").up() as shadow,
        gateway_up(control_plane.address, copies_limit=3) as address,
        ranking(address) as gateway,
    ):
        shadow.before_answer = asyncio.Event().wait
        endpoints = {"rows.v1": [model.address], "rows.v2": [shadow.address]}
        await control_plane.put_in_force(update(1, use_cases=SHADOWED, endpoints=endpoints), "gateway")
        for number in range(8):
            call = gateway.Rank(asking(request_id=f"r{number}"))
            assert (await call).answered_by.version == "v1"
            assert dict(await call.trailing_metadata())["x-shadow-key"] == "rows.v2"
        await eventually("the copies have come", lambda: len(shadow.seen), until=lambda seen: seen == 3)
        assert [envelope.request_id for envelope, _ in shadow.seen] == ["r0", "r1", "r2"]
    assert "shadow copy dropped (1 so far): 3 copies are in flight already" in caplog.text


async def test_a_shadow_that_is_dead_or_fails_changes_no_answer(
    control_plane: ControlPlane, model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        Model("rows.v2").up() as shadow,
        gateway_up(control_plane.address) as address,
        ranking(address) as gateway,
    ):
        endpoints = {"rows.v1": [model.address]}
        await control_plane.put_in_force(update(1, use_cases=SHADOWED, endpoints=endpoints), "gateway")
        assert await _ask(gateway) == "r1"
        assert "rows.v2 has no healthy replica" in caplog.text
        shadow.failure = (grpc.StatusCode.INTERNAL, "no")
        endpoints["rows.v2"] = [shadow.address]
        await control_plane.put_in_force(update(1, use_cases=SHADOWED, endpoints=endpoints), "gateway")
        assert await _ask(gateway) == "r1"
        assert len([item async for item in gateway.RankStream(asking())]) == 10
        await eventually("the copies have come", lambda: len(shadow.seen), until=lambda seen: seen == 2)


async def test_a_copy_is_sent_unchanged(control_plane: ControlPlane, model: Model) -> None:
    async with (
        Model("rows.v2").up() as shadow,
        gateway_up(control_plane.address) as address,
        ranking(address) as gateway,
    ):
        endpoints = {"rows.v1": [model.address], "rows.v2": [shadow.address]}
        await control_plane.put_in_force(update(1, use_cases=SHADOWED, endpoints=endpoints), "gateway")
        request = asking(request_id="big")
        request.titles[0].features.extend([0.5] * 1_000_000)
        await gateway.Rank(request)
        await eventually("the copy has come", lambda: shadow.seen)
    [(original, _)], [(copy, metadata)] = model.seen, shadow.seen
    assert original == copy
    assert tuple(metadata[name] for name in ("x-routing-key", "x-shadow", "x-request-id")) == ("rows.v2", "copy", "big")
    assert [each.payload_floats * 4 for each in (model, shadow)] == [4_000_000] * 2
