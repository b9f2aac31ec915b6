"""A value that could forge a header or a log line is refused where it enters, at once and in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from models.proto.caller.v1 import caller_pb2
from models.proto.ranking.v1 import ranking_pb2
from models.proto.serving.v1 import serving_pb2
from tests.parts import ControlPlane, Model, resolver_up, update
from tests.services.test_caller import BOTH, homepage
from tests.services.test_gateway import ROWS, asking, gateway_with, refused, rows_at, unread
from tests.services.test_gateway_rest import asking as asking_by_rest
from tests.services.test_gateway_rest import both_up
from tests.services.test_resolver import question, stub
from tests.services.test_resolver import refused as refused_by_resolver

CONTROL = ["a\nb", "a\rb", "a\0b", "a\tb", "\x1b[2J", "a\x9bb", "a\u2028b"]
FIELDS = ("use_case", "context.user_id", "context.caller", "context.tenant", "context.override", "model_config.model")
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def spoiled(envelope: serving_pb2.Envelope, field: str, value: str) -> None:
    *path, name = field.split(".")
    message: Any = envelope
    for each in path:
        message = getattr(message, each)
    setattr(message, name, value)


@pytest.mark.parametrize("request_id", [*CONTROL, "é", " a", "a" * 257])
async def test_a_request_id_that_no_header_can_carry_is_invalid(
    control_plane: ControlPlane, model: Model, request_id: str
) -> None:
    async with gateway_with(control_plane, rows_at(model)) as gateway:
        unary = await refused(gateway.Rank(asking(request_id=request_id), timeout=5))
        stream = await refused(gateway.RankStream(asking(request_id=request_id), timeout=5).read())
        body, metadata = unread(asking(request_id=request_id))
        passed_on = await refused(gateway.Rank(ranking_pb2.RankRequest.FromString(body), metadata=metadata, timeout=5))

    assert unary == stream == passed_on
    assert unary[0] is INVALID
    assert unary[1].startswith("HomepageRows: request_id: ")
    assert not model.seen


@pytest.mark.parametrize("field", FIELDS)
async def test_every_text_of_the_envelope_is_checked(
    control_plane: ControlPlane, model: Model, field: str, tmp_path: Path
) -> None:
    log = tmp_path / "access.log"
    async with gateway_with(control_plane, rows_at(model), log=log) as gateway:
        for value in CONTROL:
            request = asking()
            spoiled(request.envelope, field, value)
            code, message = await refused(gateway.Rank(request, timeout=5))
            assert (code, "control character" in message) == (INVALID, True)
            assert message.isprintable()

    assert not model.seen
    assert log.read_text() == ""


async def test_rest_answers_400(control_plane: ControlPlane, model: Model) -> None:
    async with both_up(control_plane) as gateway:
        await control_plane.put_in_force(rows_at(model), "gateway")
        for request_id in CONTROL:
            status, answer, _ = await gateway.rest("HomepageRows", asking_by_rest(requestId=request_id))
            assert (status, answer["code"]) == (400, INVALID.value[0])

    assert not model.seen


async def test_a_resolver_refuses_it(control_plane: ControlPlane) -> None:
    async with resolver_up(control_plane.address) as address, stub(address) as resolver:
        await control_plane.put_in_force(update(1, use_cases=ROWS), "resolver")
        for value in CONTROL:
            by_context = await refused_by_resolver(resolver, question("HomepageRows", country=value))
            by_name = await refused_by_resolver(resolver, question(value))
            assert (by_context[0], by_name[0]) == (INVALID, INVALID)
            assert (by_context[1] + by_name[1]).isprintable()


async def test_a_caller_refuses_it(control_plane: ControlPlane, model: Model) -> None:
    async with homepage(control_plane, model, BOTH) as caller:
        for value in CONTROL:
            named = await refused(caller.Call(caller_pb2.CallRequest(use_case=value, topology="gateway")))
            context = serving_pb2.RequestContext(country=value)
            described = await refused(
                caller.Call(caller_pb2.CallRequest(use_case="HomepageRows", topology="gateway", context=context))
            )
            assert (named[0], described[0]) == (INVALID, INVALID)

    assert not model.seen
