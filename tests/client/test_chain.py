"""Fallbacks, tears, pinned requests and shadows: the same in every topology."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest

from lab.client import Answer, Client
from lab.errors import CallError
from lab.routing.attempts import RequestAttempts
from lab.routing.buckets import is_shadowed
from lab.topologies import TOPOLOGIES
from models.proto.ranking.v1 import ranking_pb2
from models.proto.serving.v1 import serving_pb2
from tests.client.addresses import everything, ready
from tests.parts import ControlPlane, Model, rank_request, update, use_case
from tests.waiting import eventually

CONTEXT = {"user_id": "u1"}
RULED = sorted(each.name for each in TOPOLOGIES.values() if each.capabilities.follows_rules)
GATEWAYS = [name for name in RULED if not TOPOLOGIES[name].decides_at_caller]
MESHES = [name for name in RULED if TOPOLOGIES[name].decides_at_caller]
# Elsewhere an Envoy makes the copies, of requests that are marked.
COPYING = [name for name in RULED if TOPOLOGIES[name].capabilities.shadow_by in {"caller", "gateway"}]
KEYS = ("rows.v1", "rows.v2", "rows.v3")
CHAIN = use_case("rows@v1", fallback=["rows@v2", "rows@v1", "rows@v3"])
GONE = (grpc.StatusCode.UNAVAILABLE, "gone")


@pytest.fixture
async def model() -> AsyncIterator[Model]:
    async with Model(*KEYS).up() as running:
        yield running


@asynccontextmanager
async def opened(
    topology: str, control_plane: ControlPlane, model: Model, document: dict[str, Any], **options: Any
) -> AsyncIterator[Client]:
    """A client, with a resolver, a gateway, and the model in place of each Envoy."""
    rules = update(7, use_cases={"HomepageRows": document}, endpoints={key: [model.address] for key in KEYS})
    async with everything(control_plane, model, rules) as endpoints, ready(topology, endpoints, **options) as client:
        yield client


async def ask(client: Client, request_id: str = "", **context: str) -> Answer:
    return await client.call("HomepageRows", rank_request(), CONTEXT | context, request_id=request_id)


async def refused(call: Any) -> CallError:
    with pytest.raises(CallError) as caught:
        await call
    return caught.value


def unranked(use_case: str, request: Any, context: Mapping[str, str]) -> ranking_pb2.RankResponse:
    del use_case, context
    return ranking_pb2.RankResponse(titles=[ranking_pb2.RankedTitle(id=request.titles[0].id)])


def described(answer: Answer) -> tuple[str, str, int, int]:
    return answer.source, answer.routing_key, answer.revision, answer.attempts


@pytest.mark.parametrize("topology", RULED)
@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL", "UNKNOWN"])
async def test_the_next_version_answers_when_the_chosen_one_fails(
    topology: str, code: str, control_plane: ControlPlane, model: Model
) -> None:
    failure = (grpc.StatusCode[code], "no")
    async with opened(topology, control_plane, model, CHAIN) as client:
        assert described(await ask(client)) == ("model", "rows.v1", 7, 1)
        model.failures["rows.v1"] = failure
        answer = await ask(client)
        assert described(answer) == ("fallback", "rows.v2", 7, 2)
        assert answer.response.answered_by.version == "v2"
        model.failures["rows.v2"] = failure
        assert described(await ask(client)) == ("fallback", "rows.v3", 7, 3)


@pytest.mark.parametrize("topology", RULED)
@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "PERMISSION_DENIED", "NOT_FOUND"])
async def test_a_refusal_is_not_retried(topology: str, code: str, control_plane: ControlPlane, model: Model) -> None:
    model.failures["rows.v1"] = (grpc.StatusCode[code], "no")
    async with opened(topology, control_plane, model, CHAIN, default_answer=unranked) as client:
        error = await refused(ask(client))
    assert (error.code.name, error.routing_key, error.attempts) == (code, "rows.v1", 1)
    assert len(model.seen) == 1


@pytest.mark.parametrize("topology", RULED)
async def test_when_the_whole_chain_fails_the_caller_answers_by_default(
    topology: str, control_plane: ControlPlane, model: Model
) -> None:
    model.failures = dict.fromkeys(KEYS, GONE)
    async with opened(topology, control_plane, model, CHAIN) as client:
        error = await refused(ask(client))
        assert (error.code, error.routing_key, error.attempts) == (grpc.StatusCode.UNAVAILABLE, "rows.v3", 3)
        assert error.message == (
            "HomepageRows (rows.v3): gone; before that rows.v1: UNAVAILABLE; before that rows.v2: UNAVAILABLE"
        )
    async with opened(topology, control_plane, model, CHAIN, default_answer=unranked) as client:
        answer = await ask(client, "mine")
        assert (answer.source, answer.routing_key, answer.revision, answer.request_id) == ("default", "", 0, "mine")
        assert answer.response.titles[0].id == "t00"


@pytest.mark.parametrize("topology", RULED)
async def test_without_a_chain_a_failure_is_reported(topology: str, control_plane: ControlPlane, model: Model) -> None:
    model.failures["rows.v1"] = GONE
    async with opened(topology, control_plane, model, use_case("rows@v1"), default_answer=unranked) as client:
        assert (await refused(ask(client))).code is grpc.StatusCode.UNAVAILABLE
    # A chain that the chosen version is all of ends with it.
    alone = use_case("rows@v1", fallback=["rows@v1"])
    async with opened(topology, control_plane, model, alone, default_answer=unranked) as client:
        assert (await ask(client)).source == "default"


@pytest.mark.parametrize("topology", RULED)
async def test_the_whole_chain_has_one_deadline(topology: str, control_plane: ControlPlane, model: Model) -> None:
    model.before_answer = asyncio.Event().wait
    # Without replica signals, as here, a client that picks waits 250 ms for those of each key at first.
    hurried = CHAIN | {"timeout": "1s" if topology == "mesh-picker" else "100ms"}
    async with opened(topology, control_plane, model, hurried) as client:
        error = await refused(ask(client))
        assert (error.code, error.attempts) == (grpc.StatusCode.DEADLINE_EXCEEDED, 1)
    async with opened(topology, control_plane, model, hurried, default_answer=unranked) as client:
        assert (await ask(client)).source == "default"
    assert len(model.seen) == 2


@pytest.mark.parametrize("topology", RULED)
async def test_a_stream_falls_back_before_its_first_item(
    topology: str, control_plane: ControlPlane, model: Model
) -> None:
    model.failures["rows.v1"] = GONE
    async with opened(topology, control_plane, model, CHAIN) as client:
        items = [item async for item in client.stream("HomepageRows", rank_request(), CONTEXT)]
        assert {described(item) for item in items} == {("fallback", "rows.v2", 7, 2)}
        assert len(items) == 10


@pytest.mark.parametrize("topology", RULED)
async def test_a_stream_that_has_begun_is_not_retried(topology: str, control_plane: ControlPlane, model: Model) -> None:
    model.break_after = 3
    async with opened(topology, control_plane, model, CHAIN) as client:
        items = client.stream("HomepageRows", rank_request(), CONTEXT)
        for _ in range(3):
            await anext(items)
        error = await refused(anext(items))
    assert (error.code, len(model.seen)) == (grpc.StatusCode.UNAVAILABLE, 1)


@pytest.mark.parametrize("topology", GATEWAYS)
async def test_a_gateway_skips_a_version_without_a_replica(
    topology: str, control_plane: ControlPlane, model: Model
) -> None:
    async with opened(topology, control_plane, model, CHAIN) as client:
        await control_plane.put_in_force(update(7, full=False, removed_endpoints=["rows.v1"]), "gateway")
        assert described(await ask(client)) == ("fallback", "rows.v2", 7, 1)


PINNABLE = CHAIN | {"override": ["homepage"], "shadow": {"use": "rows@v3", "percent": 100}}


@pytest.mark.parametrize("topology", RULED)
async def test_a_pinned_request_gets_its_version_or_none(
    topology: str, control_plane: ControlPlane, model: Model
) -> None:
    async with opened(topology, control_plane, model, PINNABLE, default_answer=unranked) as client:
        for _ in range(2):
            assert described(await ask(client)) == ("model", "rows.v1", 7, 1)
            answer = await ask(client, override="rows@v3")
            assert (*described(answer), answer.shadow) == ("model", "rows.v3", 7, 1, "")
            assert described(await ask(client, override="")) == ("model", "rows.v1", 7, 1)
        error = await refused(ask(client, override="rows@v9"))
        assert error.code is grpc.StatusCode.NOT_FOUND
        assert "rows@v9" in error.message
        model.failures["rows.v3"] = GONE
        assert (await refused(ask(client, override="rows@v3"))).attempts == 1


@pytest.mark.parametrize("topology", RULED)
async def test_only_callers_that_may_not_pin_are_refused(
    topology: str, control_plane: ControlPlane, model: Model
) -> None:
    async with opened(topology, control_plane, model, use_case("rows@v1")) as client:
        # At once and as the first: a refused one must not speak for those that ask beside it.
        outcomes = await asyncio.gather(
            ask(client, override="rows@v3"), ask(client), ask(client, override="rows@v3"), return_exceptions=True
        )
        refusals = [each for each in outcomes if isinstance(each, CallError)]
        assert [each.code for each in refusals] == [grpc.StatusCode.PERMISSION_DENIED] * 2
        assert [each.routing_key for each in outcomes if isinstance(each, Answer)] == ["rows.v1"]
        assert (await refused(ask(client, override="rows@v3"))).code is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("topology", RULED)
async def test_shadowed_requests_are_marked_and_reported(
    topology: str, control_plane: ControlPlane, model: Model
) -> None:
    document = use_case("rows@v1", shadow={"use": "rows@v2", "percent": 30})
    ids = [f"r{number}" for number in range(60)]
    drawn = {each for each in ids if is_shadowed("HomepageRows", each, 30)}
    assert 5 < len(drawn) < 40
    async with opened(topology, control_plane, model, document) as client:
        answers = [await ask(client, each) for each in ids]
        assert {answer.request_id for answer in answers if answer.shadow == "rows.v2"} == drawn
        assert {answer.shadow for answer in answers if answer.request_id not in drawn} == {""}
        if topology in COPYING:
            await eventually("the copies have come", lambda: len(copies_in(model)), until=lambda n: n == len(drawn))
            assert copies_in(model).keys() == drawn
            assert set(copies_in(model).values()) == {("rows.v2", "v1")}
        else:
            marked = [(envelope.request_id, seen.get("x-shadow-key")) for envelope, seen in model.seen]
            assert [(each, "rows.v2" if each in drawn else None) for each in ids] == marked


def copies_in(model: Model) -> dict[str, tuple[str, str]]:
    """By request id, each copy's routing key and the version named in its body."""
    return {
        envelope.request_id: (seen["x-routing-key"], envelope.model_config.version)
        for envelope, seen in model.seen
        if seen.get("x-shadow") == "copy"
    }


@pytest.mark.parametrize("topology", RULED)
async def test_only_the_first_attempt_is_shadowed_and_a_failure_reports_it(
    topology: str, control_plane: ControlPlane, model: Model
) -> None:
    model.failures = {"rows.v1": GONE, "rows.v2": GONE}
    document = use_case("rows@v1", fallback=["rows@v2"], shadow={"use": "rows@v3", "percent": 100})
    async with opened(topology, control_plane, model, document) as client:
        error = await refused(ask(client))
        assert (error.shadow, error.attempts) == ("rows.v3", 2)
        if topology not in COPYING:
            assert [seen.get("x-shadow-key") for _, seen in model.seen] == ["rows.v3", None]


class TearOnce:
    """Tears the next ``times`` attempts: header and body name different versions."""

    def __init__(self, times: int) -> None:
        self.times = times

    async def __call__(self, attempts: RequestAttempts) -> None:
        if self.times:
            self.times -= 1
            other = serving_pb2.ModelConfig(model="rows", version="v2")
            attempts.target = replace(attempts.target, model_config=other)


@pytest.mark.parametrize("topology", MESHES)
async def test_a_provoked_tear_is_mended_once(topology: str, control_plane: ControlPlane, model: Model) -> None:
    tear = TearOnce(1)
    async with opened(topology, control_plane, model, CHAIN, before_send=tear) as client:
        assert described(await ask(client)) == ("model", "rows.v1", 7, 2)
        assert described(await ask(client)) == ("model", "rows.v1", 7, 1)
        tear.times = 2
        error = await refused(ask(client))
        assert (error.code, error.routing_key) == (grpc.StatusCode.FAILED_PRECONDITION, "rows.v1")
        # No version further down the chain is to hide a tear.
        assert (error.attempts, len(model.seen)) == (2, 5)


@pytest.mark.parametrize("topology", MESHES)
async def test_a_publish_between_decision_and_sending_is_mended(
    topology: str, control_plane: ControlPlane, model: Model
) -> None:
    async def publish(attempts: RequestAttempts) -> None:
        if attempts.made or attempts.decision.revision > 7:
            return
        await control_plane.put_in_force(
            update(8, use_cases={"HomepageRows": use_case("rows@v2")}, full=False), "resolver"
        )
        model.holds.remove("rows.v1")

    async with opened(topology, control_plane, model, use_case("rows@v1"), before_send=publish) as client:
        answer = await ask(client)
        assert described(answer) == ("model", "rows.v2", 8, 2)
        assert answer.response.answered_by.version == "v2"
