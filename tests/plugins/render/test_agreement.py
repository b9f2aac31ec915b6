"""Rendered documents, read by an interpreter of their dialect, answer requests as the route table does."""

import pytest

from lab.plugins.render import TARGETS
from tests.plugins.render.agreement import Interpreter, agrees
from tests.plugins.render.broken import CORPUS
from tests.plugins.render.dialects import aws, gateway_api, istio, kong

INTERPRETERS: dict[str, Interpreter] = {
    "aws": aws.answer,
    "envoy-gateway": gateway_api.answer,
    "gateway-api": gateway_api.answer,
    "istio": istio.answer,
    "kong": kong.answer,
    "linkerd": gateway_api.answer,
}

pytestmark = pytest.mark.timeout(600)  # twenty thousand requests

REFUSING = {"aws", "kong"}  # of requests without a routing key: all, and those of a draw


@pytest.mark.parametrize("target", INTERPRETERS)
def test_a_dialects_interpreter_answers_as_the_route_table(target: str) -> None:
    decided, refused = agrees(target, INTERPRETERS[target])

    assert (decided > 5_000, refused > 0) == (target != "aws", target in REFUSING)


def test_every_proxy_has_an_interpreter_and_broken_documents() -> None:
    assert set(INTERPRETERS) == set(CORPUS) <= set(TARGETS)
