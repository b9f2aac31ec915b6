"""Holds what an interpreter of a dialect reads in rendered documents against the route table, on generated requests."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from lab.checkers import plain
from lab.plugins.render import TARGETS, Rendering, Source
from lab.plugins.render._decisions import headers_of
from lab.plugins.render._target import REFUSED
from lab.routing.document import RouteTable, read_path
from lab.routing.keys import HEADER
from lab.spec import SIZES, read_spec
from tests.plugins.render.dialects.answer import Answer, Request
from tests.routing.generated import REQUESTS_PER_TABLE, requests, tables

Documents = Sequence[Mapping[str, Any]]
Interpreter = Callable[[Documents, Request], Answer]

SPEC = read_spec(SIZES["default"])
EVERYTHING = read_path(Path(__file__).with_name("everything.yaml")).document
REQUESTS = 20_000
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SERVICE, METHOD = "ranking.v1.Ranking", "Rank"


def render(target: str, document: Mapping[str, Any], spec: Any = SPEC, **options: Any) -> Rendering:
    return TARGETS[target].render(Source(spec, RouteTable.of_valid(dict(document)), **options))


def documents_of(rendering: Rendering) -> list[dict[str, Any]]:
    return [each for text in rendering.files.values() for each in yaml.load_all(text, Loader=LOADER)]


def expected(document: Mapping[str, Any], use_case: str, context: Mapping[str, str], refused: set[Any]) -> Answer:
    """What the table says, by the checkers' interpreter; ``refused``: paths of what the target says it refuses."""
    if plain.decide(document, use_case, context).status != "OK" or ("use_cases", use_case) in refused:
        return {}
    rules = document["use_cases"][use_case].get("rules", [])
    rule, reference, _ = plain._decision(document, use_case, context)
    path = ("use_cases", use_case, *(("rules", rules.index(rule)) if rule else ("default",)))
    if path in refused:
        return {}
    shares: dict[str, float] = {reference: 100}
    if "split" in rule:
        shares = rule["split"]["weights"]
    elif "experiment" in rule:
        shares = {}
        for cell in rule["experiment"]["cells"].values():
            shares[cell["use"]] = shares.get(cell["use"], 0) + cell["weight"]
    return {to(document, each): share for each, share in shares.items() if share}


def to(document: Mapping[str, Any], reference: str) -> tuple[str, str]:
    model, version = reference.split("@")
    return document["models"][model]["versions"][version]["cluster"], f"{model}.{version}"


class Case(NamedTuple):
    """A request, what a resolver adds to its headers, and what the table decides."""

    use_case: str
    context: Mapping[str, str]
    sent: Mapping[str, str]
    decision: plain.Expected


@cache
def drawn(number: int) -> list[tuple[dict[str, Any], list[Case]]]:
    """Tables with at least this many requests, the same for every target."""
    found: list[tuple[dict[str, Any], list[Case]]] = []

    @seed(28)
    @settings(
        max_examples=-(-number // REQUESTS_PER_TABLE),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(tables(), st.integers(0, 1 << 32))
    def draw(document: dict[str, Any], requests_seed: int) -> None:
        cases = [
            Case(use_case, context, headers_of(use_case, context), plain.decide(document, use_case, context))
            for use_case, context, _ in requests(requests_seed)
        ]
        found.append((document, cases))

    draw()
    assert sum(len(cases) for _, cases in found) >= number
    return found


def agrees(target: str, interpret: Interpreter, number: int = REQUESTS) -> tuple[int, int]:
    """Compares answers on at least this many requests.

    Returns:
        How many were decided by rules, and how many were refused in tables without shards, which no dialect has.
    """
    by_rules = refusals = 0
    for document, cases in drawn(number):
        rendering = render(target, document)
        documents = documents_of(rendering)
        versions = (runs for model in document["models"].values() for runs in model["versions"].values())
        has_shards = any(isinstance(runs["cluster"], dict) for runs in versions)
        refused = {each.path for each in rendering.unexpressed if each.instead == REFUSED}
        for use_case, context, sent, decision in cases:
            if decision.status == "OK":  # a resolver has decided: only the key counts, no other header
                key = decision.routing_key
                found = interpret(documents, Request(SERVICE, METHOD, {**sent, HEADER: key}))
                assert found == {(decision.cluster, key): 100}, (document, use_case, context)
            if not context.get("override"):
                wanted = expected(document, use_case, context, refused)
                found = interpret(documents, Request(SERVICE, METHOD, sent))
                assert found == wanted, (document, use_case, context)
                by_rules += bool(wanted)
                refusals += decision.status == "OK" and not wanted and not has_shards
    return by_rules, refusals
