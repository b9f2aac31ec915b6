"""Client and gateway make and report the same attempts, for every sequence of failures."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import product
from typing import Any, NamedTuple

import grpc
import pytest

from lab.client import Client, DefaultAnswer
from lab.errors import CallError
from models.proto.ranking.v1 import ranking_pb2
from tests.client.addresses import everything, ready
from tests.parts import ControlPlane, Model, rank_request, update, use_case

KEYS = ("rows.v1", "rows.v2", "rows.v3")
CHAIN: dict[str, Any] = {"fallback": ["rows@v2", "rows@v3"], "shadow": {"use": "rows@v3", "percent": 50}}
USE_CASES = {
    "HomepageRows": use_case("rows@v1", timeout="5s", **CHAIN),
    "Hurried": use_case("rows@v1", timeout="400ms", **CHAIN),
}
FAILURES = ("UNAVAILABLE", "INTERNAL", "FAILED_PRECONDITION", "INVALID_ARGUMENT")
LATE = "late"
SEQUENCES = [each for length in range(4) for each in product(FAILURES, repeat=length)]
LATE_SEQUENCES = [(LATE,), ("UNAVAILABLE", LATE), ("FAILED_PRECONDITION", LATE), ("UNAVAILABLE", "INTERNAL", LATE)]


class Course(NamedTuple):
    """The course of a request.

    Attributes:
        attempts: routing key, and model version of the body, of each that the model received.
        end: answer or error.
    """

    attempts: tuple[tuple[str, str], ...]
    end: tuple[object, ...]


class Script:
    """Makes a model fail with a sequence of statuses, and then answer."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._left: list[str] = []
        model.before_answer = self._before_answer

    def write(self, failures: tuple[str, ...]) -> None:
        self._left = list(failures)
        self._model.seen.clear()

    async def _before_answer(self) -> None:
        is_copy = "x-shadow" in self._model.seen[-1][1]
        failure = self._left.pop(0) if self._left and not is_copy else ""
        if failure == LATE:
            await asyncio.Event().wait()
        self._model.failure = (grpc.StatusCode[failure], "as written") if failure else None


@asynccontextmanager
async def opened(
    control_plane: ControlPlane, model: Model, default_answer: DefaultAnswer | None
) -> AsyncIterator[list[Client]]:
    """A client that makes the attempts itself, and one behind a gateway."""
    rules = update(7, use_cases=USE_CASES, endpoints={key: [model.address] for key in KEYS})
    async with (
        everything(control_plane, model, rules) as endpoints,
        ready("mesh", endpoints, default_answer=default_answer) as client,
        ready("gateway", endpoints, default_answer=default_answer) as behind_gateway,
    ):
        yield [client, behind_gateway]


async def course(client: Client, model: Model, use_case: str, request_id: str) -> Course:
    end: tuple[object, ...]
    try:
        answer = await client.call(use_case, rank_request(), {"user_id": "u1"}, request_id=request_id)
        end = (answer.source, answer.routing_key, answer.revision)
        if answer.source != "default":  # of which a client knows what it has sent itself, to models or to a gateway
            end += (answer.attempts, answer.shadow)
    except CallError as error:
        end = (error.code, error.message, error.routing_key, error.revision, error.attempts, error.shadow)
    received = [
        (seen["x-routing-key"], envelope.model_config.version)
        for envelope, seen in model.seen
        if "x-shadow" not in seen
    ]
    return Course(tuple(received), end)


def unranked(use_case: str, request: Any, context: Mapping[str, str]) -> ranking_pb2.RankResponse:
    del use_case, request, context
    return ranking_pb2.RankResponse()


REFUSALS = {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT}
EXHAUSTED = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED}


@pytest.mark.parametrize(
    ("default_answer", "wanted"),
    [(None, {"model", "fallback", *REFUSALS, *EXHAUSTED}), (unranked, {"model", "fallback", "default", *REFUSALS})],
    ids=["errors", "default answers"],
)
async def test_both_take_the_same_course_through_every_sequence_of_failures(
    control_plane: ControlPlane, default_answer: DefaultAnswer | None, wanted: set[object]
) -> None:
    async with Model(*KEYS).up() as model, opened(control_plane, model, default_answer) as clients:
        script = Script(model)
        ends = set()
        for number, failures in enumerate([*SEQUENCES, *LATE_SEQUENCES]):
            use_case = "Hurried" if LATE in failures else "HomepageRows"
            courses = []
            for client in clients:
                script.write(failures)
                courses.append(await course(client, model, use_case, f"r{number}"))
            client_course, gateway_course = courses
            assert client_course == gateway_course, failures
            ends.add(client_course.end[0])
    assert ends == wanted
