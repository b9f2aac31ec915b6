"""What use cases must agree on: a model's API, a version's resilience settings, an experiment's cells.

All use cases of a table are counted once. A change is then checked at the cost of what it names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lab.routing.checks import references
from lab.routing.keys import routing_key, version_key
from lab.routing.resilience import Policy

if TYPE_CHECKING:
    Subject = tuple[str, str]

_PLAIN = Policy()


class Agreements:
    """Subject → what is stated about it, and by how many use cases.

    Args:
        use_cases: valid entries of a route table.
    """

    __slots__ = ("_stated",)

    def __init__(self, use_cases: Iterable[Mapping[str, Any]] = ()) -> None:
        self._stated: dict[Subject, Counter[Hashable]] = {}
        for use_case in use_cases:
            for subject, value in _statements(use_case):
                self._stated.setdefault(subject, Counter())[value] += 1

    def after(self, gone: Iterable[Mapping[str, Any]], come: Iterable[Mapping[str, Any]]) -> Agreements | None:
        """The agreements without some use cases and with others; None if these would disagree."""
        touched: dict[Subject, Counter[Hashable]] = {}
        for use_cases, by in ((gone, -1), (come, 1)):
            for use_case in use_cases:
                for subject, value in _statements(use_case):
                    if subject not in touched:
                        touched[subject] = Counter(self._stated.get(subject, ()))
                    touched[subject][value] += by
        result = Agreements()
        # Copied as a whole, which takes microseconds: tables of earlier revisions keep theirs.
        result._stated = self._stated.copy()
        for subject, values in touched.items():
            result._stated[subject] = left = +values
            if len(left) > 1:
                return None
            if not left:
                del result._stated[subject]
        return result

    def policy(self, key: str) -> Policy | None:
        """The resilience settings of a model version, by its routing key; None if it has none."""
        for policy in self._stated.get(("policy", version_key(key)), ()):
            if isinstance(policy, Policy) and policy != _PLAIN:
                return policy
        return None

    def differs(self, other: Agreements, key: str) -> bool:
        """Whether both state resilience settings of a model version, by its routing key, and not the same ones."""
        subject = ("policy", version_key(key))
        own, its = self._stated.get(subject), other._stated.get(subject)
        return own is not None and its is not None and own.keys() != its.keys()


def _statements(use_case: Mapping[str, Any]) -> Iterator[tuple[Subject, Hashable]]:
    policy = Policy.of(use_case) or _PLAIN
    for place, reference in references((), use_case):
        model, version = reference.split("@", 1)
        yield ("api", model), use_case["api"]
        if place[0] != "shadow":
            yield ("policy", routing_key(model, version)), policy
    for rule in use_case.get("rules", ()):
        if "experiment" in rule:
            cells = rule["experiment"]["cells"].items()
            yield ("experiment", str(rule["experiment"]["id"])), frozenset((cell, arm["weight"]) for cell, arm in cells)
