"""The gateway over REST: the same decisions, statuses and log lines as over gRPC."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest

from lab.plain_text import MAX_ID_CHARACTERS
from lab.transport import open_channel
from models.json_mapping import from_document
from models.proto.ranking.v1 import ranking_pb2, ranking_pb2_grpc
from tests.parts import ControlPlane, Hold, Model, gateway_up, update, use_case

FRAUD = {**use_case("fraud@v1"), "api": "fraud.v1"}
CHAIN = use_case("rows@v2", fallback=["rows@v1"])
ROWS = {"HomepageRows": use_case("rows@v1"), "Chained": CHAIN, "FraudDetection": FRAUD}
DECIDED = {"x-routing-key": "rows.v1", "x-revision": "4", "x-timeout-ms": "5000"}


class Both:
    """A gateway, over REST and gRPC."""

    def __init__(self, session: aiohttp.ClientSession, ranking: Any) -> None:
        self._session, self._ranking = session, ranking

    async def rest(self, name: str, body: dict[str, Any], **headers: str) -> tuple[int, Any, Any]:
        async with self._session.post(f"/v1/use-cases/{name}:call", json=body, headers=headers) as response:
            return response.status, await response.json(), response.headers

    async def grpc(self, name: str, body: dict[str, Any]) -> tuple[Any, dict[str, str]]:
        request = from_document(ranking_pb2.RankRequest, body)
        request.envelope.use_case = name
        call = self._ranking.Rank(request)
        return await call, dict(await call.trailing_metadata())


@asynccontextmanager
async def both_up(control_plane: ControlPlane, log: Path | None = None) -> AsyncIterator[Both]:
    ports: list[int] = []
    async with (
        gateway_up(control_plane.address, log=log, rest_ports=ports) as address,
        aiohttp.ClientSession(f"http://127.0.0.1:{ports[0]}") as session,
        open_channel(address) as channel,
    ):
        yield Both(session, ranking_pb2_grpc.RankingStub(channel))


def asking(caller: str = "homepage", **envelope: Any) -> dict[str, Any]:
    envelope = {"context": {"userId": "u1", "caller": caller}, **envelope}
    return {"envelope": envelope, "titles": [{"id": "t1"}, {"id": "t2"}]}


async def test_rest_and_grpc_get_the_same_answer(control_plane: ControlPlane, model: Model) -> None:
    async with both_up(control_plane) as gateway:
        use_cases, versions = {"HomepageRows": ROWS["HomepageRows"]}, {"rows.v1": {"depth": 2}}
        message = update(4, use_cases=use_cases, endpoints={"rows.v1": [model.address]}, versions=versions)
        await control_plane.put_in_force(message, "gateway")

        status, answer, headers = await gateway.rest("HomepageRows", asking())
        by_grpc, metadata_of_grpc = await gateway.grpc("HomepageRows", asking())

        assert status == 200
        assert from_document(ranking_pb2.RankResponse, answer) == by_grpc
        assert metadata_of_grpc == DECIDED
        assert metadata_of_grpc.items() <= {name.lower(): value for name, value in headers.items()}.items()
        (first, metadata), (second, _) = model.seen
        assert metadata["x-request-id"] == first.request_id == "gateway-00000001"
        first.request_id = second.request_id
        assert first == second


@pytest.mark.parametrize(
    ("header", "body", "expected"),
    [("mine", "", "mine"), ("a-proxys", "mine", "mine"), ("", "", "gateway-00000001"), (None, "mine", "mine")],
)
async def test_the_header_names_a_request_whose_body_does_not(
    control_plane: ControlPlane, model: Model, header: str | None, body: str, expected: str
) -> None:
    async with both_up(control_plane) as gateway:
        await control_plane.put_in_force(update(1, use_cases=ROWS, endpoints={"rows.v1": [model.address]}), "gateway")

        status, _, _ = await gateway.rest(
            "HomepageRows", asking(requestId=body), **({} if header is None else {"x-request-id": header})
        )

        [(envelope, metadata)] = model.seen
        assert (status, envelope.request_id, metadata["x-request-id"]) == (200, expected, expected)


@pytest.mark.parametrize(
    ("request_id", "reason"),
    [
        ("a\tb", "contains a control character; leave it out"),
        ("\u00e9", "cannot be a header's value; use ASCII without blanks around it"),
        ("x" * (MAX_ID_CHARACTERS + 1), f"use {MAX_ID_CHARACTERS} at most"),
    ],
)
async def test_an_id_in_the_header_is_checked_as_one_in_the_body_is(
    control_plane: ControlPlane, request_id: str, reason: str
) -> None:
    async with both_up(control_plane) as gateway:
        await control_plane.put_in_force(update(1, use_cases=ROWS), "gateway")

        in_header = await gateway.rest("HomepageRows", asking(), **{"x-request-id": request_id})
        in_body = await gateway.rest("HomepageRows", asking(requestId=request_id))

        for status, answer, _ in (in_header, in_body):
            assert (status, answer["message"].startswith("HomepageRows: request_id: ")) == (400, True)
            assert answer["message"].endswith(reason)


async def test_each_use_case_takes_the_json_of_its_own_api(control_plane: ControlPlane) -> None:
    async with Model("fraud.v1").up() as fraud, both_up(control_plane) as gateway:
        await control_plane.put_in_force(update(1, use_cases=ROWS, endpoints={"fraud.v1": [fraud.address]}), "gateway")
        envelope = asking()["envelope"]

        status, answer, _ = await gateway.rest("FraudDetection", {"envelope": envelope, "payment": {"id": "p1"}})

        assert (status, answer["paymentId"], answer["answeredBy"]["model"]) == (200, "p1", "fraud")
        status, answer, _ = await gateway.rest("FraudDetection", asking())
        reason = "titles: fraud.v1.ScoreRequest has no such field; it has envelope, payment"
        assert (status, answer["message"]) == (400, reason)


@pytest.mark.parametrize(
    ("name", "body", "status", "message"),
    [
        ("Nonsense", asking(), 404, "'Nonsense'"),
        ("Nonsense", {"payment": {"id": "p1"}}, 404, "'Nonsense'"),
        ("N%2Fonsense", asking(), 404, "no such resource"),
        ("HomepageRows", asking("search"), 403, "'search' may not ask for use case 'HomepageRows'"),
        ("HomepageRows", {}, 403, "may not ask for use case 'HomepageRows'"),
        (
            "HomepageRows",
            asking(useCase="UpNext"),
            400,
            "is 'UpNext', and the path says 'HomepageRows'",
        ),
        ("HomepageRows", asking(useKase="UpNext"), 400, "envelope.useKase: serving.v1.Envelope has no such field"),
        (
            "HomepageRows",
            {"envelope": {"context": {"caller": "homepage", "trafficOrigin": 7}}},
            400,
            "traffic_origin: 7 is not known",
        ),
        ("HomepageRows", asking(), 503, "HomepageRows (rows.v1): no healthy replica"),
    ],
)
async def test_refusals_are_those_of_grpc(
    control_plane: ControlPlane, name: str, body: dict[str, Any], status: int, message: str
) -> None:
    async with both_up(control_plane) as gateway:
        await control_plane.put_in_force(update(1, use_cases=ROWS), "gateway")

        seen, answer, _ = await gateway.rest(name, body)

        assert (status, True) == (seen, message in answer["message"]), answer
        if status in {403, 503}:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await gateway.grpc(name, body)
            assert (refused.value.code().value[0], refused.value.details()) == (answer["code"], answer["message"])


async def test_without_rules_it_is_unavailable(control_plane: ControlPlane) -> None:
    async with both_up(control_plane) as gateway:
        status, answer, _ = await gateway.rest("HomepageRows", asking())
        assert (status, answer["message"]) == (503, "use case 'HomepageRows': gateway gateway has no rules yet")


async def test_a_fallback_answers_and_is_reported(control_plane: ControlPlane, model: Model) -> None:
    model.failures["rows.v2"] = grpc.StatusCode.INTERNAL, "broken"
    async with both_up(control_plane) as gateway:
        endpoints = {key: [model.address] for key in ("rows.v1", "rows.v2")}
        await control_plane.put_in_force(update(1, use_cases=ROWS, endpoints=endpoints), "gateway")

        status, answer, headers = await gateway.rest("Chained", asking())
        assert (status, answer["answeredBy"]["version"]) == (200, "v1")
        assert (headers["x-source"], headers["x-attempts"]) == ("fallback", "2")

        model.failures["rows.v1"] = grpc.StatusCode.INTERNAL, "broken"
        status, answer, headers = await gateway.rest("Chained", asking())
        assert (status, headers["x-source"]) == (500, "default")
        assert "before that rows.v2: INTERNAL" in answer["message"]


async def test_a_client_that_disconnects_or_times_out_cancels_the_models_work(
    control_plane: ControlPlane, model: Model
) -> None:
    model.before_answer = hold = Hold()
    async with both_up(control_plane) as gateway:
        await control_plane.put_in_force(update(1, use_cases=ROWS, endpoints={"rows.v1": [model.address]}), "gateway")
        status, answer, _ = await gateway.rest("HomepageRows", asking(), **{"grpc-timeout": "50m"})
        assert (status, answer["code"]) == (504, grpc.StatusCode.DEADLINE_EXCEEDED.value[0])
        async with asyncio.timeout(10):
            await hold.ended.wait()
            model.before_answer = hold = Hold()
            call = asyncio.create_task(gateway.rest("HomepageRows", asking()))
            await hold.begun.wait()
            call.cancel()
            await hold.ended.wait()


async def test_the_access_log_has_the_same_lines(control_plane: ControlPlane, model: Model, tmp_path: Path) -> None:
    log = tmp_path / "access.jsonl"
    async with both_up(control_plane, log) as gateway:
        await control_plane.put_in_force(update(6, use_cases=ROWS, endpoints={"rows.v1": [model.address]}), "gateway")
        await gateway.rest("HomepageRows", asking(requestId="r1"))
        await gateway.grpc("HomepageRows", asking(requestId="r1"))
        await gateway.rest("Nonsense", asking(requestId="r2"))
        with pytest.raises(grpc.aio.AioRpcError):
            await gateway.grpc("Nonsense", asking(requestId="r2"))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        assert line.pop("ms") > 0
        assert line.pop("time") > 0
    assert lines[0] == lines[1]
    assert lines[2] == lines[3]
    assert (lines[0]["status"], lines[2]["status"]) == ("OK", "NOT_FOUND")
