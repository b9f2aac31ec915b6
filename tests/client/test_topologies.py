import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc
import pytest

from lab.client import DirectTarget, Endpoints
from lab.errors import CallError, InputError, SpecError
from lab.topologies import TOPOLOGIES, open_client
from models.apis import APIS
from models.context import origin_name
from models.scoring import scores
from tests.client.addresses import everything, ready
from tests.parts import ControlPlane, Model, rank_request, update, use_case

CONTEXT = {"user_id": "u1", "device": "tv", "traffic_origin": "artificial"}
TOPOLOGY_NAMES = sorted(TOPOLOGIES)
RULED = [name for name in TOPOLOGY_NAMES if TOPOLOGIES[name].capabilities.follows_rules]


@pytest.fixture
async def endpoints(control_plane: ControlPlane, model: Model) -> AsyncIterator[Endpoints]:
    use_cases = {"HomepageRows": use_case("rows@v1"), "Payments": use_case("rows@v1", callers=("payments",))}
    rules = update(7, use_cases=use_cases, versions={"rows.v1": {"depth": 3}})
    rules.endpoints.add(routing_key="rows.v1", addresses=[model.address])
    async with everything(
        control_plane, model, rules, HomepageRows=DirectTarget("rows", "v1", (model.address,))
    ) as addresses:
        yield addresses


@pytest.mark.parametrize("topology", TOPOLOGY_NAMES)
async def test_a_use_case_is_answered_by_its_model(topology: str, endpoints: Endpoints, model: Model) -> None:
    async with ready(topology, endpoints) as client:
        answer = await client.call("HomepageRows", rank_request(), {**CONTEXT, "caller": "somebody else"})

    assert (answer.source, answer.routing_key, answer.attempts) == ("model", "rows.v1", 1)
    assert answer.revision == (7 if topology in RULED else 0)
    expected = max(scores("rows", "v1", "u1", [title.id for title in rank_request().titles]))
    assert APIS["ranking.v1"].first_item(answer.response)[1] == expected
    [(envelope, metadata)] = model.seen
    assert (answer.request_id, "HomepageRows") == (envelope.request_id, envelope.use_case)
    assert (
        envelope.context.user_id,
        envelope.context.device,
        envelope.context.caller,
        envelope.context.traffic_origin,
    ) == ("u1", "tv", "homepage", 2)
    assert ("rows.v1", answer.request_id) == (metadata["x-routing-key"], metadata["x-request-id"])
    if topology in RULED:
        assert envelope.model_config.parameters["depth"] == 3


@pytest.mark.parametrize("topology", TOPOLOGY_NAMES)
async def test_a_stream_is_answered_item_by_item(topology: str, endpoints: Endpoints) -> None:
    async with ready(topology, endpoints) as client:
        answers = [answer async for answer in client.stream("HomepageRows", rank_request(), CONTEXT)]
    assert len(answers) == 10
    assert {(answer.routing_key, answer.revision, answer.attempts) for answer in answers} == {
        ("rows.v1", 7 if topology in RULED else 0, 1)
    }
    ranked = [answer.response.title.score for answer in answers]
    assert sorted(ranked, reverse=True) == ranked


@pytest.mark.parametrize("topology", TOPOLOGY_NAMES)
async def test_a_stream_that_is_left_early_leaves_nothing_behind(topology: str, endpoints: Endpoints) -> None:
    async with ready(topology, endpoints) as client:
        answers = client.stream("HomepageRows", rank_request(), CONTEXT)
        assert (await anext(answers)).source == "model"
        assert isinstance(answers, AsyncGenerator)
        await answers.aclose()


@pytest.mark.parametrize("topology", TOPOLOGY_NAMES)
async def test_an_unknown_use_case_is_not_found(topology: str, endpoints: Endpoints) -> None:
    async with ready(topology, endpoints) as client:
        with pytest.raises(CallError, match="Nonsense") as caught:
            await client.call("Nonsense", rank_request(), CONTEXT)
    assert caught.value.code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("topology", RULED)
async def test_a_caller_that_may_not_ask_is_refused(topology: str, endpoints: Endpoints) -> None:
    async with ready(topology, endpoints) as client:
        with pytest.raises(CallError, match=r"homepage.*Payments") as caught:
            await client.call("Payments", rank_request(), CONTEXT)
        with pytest.raises(CallError, match="Payments"):
            await anext(client.stream("Payments", rank_request(), CONTEXT))
    assert caught.value.code is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("topology", TOPOLOGY_NAMES)
@pytest.mark.parametrize("code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL])
async def test_a_models_error_comes_with_its_status_and_the_key(
    topology: str, code: grpc.StatusCode, endpoints: Endpoints, model: Model
) -> None:
    model.failure = (code, "the model's own words")
    async with ready(topology, endpoints) as client:
        with pytest.raises(CallError, match=r"HomepageRows \(rows.v1\): the model's own words") as caught:
            await client.call("HomepageRows", rank_request(), CONTEXT)
        with pytest.raises(CallError, match=r"HomepageRows \(rows.v1\): the model's own words"):
            await anext(client.stream("HomepageRows", rank_request(), CONTEXT))
    assert (code, "rows.v1", 1) == (caught.value.code, caught.value.routing_key, caught.value.attempts)


@pytest.mark.parametrize("topology", RULED)
async def test_an_answer_that_is_too_late_is_a_missed_deadline(
    topology: str, control_plane: ControlPlane, endpoints: Endpoints, model: Model
) -> None:
    hurried = update(8, use_cases={"HomepageRows": use_case("rows@v1", timeout="30ms")}, full=False)
    await control_plane.put_in_force(hurried, "resolver", "gateway")
    model.before_answer = asyncio.Event().wait
    async with ready(topology, endpoints) as client:
        with pytest.raises(CallError, match=r"rows.v1.*no answer within 30 ms") as caught:
            await client.call("HomepageRows", rank_request(), CONTEXT)
    assert (caught.value.code, caught.value.revision) == (grpc.StatusCode.DEADLINE_EXCEEDED, 8)


@pytest.mark.parametrize("topology", RULED)
async def test_a_tear_is_tried_once_more_and_then_reported(topology: str, endpoints: Endpoints, model: Model) -> None:
    model.holds.clear()
    async with ready(topology, endpoints) as client:
        with pytest.raises(CallError, match=r"rows\.v1") as caught:
            await client.call("HomepageRows", rank_request(), CONTEXT)
        assert (caught.value.code, caught.value.attempts) == (grpc.StatusCode.FAILED_PRECONDITION, 2)
        assert len(model.seen) == 2
        with pytest.raises(CallError, match=r"rows\.v1"):
            await anext(client.stream("HomepageRows", rank_request(), CONTEXT))
        assert len(model.seen) == 4


@pytest.mark.parametrize("topology", TOPOLOGY_NAMES)
@pytest.mark.parametrize("origin", ["real", "artificial", ""])
async def test_origin_and_tenant_reach_the_model_whole_or_as_a_stream(
    topology: str, origin: str, endpoints: Endpoints
) -> None:
    context = {**CONTEXT, "traffic_origin": origin, "tenant": "ads"}
    async with ready(topology, endpoints) as client:
        answers = [await client.call("HomepageRows", rank_request(), context)]
        answers += [item async for item in client.stream("HomepageRows", rank_request(), context)]
    assert {(origin_name(answer.response.answered_by), answer.response.answered_by.tenant) for answer in answers} == {
        (origin, "ads")
    }


@pytest.mark.parametrize("topology", TOPOLOGY_NAMES)
@pytest.mark.parametrize(
    ("tenant", "header"), [("ads", "ads"), ("Kinder & Märchen", "Kinder%20%26%20M%C3%A4rchen"), ("", "%")]
)
async def test_only_a_central_envoy_gets_the_tenant_in_a_header(
    topology: str, tenant: str, header: str, endpoints: Endpoints, model: Model
) -> None:
    async with ready(topology, endpoints) as client:
        await client.call("HomepageRows", rank_request(), {**CONTEXT, "tenant": tenant})
    [(_, metadata)] = model.seen
    limited = topology in {"gateway-header", "picker", "picker-body", "picker-closed"}
    assert (header if limited else None) == metadata.get("x-tenant")


@pytest.mark.parametrize("topology", RULED)
async def test_a_tear_is_mended_by_a_second_attempt(topology: str, endpoints: Endpoints, model: Model) -> None:
    model.holds.clear()

    async def load() -> None:
        if len(model.seen) % 2 == 0:
            model.holds.add("rows.v1")

    model.before_answer = load
    async with ready(topology, endpoints) as client:
        answer = await client.call("HomepageRows", rank_request(), CONTEXT)
        assert (answer.routing_key, answer.revision, answer.attempts) == ("rows.v1", 7, 2)
        model.holds.clear()
        items = [item async for item in client.stream("HomepageRows", rank_request(), CONTEXT)]
        assert {item.attempts for item in items} == {2}


async def test_direct_does_not_follow_a_move(endpoints: Endpoints, model: Model) -> None:
    model.holds.clear()
    async with ready("direct", endpoints) as client:
        with pytest.raises(CallError, match=r"rows\.v1") as caught:
            await client.call("HomepageRows", rank_request(), CONTEXT)
    assert (caught.value.code, caught.value.attempts) == (grpc.StatusCode.FAILED_PRECONDITION, 1)


@pytest.mark.parametrize("topology", TOPOLOGY_NAMES)
@pytest.mark.parametrize("context", [{"colour": "red"}, {"traffic_origin": "unreal"}, {"device": 7}])
async def test_an_impossible_context_is_an_invalid_argument(
    topology: str, context: dict[str, Any], endpoints: Endpoints
) -> None:
    async with ready(topology, endpoints) as client:
        with pytest.raises(CallError, match="HomepageRows") as caught:
            await client.call("HomepageRows", rank_request(), context)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_message_of_no_api_is_an_invalid_argument(endpoints: Endpoints) -> None:
    async with ready("direct", endpoints) as client:
        with pytest.raises(CallError, match=r"RankResponse.*RankRequest"):
            await client.call("HomepageRows", APIS["ranking.v1"].unary.response_class(), CONTEXT)
        with pytest.raises(CallError, match=r"fraud.v1 has no streaming"):
            await anext(client.stream("HomepageRows", APIS["fraud.v1"].build_request(4), CONTEXT))


@pytest.mark.parametrize("topology", TOPOLOGY_NAMES)
async def test_one_request_can_be_sent_many_times_at_once(topology: str, endpoints: Endpoints, model: Model) -> None:
    request = rank_request()
    async with ready(topology, endpoints) as client:
        users = [f"u{number}" for number in range(30)]
        answers = await asyncio.gather(
            *(client.call("HomepageRows", request, {"user_id": user}, request_id=f"id-{user}") for user in users)
        )
    assert [f"id-{user}" for user in users] == [answer.request_id for answer in answers]
    for user, answer in zip(users, answers, strict=True):
        ranked = [title.score for title in answer.response.titles]
        assert sorted(scores("rows", "v1", user, [title.id for title in request.titles]), reverse=True) == ranked
    assert sorted(f"id-{user}" for user in users) == sorted(envelope.request_id for envelope, _ in model.seen)


@pytest.mark.parametrize("topology", TOPOLOGY_NAMES)
async def test_a_missing_address_is_named(topology: str) -> None:
    with pytest.raises(SpecError, match=f"topology {topology}: no address"):
        open_client(topology, "homepage", Endpoints())


async def test_an_unknown_topology_names_those_that_exist() -> None:
    with pytest.raises(InputError, match=r"'carrier-pigeon' is not known; there are direct, gateway"):
        open_client("carrier-pigeon", "homepage", Endpoints())


async def test_request_ids_are_unique(endpoints: Endpoints) -> None:
    async with ready("direct", endpoints) as one, ready("direct", endpoints) as other:
        ids = [client.new_request_id() for client in (one, other) for _ in range(100)]
    assert len(set(ids)) == len(ids)
