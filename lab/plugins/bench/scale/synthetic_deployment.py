"""Generates a realistic deployment of thousands of clusters: route table, replicas, and how popular each use case is.

The same seed generates the same deployment. Its proportions are those of real ones: a few use cases, models and
clusters are popular and most are not (Zipf's law); popular clusters have more replicas and hold several models; most
models have one or two versions, some have many; a use case has a few callers, and no rule or one, rarely three.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import accumulate, count, islice
from random import Random
from typing import Any

from lab.errors import InputError
from models.stub.versions import Identity

CALLERS = (
    *("homepage", "search", "playback", "payments", "recommendations", "streaming", "kids", "mobile", "tv", "web"),
    *("details", "trailers", "my-list", "browse", "voice", "games", "live", "downloads", "profiles", "email", "push"),
    *("in-app", "ads", "promotions", "signup", "billing", "gift-cards", "login", "devices", "support"),
)
MOST_CLUSTERS, MOST_CALLERS = 60_000, 200

CONTEXTS: Mapping[str, tuple[str, ...]] = {
    "device": ("tv", "phone", "web"),
    "country": ("US", "CA", "DE", "FR", "IN"),
    "segment": ("adults", "kids"),
    "surface": ("home_page",),
    "tenant": ("consumer",),
}
"""Values of the request context's fields, as in any load."""

_VERSIONS_A_CLUSTER = 1.3
_ANOTHER_VERSION = 0.55  # chance that a model has one more, up to _MOST_VERSIONS
_MOST_VERSIONS = 8
_REPLICAS = ((0.01, 4), (0.1, 2), (1.0, 1))  # share of the clusters, most popular first, and their replicas
_OF_FRAUD = 0.1
_RULES = (0, 0, 1, 1, 1, 2, 3)
_ZIPF_STEPS = 24  # how many times as often a caller requests its most popular use case as its least popular


@dataclass(frozen=True, slots=True)
class SyntheticDeployment:
    """A route table with its replicas, and the use cases of each caller, repeated in proportion to their requests."""

    document: Mapping[str, Any]
    replicas: Sequence[Identity]
    popularity: Mapping[str, Sequence[str]]


def generate(*, clusters: int, callers: int, use_cases: int, seed: int = 1, port: int = 0) -> SyntheticDeployment:
    """Generates a deployment. Each replica has an address of its own in 127.0.0.0/8, and all have the same port.

    Raises:
        InputError: a number is out of range.
    """
    for name, number, most in (("clusters", clusters, MOST_CLUSTERS), ("callers", callers, MOST_CALLERS)):
        if not 1 <= number <= most:
            raise InputError(f"--{name}: {number} is out of range: use 1 to {most}")
    if not callers <= use_cases <= clusters * 10:
        raise InputError(
            f"--use-cases: {use_cases} is out of range: use {callers} (one per caller) to {clusters * 10} (ten per "
            "cluster)"
        )
    draw = Random(f"scale:{seed}")  # noqa: S311 (no secret)
    names = [f"ml-cluster-{number}" for number in range(1, clusters + 1)]
    counts = [next(count for share, count in _REPLICAS if rank < share * clusters) for rank in range(clusters)]
    models = _models(names, draw)
    calling = [*CALLERS, *(f"service-{number}" for number in range(len(CALLERS) + 1, callers + 1))][:callers]
    asked = _use_cases(use_cases, calling, models, draw)
    document = {
        "use_cases": asked,
        "models": models,
        "clusters": {name: {"replicas": count} for name, count in zip(names, counts, strict=True)},
    }
    addresses = _addresses(port)
    replicas = [
        Identity(name, f"{name}-{chr(ord('a') + number)}", next(addresses))
        for name, count in zip(names, counts, strict=True)
        for number in range(count)
    ]
    return SyntheticDeployment(document, replicas, _popularity(asked))


def _models(clusters: Sequence[str], draw: Random) -> dict[str, Any]:
    """Puts one version on every cluster, and all further versions on popular clusters."""
    sizes = list(_sizes(round(len(clusters) * _VERSIONS_A_CLUSTER), draw))
    places = list(clusters)
    draw.shuffle(places)
    popular = list(accumulate(1 / rank for rank in range(1, len(clusters) + 1)))
    while len(places) < sum(sizes):
        places += draw.choices(clusters, cum_weights=popular, k=1)
    at = iter(places)
    models = {}
    for number, size in enumerate(sizes, start=1):
        versions: dict[str, dict[str, Any]] = {f"v{version}": {"cluster": next(at)} for version in range(1, size + 1)}
        for version in versions.values():
            if draw.random() < 1 / 4:
                version["config"] = {"diversity": round(draw.random(), 2)}
        models[f"model-{number}"] = {"versions": versions}
    return models


def _sizes(versions: int, draw: Random) -> Iterator[int]:
    """Yields the number of versions of each model; they add up to ``versions``."""
    while versions > 0:
        size = 1
        while size < min(_MOST_VERSIONS, versions) and draw.random() < _ANOTHER_VERSION:
            size += 1
        versions -= size
        yield size


def _use_cases(number: int, callers: Sequence[str], models: Mapping[str, Any], draw: Random) -> dict[str, Any]:
    known = list(models)
    draw.shuffle(known)  # popularity is independent of the number of versions
    popular = list(accumulate(1 / rank for rank in range(1, len(known) + 1)))
    busy = list(accumulate(1 / (rank + 5) for rank in range(len(callers))))
    apis: dict[str, str] = {}  # the use cases of a model share its API
    result = {}
    for place in range(number):
        model = draw.choices(known, cum_weights=popular)[0]
        # Every caller has at least one use case.
        first = callers[place] if place < len(callers) else draw.choices(callers, cum_weights=busy)[0]
        others = draw.choices(callers, cum_weights=busy, k=draw.choice((0, 0, 1, 2)))
        result[f"UseCase{place + 1}"] = {
            "callers": sorted({first, *others} if place else callers),  # the first use case has all callers
            "api": apis.setdefault(model, "fraud.v1" if draw.random() < _OF_FRAUD else "ranking.v1"),
            "timeout": "2s",
            "default": draw.choice(list(_references(model, models))),
            "rules": list(_rules(model, models, draw)),
        }
    return result


def _references(model: str, models: Mapping[str, Any]) -> Iterator[str]:
    return (f"{model}@{version}" for version in models[model]["versions"])


def _rules(model: str, models: Mapping[str, Any], draw: Random) -> Iterator[dict[str, Any]]:
    versions = list(_references(model, models))
    conditions = [{"device": ["tv"]}, {"device": ["phone"], "country": ["US", "CA"]}, {"segment": ["kids"]}]
    number = draw.choice(_RULES)
    for place, condition in enumerate(islice(draw.sample(conditions, len(conditions)), number)):
        if place == number - 1 and len(versions) > 1 and draw.random() < 1 / 2:
            share = draw.choice((1, 5, 10, 50))
            new, old = draw.sample(versions, 2)
            yield {"name": "canary", "split": {"unit": "user_id", "weights": {old: 100 - share, new: share}}}
        else:
            yield {"name": f"rule-{place + 1}", "when": condition, "use": draw.choice(versions)}


def _popularity(use_cases: Mapping[str, Any]) -> dict[str, list[str]]:
    by_caller: dict[str, list[str]] = {}
    for name, use_case in use_cases.items():
        for caller in use_case["callers"]:
            by_caller.setdefault(caller, []).append(name)
    return {
        caller: [name for rank, name in enumerate(names, start=1) for _ in range(max(1, round(_ZIPF_STEPS / rank)))]
        for caller, names in sorted(by_caller.items())
    }


def _addresses(port: int) -> Iterator[str]:
    """Loopback addresses that no other unit uses."""
    return (f"{IPv4Address('127.1.0.1') + number}:{port}" for number in count())
