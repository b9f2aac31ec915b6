"""A replica by REST: what gRPC would say, in HTTP's words."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import aiohttp
import grpc
import pytest

from lab.errors import UnitError
from lab.transport import RestServer, channels, rest_server
from lab.transport.rest_server import HttpReply
from models.proto.control.v1 import stub_pb2
from models.rest import HTTP_STATUS
from models.scoring import scores
from tests.models.replicas import ControlPlane, RunningReplica, StartReplica
from tests.waiting import eventually

Ask = Callable[..., Coroutine[None, None, tuple[int, Any, Any]]]

KEY = "x-routing-key"
JSON = {"content-type": "application/json"}
RANK, SCORE = "/v1/ranking:rank", "/v1/fraud:score"


@pytest.fixture
async def replica(control_plane: ControlPlane, start_replica: StartReplica) -> RunningReplica:
    control_plane.assign(3, "rows.v1", "fraud.v1")
    running = await start_replica("--rest", "127.0.0.1:0")
    await control_plane.holds("rows.v1", "fraud.v1")
    return running


@pytest.fixture
async def ask(replica: RunningReplica) -> AsyncIterator[Ask]:
    """Sends a request; gives status, body and headers."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{replica.replica.rest_port}") as session:

        async def send(path: str, method: str = "POST", **options: Any) -> tuple[int, Any, Any]:
            async with session.request(method, path, **options) as response:
                assert response.headers["content-type"] == "application/json"
                return response.status, await response.json(), response.headers

        yield send


def body(model: str = "rows", version: str = "v1") -> dict[str, Any]:
    config = {"model": model, "version": version}
    envelope = {"context": {"userId": "u1"}, **({"modelConfig": config} if model else {})}
    return {"envelope": envelope, "titles": [{"id": "t1", "features": [0.5, 1]}, {"id": "t2"}]}


async def test_the_model_that_is_named_answers_and_the_score_proves_it(ask: Ask) -> None:
    status, answer, _ = await ask(RANK, json=body())

    assert status == 200
    assert (answer["answeredBy"]["model"], answer["answeredBy"]["version"]) == ("rows", "v1")
    assert answer["answeredBy"]["revision"] == "3"
    ranked = sorted(zip(scores("rows", "v1", "u1", ["t1", "t2"]), ("t1", "t2"), strict=True), reverse=True)
    assert ranked == [(title["score"], title["id"]) for title in answer["titles"]]


async def test_the_routing_key_is_a_header_as_ever(ask: Ask) -> None:
    payment = {"envelope": {"context": {"userId": "u1"}}, "payment": {"id": "p1", "amountMinorUnits": "42"}}
    status, answer, _ = await ask(SCORE, json=payment, headers={KEY: "fraud.v1"})

    assert (status, answer["paymentId"]) == (200, "p1")
    assert answer["score"] == scores("fraud", "v1", "u1", ["p1"])[0]


async def test_a_connection_carries_many_requests(replica: RunningReplica, ask: Ask) -> None:
    for _ in range(50):
        assert (await ask(RANK, json=body()))[0] == 200
    connections = len(replica.replica._rest._http.connections)
    assert connections == 1
    assert replica.replica.handler.arrivals == 50
    assert replica.replica.handler.in_flight == 0


@pytest.mark.parametrize(
    ("path", "options", "status", "message"),
    [
        ("/v1/ranking:rnak", {"json": {}}, 404, "/v1/ranking:rnak: no such resource; there is POST /v1/ranking:rank, "),
        ("/", {"method": "GET"}, 404, "/: no such resource"),
        (RANK, {"method": "GET"}, 405, "GET /v1/ranking:rank: the resource has POST only"),
        ("/readyz", {"json": {}}, 405, "POST /readyz: the resource has GET only"),
        (RANK, {"data": {"a": "b"}}, 415, "content-type: is 'application/x-www-form-urlencoded'; send JSON in UTF-8"),
        (
            RANK,
            {"data": b"{}", "headers": {"content-type": "application/json; charset=latin-1"}},
            415,
            "content-type: ",
        ),
        (
            RANK,
            {"data": gzip.compress(b"{}"), "headers": {**JSON, "content-encoding": "gzip"}},
            415,
            "content-encoding: is 'gzip'; send the body uncompressed",
        ),
        (f"{RANK}?alt=xml", {"json": {}}, 400, "?alt=xml: the resource takes no parameters; use the body"),
        (RANK, {"data": b"{", "headers": JSON}, 400, "body: is not JSON: "),
        (RANK, {"data": b"\xff", "headers": JSON}, 400, "body: is not JSON: "),
        (RANK, {"data": b"", "headers": JSON}, 400, "body: is not JSON: "),
        (
            RANK,
            {"json": {"titels": []}},
            400,
            "titels: ranking.v1.RankRequest has no such field; it has envelope, titles",
        ),
        (RANK, {"json": {"titles": [{"id": 7}]}}, 400, "titles[0].id: 7 is not valid: use a string"),
        (
            RANK,
            {"json": body(), "headers": {"grpc-timeout": "soon"}},
            400,
            "grpc-timeout: 'soon' is not a timeout: use e.g.",
        ),
        (RANK, {"json": body("", "")}, 400, "the request names no model version and replica"),
        (RANK, {"json": body("rows", "v7")}, 400, "rows@v7 (x-routing-key rows.v7) is not loaded at replica"),
        (RANK, {"json": body(), "headers": {KEY: "rows.v2"}}, 400, "tear: x-routing-key says 'rows.v2', the body says"),
        (
            RANK,
            {"json": body(), "headers": [(KEY, "rows.v1"), (KEY, "rows.v2")]},
            400,
            "x-routing-key is given as rows.v1",
        ),
    ],
)
async def test_bad_input_is_a_4xx_that_says_what_and_what_to_do(
    ask: Ask, path: str, options: dict[str, Any], status: int, message: str
) -> None:
    seen, answer, headers = await ask(path, **options)

    assert seen == status
    assert answer["message"].startswith(message)
    assert "\n" not in answer["message"]
    assert set(answer) == {"code", "message", "details"}
    assert answer["code"] in {code.value[0] for code in grpc.StatusCode}
    if status == 405:
        assert headers["allow"] in {"POST", "GET"}
    assert (await ask(RANK, json=body()))[0] == 200


async def test_a_body_that_is_too_large_is_413_with_and_without_its_length(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest_server, "MAX_MESSAGE_BYTES", 1_000)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * 100

    for data in (b" " * 1_001, chunks()):
        status, answer, _ = await ask(RANK, data=data, headers=JSON)
        assert (status, answer["code"]) == (413, grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
        assert answer["message"].startswith("body: is larger than ")


def test_rest_and_grpc_have_one_limit() -> None:
    assert vars(rest_server)["MAX_MESSAGE_BYTES"] == channels.MAX_MESSAGE_BYTES


def test_every_status_has_a_place_in_http() -> None:
    assert set(HTTP_STATUS) == set(grpc.StatusCode)


async def test_errors_and_limits_are_those_of_grpc(replica: RunningReplica, ask: Ask) -> None:
    await replica.control.SetBehaviour(stub_pb2.Behaviour(error_rate=1))
    status, answer, _ = await ask(RANK, json=body())
    assert (status, answer["code"]) == (500, grpc.StatusCode.INTERNAL.value[0])
    assert answer["message"].startswith("rows.v1: replica ml-cluster-1-a fails this request")

    slow = stub_pb2.Behaviour(concurrency_limit=1, constant=stub_pb2.ConstantLatency(ms=600_000))
    await replica.control.SetBehaviour(slow)
    waiting = asyncio.create_task(ask(RANK, json=body()))
    await eventually("one in flight", lambda: replica.replica.handler.in_flight == 1)
    status, answer, _ = await ask(RANK, json=body())
    assert (status, answer["code"]) == (429, grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
    # A client that leaves takes its request with it.
    waiting.cancel()
    await eventually("nothing in flight", lambda: not replica.replica.handler.in_flight)


async def test_a_clients_patience_is_a_header(replica: RunningReplica, ask: Ask) -> None:
    await replica.control.SetBehaviour(stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=600_000)))

    status, answer, _ = await ask(RANK, json=body(), headers={"grpc-timeout": "50m"})

    assert (status, answer["code"]) == (504, grpc.StatusCode.DEADLINE_EXCEEDED.value[0])
    # What is left of it when the handler begins: a busy machine takes some of it to get there.
    assert re.fullmatch(r"no answer within \d{1,2} ms, as the header grpc-timeout asked", answer["message"])
    assert replica.replica.handler.in_flight == 0


async def test_a_drain_sends_clients_away_and_answers_requests_in_flight(replica: RunningReplica, ask: Ask) -> None:
    assert (await ask("/readyz", "GET"))[:2] == (200, {"status": "SERVING"})
    await replica.control.SetBehaviour(stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=700)))
    waiting = asyncio.create_task(ask(RANK, json=body()))
    await eventually("one in flight", lambda: replica.replica.handler.in_flight == 1)

    replica.stop.set()

    await eventually("draining", lambda: replica.replica._rest._draining)
    status, answer, headers = await ask("/readyz", "GET")
    assert (status, answer, headers["connection"]) == (503, {"status": "NOT_SERVING"}, "close")
    assert (await waiting)[0] == 200
    await replica.task
    with pytest.raises(aiohttp.ClientConnectorError):
        await ask("/readyz", "GET")


async def test_a_server_that_nobody_calls_has_a_listening_socket_and_nothing_else() -> None:
    program = """
import asyncio, sys
from lab.transport import RestServer
async def main():
    server = RestServer(None)
    server.listen("127.0.0.1:0")
    await asyncio.sleep(0)
    await server.close()
asyncio.run(main())
print("aiohttp" in sys.modules)
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert (await process.communicate())[0].decode().strip() == "False"


async def test_a_port_that_is_taken_is_refused_and_one_that_was_used_is_free_again() -> None:
    async def answer(_: Any) -> HttpReply:
        return HttpReply(200, b"{}")

    server = RestServer(answer)
    port = server.listen("127.0.0.1:0")
    with pytest.raises(UnitError, match="is the port taken"):
        RestServer(answer).listen(f"127.0.0.1:{port}")
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as response:
        assert response.status == 200
    await server.close()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    again = RestServer(answer)
    assert again.listen(f"127.0.0.1:{port}") == port
    await again.close()
