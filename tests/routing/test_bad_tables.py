"""Each mistake, where it is reported, and what the user is told to write instead."""

import pytest

from lab.checkers.plain_table import document_of
from lab.errors import RouteTableError
from lab.routing.checks import clashing
from lab.routing.document import Source, read_sources
from lab.routing.yaml_nodes import dotted


def test_a_model_serves_one_api() -> None:
    text = GOOD.replace(
        "models:\n",
        "  Fraud:\n    callers: [playback]\n    api: fraud.v1\n    timeout: 1s\n    default: up-next@v2\nmodels:\n",
    )

    with pytest.raises(RouteTableError) as refused:
        read_sources([Source("routes.yaml", text)])

    assert str(refused.value) == (
        "routes.yaml:29: use_cases.Fraud.default: model 'up-next' serves ranking.v1 in use_cases.UpNext, and this use "
        "case is of fraud.v1; name a model of fraud.v1 here, or correct the api of one of the two"
    )


GOOD = """\
use_cases:
  UpNext:
    callers: [playback]
    api: ranking.v1
    timeout: 250ms
    default: up-next@v1
    rules:
      - name: tv
        when:
          device: [tv]
        use: up-next@v2
      - name: canary
        split:
          unit: user_id
          weights:
            up-next@v1: 95
            up-next@v2: 5
      - name: ab
        experiment:
          id: 7
          unit: tenant
          cells:
            1: {weight: 80, use: up-next@v1}
            2: {weight: 20, use: up-next@v2}
models:
  up-next:
    versions:
      v1: {cluster: ml-cluster-1}
      v2: {cluster: ml-cluster-1, config: {beam: 4}}
clusters:
  ml-cluster-1:
    replicas: 2
"""

UP = "use_cases.UpNext"
RULES = f"{UP}.rules"
WEIGHTS = f"{RULES}[1].split.weights"
CELLS = f"{RULES}[2].experiment.cells"
VERSIONS = "models.up-next.versions"
REPLICAS = "clusters.ml-cluster-1.replicas"
IN = "    rules:"
END = "    replicas: 2\n"
NO_ORIGIN = """\
ab
        when: {not: {traffic_origin: [real, artificial]}}
        experiment:
          id: 7
          unit: traffic_origin"""
ALWAYS = "can never match, as rule 'tv' before it always matches; move it up, or remove it"
MORE = """\
  Later:
    callers: [playback]
    api: ranking.v1
    timeout: 1s
    default: up-next@v1
    rules:
      - {{name: x, experiment: {{id: "7", unit: user_id, cells: {{{}}}}}}}
models:"""
Mistake = tuple[str, str, int, str, str]
"""A text of the good table, what replaces it, and the line, field and problem that are named."""


def part(text: str, field: str, problem: str, line: int = 7) -> Mistake:
    """A mistake in a part that is added to the use case."""
    return IN, f"    {text}\n{IN}", line, f"{UP}.{field}", problem


def tenant(text: str, field: str, problem: str, line: int = 34) -> Mistake:
    """A mistake in a tenant's limits."""
    return END, f"{END}tenants:\n  {text}\n", line, f"tenants.{field}", problem


BAD = [
    # syntax
    ("callers: [playback]", "callers: [playback", 4, "", "check indentation, brackets and quotes here"),
    ("    timeout: 250ms", "\ttimeout: 250ms", 5, "", "indent with spaces, not with tabs"),
    ("timeout: 250ms", "timeout: 250ms\n    timeout: 1s", 6, f"{UP}.timeout", "first on line 5; keep one"),
    ("up-next@v2: 5", "up-next@v1: 5", 17, f"{WEIGHTS}.up-next@v1", "first on line 16; keep one"),
    ("timeout: 250ms", "timeout: !!str 250ms", 5, f"{UP}.timeout", "is not allowed; write the plain value"),
    ("timeout: 250ms", "<<: {timeout: 250ms}", 5, f"{UP}.'<<'", "write the fields out"),
    ("timeout: 250ms", "timeout: *t", 5, f"{UP}.timeout", "alias '*t' has no anchor; define it above"),
    ("timeout: 250ms", "[a]: 250ms", 5, "use_cases.UpNext", "write a text as key"),
    ("models:", "---\nmodels:", 25, "", "keep one document a file"),
    # fields
    ("default:", "defualt:", 6, f"{UP}.defualt", "unknown field 'defualt'; did you mean 'default'?"),
    ("device: [tv]", "devise: [tv]", 10, f"{RULES}[0].when.devise", "unknown field 'devise'; did you mean 'device'?"),
    ("use: up-next@v2\n ", "zzz: 1\n ", 11, f"{RULES}[0].zzz", "unknown field 'zzz'; known: config, experiment, name,"),
    ("weight: 80", "wieght: 80", 23, f"{CELLS}.1.wieght", "did you mean 'weight'?"),
    ("weight: 80, ", "", 23, f"{CELLS}.1.weight", "missing field 'weight'; add it, like weight: 100"),
    ("clusters:", "cluster:", 30, "cluster", "unknown field 'cluster'; did you mean 'clusters'?"),
    ("    api: ranking.v1\n", "", 2, f"{UP}.api", "missing field 'api'; add it, like api: ranking.v1"),
    ("name: tv\n        when", "when", 8, f"{RULES}[0].name", "missing field 'name'; add it"),
    ("models:", "models: 7\nx:", 25, "models", "7 is not a mapping; write fields as 'name: value'"),
    ("      - name: tv", "      - just text\n      - name: tv", 8, f"{RULES}[0]", "'just text' is not a mapping"),
    ("callers: [playback]", "callers: playback", 3, f"{UP}.callers", "write [playback]"),
    ("callers: [playback]", "callers: []", 3, f"{UP}.callers", "write at least one of its callers"),
    ("callers: [playback]", "callers: [x, x]", 3, f"{UP}.callers", "'x' is listed twice; keep it once"),
    ("callers: [playback]", "callers:", 3, f"{UP}.callers", "nothing is not a list; write a list of callers"),
    # names
    ("  UpNext:", "  up_next:", 2, "use_cases.up_next", "not a use case's name; write it like ContinueWatchingRanking"),
    ("  up-next:", "  Up Next:", 26, "models.'Up Next'", "'Up Next' is not a model's name; write it like cw-ranker"),
    *(
        ("cluster: ml-cluster-1}", f"cluster: {{{text}}}}}", 28, f"{VERSIONS}.v1.cluster{field}", problem)
        for text, field, problem in (
            ("shards: []", ".shards", "not a list of 1 to 99 clusters; write them like [ml-cluster-1, ml-cluster-2]"),
            (f"shards: [{'c, ' * 100}]", ".shards", "not a list of 1 to 99 clusters"),
            ("shards: ml-cluster-1", ".shards", "not a list of 1 to 99 clusters"),
            ("shards: [ml-cluster-1, c]", ".shards[1]", "cluster 'c' is not in clusters; known: ml-cluster-1"),
            ("shards: [ml-cluster-1, 2]", ".shards[1]", "2 is not a text; write it in quotes"),
            ("", ".shards", "missing field 'shards'; add it, like shards: [ml-cluster-1, ml-cluster-2]"),
            ("shard: [ml-cluster-1]", ".shard", "unknown field 'shard'; did you mean 'shards'?"),
            ("shards: [ml-cluster-1], tenants: {ads: 1}", "", "has no shard for other tenants; add 'default: 1'"),
            ("shards: [ml-cluster-1], tenants: {}", "", "has no shard for other tenants; add 'default: 1'"),
            ("shards: [ml-cluster-1], tenants: {default: 2}", "", "tenant 'default' has shard 2, and there are 1;"),
            ("shards: [ml-cluster-1], tenants: {default: 0}", ".tenants.default", "0 is not a shard; write a whole"),
            ("shards: [ml-cluster-1], tenants: {a b: 1}", ".tenants.'a b'", "'a b' is not a tenant's name"),
        )
    ),
    ("      v2: {", "      2: {", 29, f"{VERSIONS}.2", "'2' is not a version; write it like v2"),
    ("cluster: ml-cluster-1}", "cluster: ML 1}", 28, f"{VERSIONS}.v1.cluster", "not a cluster's name"),
    ("default: up-next@v1", "default: up-next", 6, f"{UP}.default", "write it like cw-ranker@v2"),
    ("default: up-next@v1", "default: 5", 6, f"{UP}.default", "5 is not a text; write it in quotes"),
    ("name: tv", "name: canary", 12, f"{RULES}[1].name", "'canary' is used twice in this use case; rename one"),
    ("name: tv", "name: default", 8, f"{RULES}[0].name", "a rule cannot be named 'default'"),
    ("playback", "p" * 5000, 3, f"{UP}.callers[0]", "…' is not a caller's name; write it like homepage"),
    ("playback", "'a\\nb'", 3, f"{UP}.callers[0]", "is not a caller's name; write it like homepage"),
    # values
    ("250ms", "soon", 5, f"{UP}.timeout", "'soon' is not a duration; write it like 250ms or 2s"),
    ("250ms", "0ms", 5, f"{UP}.timeout", "'0ms' is out of range: use more than 0ms"),
    ("250ms", "250", 5, f"{UP}.timeout", "250 is not a duration; write it like 250ms or 2s"),
    ("250ms", "9999s", 5, f"{UP}.timeout", "'9999s' is out of range: use more than 0ms and at most 600s"),
    ("ranking.v1", "rnking.v1", 4, f"{UP}.api", "did you mean 'ranking.v1'?"),
    ("replicas: 2", "replicas: 0", 32, REPLICAS, "0 is not a number of replicas; write a whole"),
    ("replicas: 2", "replicas: 1.5", 32, REPLICAS, "1.5 is not a number of replicas"),
    ("replicas: 2", "replicas: true", 32, REPLICAS, "true is not a number of replicas"),
    ("beam: 4", "beam: .inf", 29, f"{VERSIONS}.v2.config.beam", "is not finite; write a number"),
    # weights
    ("@v2: 5", "@v2: -1", 17, f"{WEIGHTS}.up-next@v2", "weight -1 is not a whole percent; write a number"),
    ("@v2: 5", "@v2: 4.5", 17, f"{WEIGHTS}.up-next@v2", "weight 4.5 is not a whole percent"),
    ("@v2: 5", "@v2: 101", 17, f"{WEIGHTS}.up-next@v2", "write a number from 0 to 100"),
    ("@v2: 5", "@v2: ''", 17, f"{WEIGHTS}.up-next@v2", "weight '' is not a whole percent"),
    ("            up-next@v2: 5\n", "", 15, WEIGHTS, "add up to 95; make them add up to 100"),
    ("weight: 80", "weight: 81", 22, CELLS, "add up to 101; make them add up to 100"),
    # rules
    ("        use: up-next@v2\n      ", "      ", 8, f"{RULES}[0]", "add one of 'use', 'experiment' and 'split'"),
    ("split:", "use: up-next@v1\n        split:", 12, f"{RULES}[1]", "has 'use' and 'split'; keep exactly one of them"),
    ("          device: [tv]", "          {}", 9, f"{RULES}[0].when", "is empty; write at least one condition"),
    ("device: [tv]", "not: {}", 10, f"{RULES}[0].when.not", "is empty; write at least one condition"),
    ("device: [tv]", "not: {devise: [tv]}", 10, f"{RULES}[0].when.not.devise", "did you mean 'device'?"),
    ("device: [tv]", "not:", 10, f"{RULES}[0].when.not", "nothing is not a mapping"),
    ("device: [tv]", "device: tv", 10, f"{RULES}[0].when.device", "'tv' is not a list; write [tv]"),
    ("device: [tv]", "device: [1]", 10, f"{RULES}[0].when.device[0]", "1 is not a text"),
    ("device: [tv]", "device: ['']", 10, f"{RULES}[0].when.device[0]", "an empty value matches nothing"),
    ("device: [tv]", "traffic_origin: [fake]", 10, f"{RULES}[0].when.traffic_origin", "write 'real' or 'artificial'"),
    (
        "unit: user_id",
        "unit: user",
        14,
        f"{RULES}[1].split.unit",
        "'user' is not a field of the request context; known",
    ),
    ("id: 7", "id: [7]", 20, f"{RULES}[2].experiment.id", "is not an experiment's id; write it like 12345"),
    # what does not fit together
    ("@v1\n", "@v9\n", 6, f"{UP}.default", "model 'up-next' has no version 'v9'; known: v1, v2"),
    ("use: up-next@v2\n", "use: upnext@v2\n", 11, f"{RULES}[0].use", "model 'upnext' is not in models; did you mean"),
    ("up-next@v1: 95", "x@v1: 95", 16, f"{WEIGHTS}.x@v1", "'x' is not in models; known: up-next"),
    ("80, use: up-next@v1", "80, use: x@v1", 23, f"{CELLS}.1.use", "model 'x' is not in models"),
    ("  ml-cluster-1:", "  ml-cluster-2:", 28, f"{VERSIONS}.v1.cluster", "'ml-cluster-1' is not in clusters;"),
    # tenants
    tenant("ads: {rte: 5}", "ads.rte", "unknown field 'rte'; did you mean 'rate'?"),
    tenant("ads: 5", "ads", "5 is not a mapping; write fields as 'name: value'"),
    tenant("ads: {}", "ads", "limits nothing; add 'rate', 'concurrent' or"),
    tenant("ads: {burst: 5}", "ads", "has 'burst' without 'rate'; add the rate"),
    tenant("ads:\n    rate: 0", "ads.rate", "0 is not a rate; write requests per", line=35),
    tenant("ads: {rate: yes}", "ads.rate", "'yes' is not a rate; write requests per"),
    tenant("ads: {rate: 1e9}", "ads.rate", "more than 0 and at most 1,000,000"),
    tenant("ads: {rate: 1, burst: 0}", "ads.burst", "0 is not a number of requests"),
    tenant("ads: {concurrent: 1.5}", "ads.concurrent", "write a whole number from 1"),
    tenant("a b: {rate: 1}", "'a b'", "is not a tenant's name; write it like ads"),
    # shadow, fallback, override, config
    part("shadow: {use: up-next@v1, percent: 1, at: 2}", "shadow.at", "unknown field 'at'; known: pe"),
    part("shadow: {use: up-next@v1}", "shadow.percent", "add it, like percent: 10"),
    part("shadow: {use: up-next@v1, percent: 101}", "shadow.percent", "percent 101 is not a whole"),
    part("shadow: {use: up-next@v1, percent: 0.5}", "shadow.percent", "a number from 0 to 100"),
    part("shadow: {use: up-next@v9, percent: 1}", "shadow.use", "no version 'v9'; known: v1, v2"),
    part("shadow: up-next@v1", "shadow", "'up-next@v1' is not a mapping; write fields as"),
    part("fallback: up-next@v1", "fallback", "is not a list; write [up-next@v1]"),
    part("fallback: []", "fallback", "is an empty list; write at least one of its model versions"),
    part("fallback: [up-next@v1, up-next@v1]", "fallback", "'up-next@v1' is listed twice; keep it"),
    part("fallback:\n    - up-next@v1\n    - x@v1", "fallback[1]", "model 'x' is not in models", line=9),
    part("fallback: [up-next]", "fallback[0]", "is not a model version; write it like cw-ranker@v2"),
    part("override: playback", "override", "is not a list; write [playback]"),
    part("override: []", "override", "write at least one of its callers"),
    part("override: [Nobody Here]", "override[0]", "is not a caller's name; write it like homepage"),
    ("name: tv\n", "name: override\n", 8, f"{RULES}[0].name", "a rule cannot be named 'override'"),
    ("use: up-next@v2\n ", "use: up-next@v2\n        config: 7\n ", 12, f"{RULES}[0].config", "7 is not a mapping"),
    ("80, use:", "80, config: x, use:", 23, f"{CELLS}.1.config", "'x' is not a mapping"),
    # weights that cannot be
    ("up-next@v1: 95\n            up-next@v2: 5", "up-next@v1: 0", 15, WEIGHTS, "weights add up to 0;"),
    (
        "models:",
        MORE.format("1: {weight: 70, use: up-next@v1}, 2: {weight: 30, use: up-next@v2}"),
        31,
        "use_cases.Later.rules[0].experiment.cells",
        "experiment '7' has other cells or weights at use_cases.UpNext.rules[2], and users are allocated to cells by",
    ),
    (
        "models:",
        MORE.format("1: {weight: 80, use: up-next@v1}, 3: {weight: 20, use: up-next@v2}"),
        31,
        "use_cases.Later.rules[0].experiment.cells",
        "make them equal, or give one another id",
    ),
    # rules that can never match
    ("      - name: tv\n        when:\n          device: [tv]\n", "      - name: tv\n", 10, f"{RULES}[1]", ALWAYS),
    ("device: [tv]", "not: {device: [tv], not: {device: [tv]}}", 12, f"{RULES}[1]", ALWAYS),
    ("device: [tv]", "caller: [playback]", 12, f"{RULES}[1]", ALWAYS),
    ("device: [tv]", "caller: [search]", 10, f"{RULES}[0].when.caller", "name one of its callers: playback"),
    (
        "device: [tv]",
        "device: [tv]\n          not: {device: [tv, phone]}",
        11,
        f"{RULES}[0].when.not",
        "rules out all that the conditions beside it let pass, so that the rule can never match; change one of them",
    ),
    (
        "canary\n",
        "canary\n        when: {device: [tv], country: [US]}\n",
        12,
        f"{RULES}[1]",
        "can never match, as rule 'tv' before it matches all that it would; move it up, or remove it",
    ),
    (
        "unit: tenant",
        "unit: user_id",
        18,
        f"{RULES}[2]",
        "can never match, as rule 'canary' before it matches all that",
    ),
    (
        "ab\n        experiment:\n          id: 7\n          unit: tenant",
        NO_ORIGIN,
        22,
        f"{RULES}[2].experiment.unit",
        "only requests without traffic_origin meet the rule's conditions, and for those no share can be drawn",
    ),
    # of several, the first
    ("ranking.v1\n    timeout: 250ms", "{}\n    timeout: 0", 4, f"{UP}.api", "a mapping is not a text"),
]


def error_of(text: str) -> RouteTableError:
    with pytest.raises(RouteTableError) as caught:
        read_sources([Source("routes.yaml", text)])
    return caught.value


def test_the_table_without_mistakes_is_good() -> None:
    assert list(read_sources([Source("routes.yaml", GOOD)]).versions) == ["up-next.v1", "up-next.v2"]


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "problem"), BAD, ids=[f"{bad[3]}:{bad[1][:20]!r}" for bad in BAD]
)
def test_a_mistake_is_named_with_its_place_and_remedy(old: str, new: str, line: int, field: str, problem: str) -> None:
    assert old in GOOD
    error = error_of(GOOD.replace(old, new, 1))
    assert (f"routes.yaml:{line}", field) == (f"{error.file}:{error.line}", error.field)
    assert problem in error.problem
    assert str(error).startswith(f"routes.yaml:{line}: ")
    assert all(each.startswith("routes.yaml:") and len(each) < 400 for each in str(error).splitlines())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # What nothing refers to may wait for its time, a rule may match what an earlier one leaves over, and an
        # experiment may go on elsewhere.
        ("models:", "models:\n  idle: {versions: {v1: {cluster: ml-cluster-1}}}"),
        ("canary\n", "canary\n        when: {device: [tv, phone]}\n"),
        ("device: [tv]", "device: [tv, phone]\n          not: {device: [tv]}"),
        ("device: [tv]", "caller: [playback, search]\n          tenant: [t]"),
        ("models:", MORE.format("1: {weight: 80, use: up-next@v2}, 2: {weight: 20, use: up-next@v1}")),
        (IN, f"    fallback: [up-next@v1]\n    shadow: {{use: up-next@v1, percent: 0}}\n{IN}"),
        (IN, f"    override: [playback]\n{IN}"),
    ],
)
def test_unusual_but_valid_tables_are_accepted(old: str, new: str) -> None:
    assert old in GOOD
    read_sources([Source("routes.yaml", GOOD.replace(old, new, 1))])


def test_a_use_case_that_comes_later_is_held_against_the_experiments_that_there_are() -> None:
    there = read_sources([Source("routes.yaml", GOOD)]).document["use_cases"]

    def clashes(weight: int, name: str = "Later") -> list[str]:
        cells = {"1": {"weight": weight, "use": "up-next@v1"}, "2": {"weight": 100 - weight, "use": "up-next@v1"}}
        rule = {"name": "x", "experiment": {"id": "7", "unit": "user_id", "cells": cells}}
        changed = {name: there["UpNext"] | {"rules": [rule]}}
        return [dotted(each.path) for each in clashing(changed, there)]

    assert clashes(80) == []
    assert clashes(70) == ["use_cases.Later.rules[0].experiment.cells"]
    assert clashes(70, "UpNext") == []


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}", "null"])
def test_an_empty_file_is_refused(text: str) -> None:
    assert str(error_of(text)) == "routes.yaml:1: is empty; write use_cases, models and clusters"


def test_all_mistakes_are_listed_in_the_order_of_their_lines() -> None:
    text = (
        "use_cases:\n"
        "  A:\n"
        "    callers: [x]\n"
        "    api: ranking.v1\n"
        "    default: m@v9\n"
        "    rules:\n"
        "      - {name: s, split: {unit: user_id, weights: {m@v1: 60, m@v2: 50}}}\n"
        "  B: {callers: [x], api: ranking.v1, default: m@v9}\n"
        "  C: {callers: x, api: ranking.v1, default: m@v1, colour: red}\n"
        "  D: {callers: [x], api: ranking.v1, default: broken@v1}\n"
        "models:\n"
        "  m: {versions: {v1: {cluster: a}, v2: {cluster: zz}}}\n"
        "  broken: {versions: {v1: {}}}\n"
        "clusters:\n"
        "  a: {replicas: 1000000000}\n"
    )
    error = error_of(text)
    said = [line.split(": ")[:2] for line in str(error).splitlines()]
    assert said == [
        ["routes.yaml:7", "use_cases.A.rules[0].split.weights"],
        ["routes.yaml:8", "use_cases.B.default"],
        ["routes.yaml:9", "use_cases.C.callers"],
        ["routes.yaml:9", "use_cases.C.colour"],
        ["routes.yaml:12", "models.m.versions.v2.cluster"],
        ["routes.yaml:13", "models.broken.versions.v1.cluster"],
        ["routes.yaml:15", "clusters.a.replicas"],
    ]
    assert (error.line, error.field) == (7, "use_cases.A.rules[0].split.weights")


def test_a_list_of_mistakes_fits_into_a_status_message() -> None:
    text = "use_cases:\n" + "".join(f"  C{number}: {{wrong: 1}}\n" for number in range(500))
    *lines, last = str(error_of(text)).splitlines()
    assert len(lines) == 20
    assert last.startswith("… and ")
    assert last.endswith(" more")
    assert len(str(error_of(text))) < 5_000


def test_a_use_case_without_timeout_has_one_second() -> None:
    without = GOOD.replace("    timeout: 250ms\n", "", 1)
    found = read_sources([Source("routes.yaml", without)])
    assert found.document["use_cases"]["UpNext"]["timeout"] == "1s"
    assert found.document == document_of([without])  # as the checkers read it
    assert found == read_sources([Source("routes.yaml", GOOD.replace("250ms", "1s", 1))])


def test_no_source_at_all_is_refused() -> None:
    with pytest.raises(RouteTableError, match="is empty"):
        read_sources([])
