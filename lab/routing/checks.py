"""All problems of a route table's data, each with the path to it.

The shape is checked first (``schema``), and references between parts only in a table of the right shape.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from lab.errors import RouteTableError
from lab.routing.durations import seconds
from lab.routing.resilience import SETTINGS, Policy, has_settings
from lab.routing.schema import DEFAULT_TIMEOUT, RESERVED_RULES, Table
from lab.routing.shards import clusters_of
from lab.routing.unreachable_rules import Steps, unreachable
from lab.routing.yaml_nodes import Node, dotted, shown

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


Path = tuple[str | int, ...]

_KNOWN_SHOWN = 8
_KEY = "[key]"  # pydantic's place of an error in a key
_ENTRY = 2  # steps of a path to an entry of a section
_MOST_LISTED = 20
_MOST_CHARACTERS = 4_000  # gRPC refuses status messages of more than 8 KB
_EXAMPLES = {
    "callers": "[homepage]",
    "api": "ranking.v1",
    "default": "cw-ranker@v1",
    "name": "tv-north-america",
    "unit": "user_id",
    "id": "12345",
    "weight": "100",
    "use": "cw-ranker@v1",
    "percent": "10",
    "cluster": "ml-cluster-1",
    "shards": "[ml-cluster-1, ml-cluster-2]",
    "replicas": "2",
    "versions": "{v1: {cluster: ml-cluster-1}}",
    "rate": "100",
    "cells": "{1: {weight: 100, use: cw-ranker@v1}}",
    "weights": "{cw-ranker@v1: 100}",
    "after": "30ms",
}
_MAPPING = "a mapping; write fields as 'name: value'"
_WANTED = {
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "dict_type": _MAPPING,
    "list_type": "a list; write one entry a line, each after '- '",
    "string_type": "a text; write a text",
    "bool_type": "a yes or no; write true or false",
}


class Problem(NamedTuple):
    """A problem and its place.

    Attributes:
        path: keys and indices from the top of the table.
        details: makes the text; of thousands of problems only one may be shown.
    """

    path: Path
    details: ErrorDetails | str

    def text(self) -> str:
        """The problem and its remedy."""
        return self.details if isinstance(self.details, str) else _in_our_words(self.path, self.details)


def problems(document: object, apis: frozenset[str]) -> list[Problem]:
    """All problems of the table, in no particular order; empty if it is valid."""
    try:
        Table.model_validate(document)
    except ValidationError as error:
        found = _problems_of_shape(error)
        return [*found, *_misfits(_sound_parts(document, found), apis)]
    assert isinstance(document, dict)  # noqa: S101 (its shape was checked above)
    return list(_misfits(document, apis))


def _sound_parts(document: Any, found: Sequence[Problem]) -> dict[str, Any]:
    """The entries whose references can be checked: of the right shape, as are the models that they name.

    None if a whole section is of another shape, or the name of an entry is: others may mean that one.
    """
    broken = {problem.path[:2] for problem in found}
    misnamed = any(isinstance(each.details, dict) and each.details["loc"][2:] == (_KEY,) for each in found)
    if misnamed or any(len(path) < _ENTRY for path in broken):
        return {}
    clusters, models, use_cases = (document.get(section, {}) for section in ("clusters", "models", "use_cases"))

    def names_broken_model(use_case: Mapping[str, Any]) -> bool:
        return any(("models", name.partition("@")[0]) in broken for _, name in references((), use_case))

    return {
        "clusters": {name: {} if ("clusters", name) in broken else one for name, one in clusters.items()},
        "models": {name: one for name, one in models.items() if ("models", name) not in broken},
        "use_cases": {
            name: one
            for name, one in use_cases.items()
            if ("use_cases", name) not in broken and not names_broken_model(one)
        },
    }


def _problems_of_shape(error: ValidationError) -> list[Problem]:
    details = error.errors(include_url=False)
    unknown = {each["loc"][:-1] for each in details if each["type"] == "extra_forbidden"}
    return [
        Problem(tuple(part for part in each["loc"] if part != _KEY), each)
        for each in details
        # A misspelt field is also missing; the misspelling is the more helpful of the two problems.
        if not (each["type"] == "missing" and each["loc"][:-1] in unknown)
    ]


def error_of(found: Iterable[Problem], root: Node, files: Sequence[str]) -> RouteTableError:
    """An error that lists the problems in the order of the texts that the tree was read from, up to a bound."""
    located = [(root.locate(problem.path), problem) for problem in found]
    located.sort(key=lambda at: (files.index(at[0][0]), at[0][1]))
    listed: dict[str, RouteTableError] = {}  # several of a mapping's problems may have one text
    for number, ((file, line), problem) in enumerate(located):
        if len(listed) == _MOST_LISTED or sum(map(len, listed)) > _MOST_CHARACTERS:
            rest = [f"… and {len(located) - number} more"]
            break
        error = RouteTableError(problem.text(), file=file, line=line, field=dotted(problem.path))
        listed.setdefault(str(error), error)
    else:
        rest = []
    (_, first), *others = listed.items()
    further = [*(text for text, _ in others), *rest]
    return RouteTableError(first.problem, file=first.file, line=first.line, field=first.field, further=further)


def known(names: Iterable[str]) -> str:
    """``known: a, b``, truncated if it is long."""
    names = sorted(names)
    rest = f" and {len(names) - _KNOWN_SHOWN} more" if len(names) > _KNOWN_SHOWN else ""
    return f"known: {', '.join(islice(names, _KNOWN_SHOWN)) or 'none'}{rest}"


def _suggestion(name: str, names: Iterable[str]) -> str:
    names = list(names)
    close = get_close_matches(name[:100], names, n=1)
    return f"did you mean {close[0]!r}?" if close else known(names)


def _in_our_words(path: Path, details: ErrorDetails) -> str:
    name = str(path[-1]) if path else ""
    match details["type"]:
        case "lab":
            return str(details["ctx"]["problem"])
        case "extra_forbidden":
            return f"unknown field {shown(name)}; {_suggestion(name, _fields_at(path[:-1]))}"
        case "missing":
            example = f", like {name}: {_EXAMPLES[name]}" if name in _EXAMPLES else ""
            return f"missing field '{name}'; add it{example}"
        case other:
            return f"{shown(details['input'])} is not {_WANTED.get(other, f'valid here ({other})')}"


def _fields_at(path: Path) -> list[str]:
    """Names of the fields allowed in the mapping at ``path``."""
    here: Any = Table
    for part in path:
        here = _inside(here, part)
    if not (isinstance(here, type) and issubclass(here, BaseModel)):
        return []
    return [info.alias or name for name, info in here.model_fields.items()]


def _inside(kind: Any, part: str | int) -> Any:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        found = next(info for name, info in kind.model_fields.items() if part in {name, info.alias})
        kind = found.annotation
    else:
        kind = get_args(kind)[-1]
    while (origin := get_origin(kind)) in {Annotated, Union}:
        kind = get_args(kind)[0 if origin is Annotated else -1]
    return kind


def _misfits(table: Mapping[str, Any], apis: frozenset[str]) -> Iterator[Problem]:
    models = table.get("models", {})
    clusters = table.get("clusters", {})
    steps = Steps()
    for name, use_case in table.get("use_cases", {}).items():
        path: Path = ("use_cases", name)
        if use_case["api"] not in apis:
            text = f"api {shown(use_case['api'])} is not one of the lab's; {_suggestion(use_case['api'], apis)}"
            yield Problem((*path, "api"), text)
        yield from _rule_names(path, use_case.get("rules", []))
        for place, reference in references(path, use_case):
            if text := _unknown_reference(reference, models):
                yield Problem(place, text)
        for found in unreachable(use_case, steps):
            yield Problem((*path, "rules", found.rule, *found.path), found.reason)
        yield from _contradictions(path, use_case)
    yield from clashing(table.get("use_cases", {}))
    yield from _misplaced(models, clusters)


def _misplaced(models: Mapping[str, Any], clusters: Mapping[str, Any]) -> Iterator[Problem]:
    for model, entry in models.items():
        for version, runs in entry["versions"].items():
            for shard, cluster in clusters_of(runs["cluster"]).items():
                if cluster not in clusters:
                    text = f"cluster {shown(cluster)} is not in clusters; {_suggestion(cluster, clusters)}"
                    place: Path = ("shards", shard - 1) if shard else ()
                    yield Problem(("models", model, "versions", version, "cluster", *place), text)
    for name, cluster in clusters.items():
        if (failover := cluster.get("failover", name)) not in clusters:
            text = f"cluster {shown(failover)} is not in clusters; {_suggestion(failover, clusters)}"
            yield Problem(("clusters", name, "failover"), text)
        elif failover == cluster.get("failover") == name:
            yield Problem(("clusters", name, "failover"), "is this cluster itself; name another, or leave it out")


def _rule_names(path: Path, rules: list[dict[str, Any]]) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, rule in enumerate(rules):
        place = (*path, "rules", index, "name")
        if rule["name"] in RESERVED_RULES:
            yield Problem(
                place, f"a rule cannot be named {rule['name']!r}, as {RESERVED_RULES[rule['name']]}; rename it"
            )
        elif rule["name"] in seen:
            yield Problem(place, f"rule name {shown(rule['name'])} is used twice in this use case; rename one of them")
        seen.add(rule["name"])


def clashing(use_cases: Mapping[str, Any], beside: Mapping[str, Any] | None = None) -> Iterator[Problem]:
    """Conflicts of use cases that share an experiment or a model version.

    Args:
        use_cases: of the right shape; the problems are reported here.
        beside: the other use cases of the table, valid among themselves; those with the same names are ignored.
    """
    others = {name: one for name, one in (beside or {}).items() if name not in use_cases}
    yield from _clashing_experiments(use_cases, others)
    yield from _clashing_settings(use_cases, others)
    yield from _clashing_apis(use_cases, others)


def _clashing_experiments(use_cases: Mapping[str, Any], others: Mapping[str, Any]) -> Iterator[Problem]:
    """Experiments with the same id that allocate users differently."""
    found = list(_experiments(use_cases))
    ids = {identity for identity, _, _ in found}
    beside = _experiments(others, ids) if ids else ()
    seen = {identity: (place, weights) for identity, place, weights in beside}
    for identity, place, weights in found:
        first, its_weights = seen.setdefault(identity, (place, weights))
        if weights != its_weights:
            text = (
                f"experiment {shown(identity)} has other cells or weights at {dotted(first)}, and users are allocated "
                f"to cells by its id alone; make them equal, or give one another id"
            )
            yield Problem((*place, "experiment", "cells"), text)


def _experiments(
    use_cases: Mapping[str, Any], ids: Container[str] | None = None
) -> Iterator[tuple[str, Path, dict[str, int]]]:
    """Id, rule and weights of each experiment, restricted to ``ids`` if given."""
    for name, use_case in use_cases.items():
        for index, rule in enumerate(use_case.get("rules", ())):
            if "experiment" not in rule:
                continue
            experiment = rule["experiment"]
            identity = str(experiment["id"])
            if ids is None or identity in ids:
                weights = {cell: arm["weight"] for cell, arm in experiment["cells"].items()}
                yield identity, ("use_cases", name, "rules", index), weights


def _contradictions(path: Path, use_case: Mapping[str, Any]) -> Iterator[Problem]:
    """Settings of one use case that contradict each other."""
    retries, hedge = use_case.get("retries", {}), use_case.get("hedge")
    timeout = use_case.get("timeout", DEFAULT_TIMEOUT)
    if hedge is not None:
        if "retries" in use_case:
            yield Problem(
                (*path, "hedge"), "goes on where retries stop, and Envoy counts them as one; keep hedge or retries"
            )
        if not use_case.get("idempotent", False):
            yield Problem(
                (*path, "hedge"), "sends a request twice; write 'idempotent: true' if that does no harm, or drop it"
            )
        yield from _too_long((*path, "hedge", "after"), hedge["after"], timeout)
    if "per_try" in retries:
        if "unavailable" not in retries.get("on", ("unavailable",)):
            yield Problem(
                (*path, "retries", "per_try"), "gives an attempt up as unavailable; add 'unavailable' to 'on'"
            )
        yield from _too_long((*path, "retries", "per_try"), retries["per_try"], timeout)
    for name, objective in use_case.get("slo", {}).items():
        yield from _too_long((*path, "slo", name), objective, timeout)


def _too_long(path: Path, duration: str, timeout: str) -> Iterator[Problem]:
    if seconds(duration) >= seconds(timeout):
        yield Problem(path, f"{duration} is not shorter than the use case's timeout, {timeout}; shorten it")


def _clashing_settings(use_cases: Mapping[str, Any], others: Mapping[str, Any]) -> Iterator[Problem]:
    """Resilience settings that differ between use cases that may use the same model version."""
    if not any(has_settings(each) for part in (use_cases, others) for each in part.values()):
        return
    first_with: dict[str, tuple[str, Policy]] = {}
    for name, use_case in {**others, **use_cases}.items():
        policy = Policy.of(use_case) or Policy()
        for place, version in references((), use_case):
            if place[0] == "shadow":
                continue
            other, its_policy = first_with.setdefault(version, (name, policy))
            if policy == its_policy or name not in use_cases:
                continue
            setting = next(each for each in SETTINGS if policy.setting(each) != its_policy.setting(each))
            text = (
                f"{setting!r} differs from that of {dotted(('use_cases', other))}, and both may be answered by "
                f"{version}, whose replicas are treated in one way; make {setting!r} equal in both, or give one a "
                f"version of its own"
            )
            yield Problem(("use_cases", name, setting) if setting in use_case else ("use_cases", name), text)
            break


def _clashing_apis(use_cases: Mapping[str, Any], others: Mapping[str, Any]) -> Iterator[Problem]:
    """Models that use cases of different APIs use: a model serves one API, that of the first use case that names it."""
    serves: dict[str, tuple[str, str]] = {}
    for name, use_case in {**others, **use_cases}.items():
        for place, version in references(("use_cases", name), use_case):
            model, api = version.partition("@")[0], use_case["api"]
            first, its_api = serves.setdefault(model, (name, api))
            if api == its_api or name not in use_cases:
                continue
            text = (
                f"model {shown(model)} serves {its_api} in {dotted(('use_cases', first))}, and this use case is of "
                f"{api}; name a model of {api} here, or correct the api of one of the two"
            )
            yield Problem(place, text)


def references(path: Path, use_case: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Every model version that a valid use case names, and where."""
    yield (*path, "default"), use_case["default"]
    if "shadow" in use_case:
        yield (*path, "shadow", "use"), use_case["shadow"]["use"]
    for index, reference in enumerate(use_case.get("fallback", [])):
        yield (*path, "fallback", index), reference
    for index, rule in enumerate(use_case.get("rules", [])):
        here = (*path, "rules", index)
        if "use" in rule:
            yield (*here, "use"), rule["use"]
        elif "split" in rule:
            for reference in rule["split"]["weights"]:
                yield (*here, "split", "weights", reference), reference
        else:
            for cell, arm in rule["experiment"]["cells"].items():
                yield (*here, "experiment", "cells", cell, "use"), arm["use"]


def _unknown_reference(reference: str, models: Mapping[str, Any]) -> str:
    model, _, version = reference.partition("@")
    if model not in models:
        return f"model {shown(model)} is not in models; {_suggestion(model, models)}"
    versions = models[model]["versions"]
    if version not in versions:
        return f"model {shown(model)} has no version {shown(version)}; {known(versions)}"
    return ""
