"""Timeouts of requests that have a routing key: they name no use case, so all use cases of a key share one timeout."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lab.plugins.render._target import Unexpressed
from lab.routing.compiled import Router
from lab.routing.keys import version_key
from lab.routing.uses import grants_of

if TYPE_CHECKING:
    from lab.routing.document import RouteTable
    from lab.routing.rules import UseCase


def timeouts_of_keys(table: RouteTable) -> dict[str, float]:
    """Routing key → the longest timeout of the use cases that it may answer, seconds; no entry if it answers none."""
    found: dict[str, float] = {}
    for use_case, keys in _keys_of(table):
        for key in keys:
            found[key] = max(found.get(key, 0), use_case.timeout_s)
    return found


def exceeded_timeouts(table: RouteTable) -> Iterator[Unexpressed]:
    """The timeouts of use cases that share a routing key with one that may take longer."""
    longest = timeouts_of_keys(table)
    for use_case, keys in _keys_of(table):
        shared = max(keys, key=lambda key: (longest[key], key))
        if longest[shared] > use_case.timeout_s:
            yield Unexpressed(
                ("use_cases", use_case.name, "timeout"),
                f"a request with a routing key names no use case, and {shared} also answers "
                f"one with {longest[shared]:g} s",
                "with that key the longer timeout holds, without one its own",
            )


def _keys_of(table: RouteTable) -> Iterator[tuple[UseCase, set[str]]]:
    """Each use case with the keys that may answer it: those of its rules and, with pins, all of its inference API."""
    grants = grants_of(table)
    keys: defaultdict[str, list[str]] = defaultdict(list)  # routing key without shard → its shards
    for key in table.versions:
        keys[version_key(key)].append(key)
    for use_case in Router.of_document(table.document).use_cases.values():
        pinned = {key for key, grant in grants.items() if use_case.override and use_case.api in grant.apis}
        yield use_case, {*pinned, *(key for name in use_case.answering for key in keys[name])}
