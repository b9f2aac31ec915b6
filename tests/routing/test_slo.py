"""A use case's SLO reaches every choice of it, and one that cannot be met is refused."""

import re

import pytest

from lab.errors import RouteTableError
from lab.routing.compiled import Router
from lab.routing.document import RouteTable, Source, read_sources
from lab.routing.slo import NO_SLO, Slo

TABLE = """
use_cases:
  Chat:
    callers: [homepage]
    override: [homepage]
    api: generate.v1
    timeout: 2s
    default: chat@v1
    {slo}
models:
  chat: {{versions: {{v1: {{cluster: c}}}}}}
clusters:
  c: {{replicas: 2}}
"""


def read(slo: str) -> RouteTable:
    return read_sources([Source("routes.yaml", TABLE.format(slo=slo))])


@pytest.mark.parametrize(
    ("slo", "right"),
    [
        ("slo: {first_token: 300ms, next_token: 30ms}", Slo(300, 30)),
        ("slo: {first_token: 1s}", Slo(1_000, 0)),
        ("slo: {next_token: 30ms}", Slo(0, 30)),
        ("", NO_SLO),
    ],
)
def test_every_choice_has_the_slo_of_its_use_case(slo: str, right: Slo) -> None:
    router = Router.of_document(read(slo).document)

    for context in ({}, {"override": "chat@v1"}):
        assert router.resolve("Chat", {"caller": "homepage", **context}).slo == right


@pytest.mark.parametrize(
    ("slo", "field", "message"),
    [
        ("slo: {}", "slo", "asks nothing; add 'first_token' or 'next_token'"),
        ("slo: {first_token: 2s}", "slo.first_token", "2s is not shorter than the use case's timeout, 2s; shorten it"),
        ("slo: {next_token: 30}", "slo.next_token", "30 is not a duration; write it like 250ms or 2s"),
        ("slo: {ttft: 1s}", "slo.ttft", "unknown field"),
    ],
)
def test_an_slo_that_asks_nothing_or_too_little_is_refused(slo: str, field: str, message: str) -> None:
    with pytest.raises(RouteTableError, match=re.escape(message)) as refused:
        read(slo)
    assert refused.value.field == f"use_cases.Chat.{field}"
