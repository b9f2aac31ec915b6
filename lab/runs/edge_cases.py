"""Finds requests that a uniform draw hardly ever makes: users in edge buckets, and values that look like others.

The judge's own reading of the table finds them, so that a mistake of the router hides none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, count, zip_longest
from random import Random
from typing import Any
from unicodedata import normalize

from lab.checkers.plain import bucket_of, draw_of, fields_read, passed, shares_of
from lab.load.plan import EdgeCase

_TRIES = 400
_MOST_UNITS = 3_000  # tried for each spelling
_MOST_USERS = 1_000_000  # tried for the edges of one draw; 10,000 buckets, so all are found in a tenth of that
_NOT_VARIED = frozenset({"caller", "override", "traffic_origin"})
_SPELLINGS = ("u{}", "U{}", " u{}", "u{} ", "ü{}", "u\u0308{}")


def edge_cases(
    document: Mapping[str, Any],
    use_cases: Sequence[str],
    caller: str,
    contexts: Mapping[str, Sequence[str]],
    fixed: Collection[str] = (),
) -> tuple[EdgeCase, ...]:
    """Returns the edge cases of a route table, the use cases in turn.

    For each rule: requests that meet it, that fail by a value spelled alike or left out, and both sides of its
    negations. For each draw: no unit, units in the first and last bucket of each share, and units in another share than
    the unit that differs from them by case, blanks around, or the form of its accents.

    Args:
        document: the table in force.
        use_cases: of the plan.
        caller: of all requests.
        contexts: the plan's choices by field.
        fixed: context fields that must stay as they are drawn.
    """
    found = [_UseCase(document, name, caller, contexts, fixed).cases() for name in dict.fromkeys(use_cases)]
    in_turn = chain.from_iterable(zip_longest(*found))
    return tuple(case for case in in_turn if case is not None)


def spelled_alike(value: str) -> list[str]:
    """Returns values that differ from this one by case, blanks around, an accent, or the form of its accents."""
    others = (value.swapcase(), f" {value}", f"{value} ", f"{value}\u0301", normalize("NFD", value))
    return [other for other in dict.fromkeys(others) if other != value]


class _UseCase:
    """The search in one use case."""

    def __init__(
        self,
        document: Mapping[str, Any],
        name: str,
        caller: str,
        contexts: Mapping[str, Sequence[str]],
        fixed: Collection[str],
    ) -> None:
        self._document, self._name, self._caller = document, name, caller
        self._rules = document["use_cases"][name].get("rules", [])
        self._varied = [each for each in fields_read(document, name) if each not in _NOT_VARIED and each not in fixed]
        self._drawn = contexts
        self._named = {field: list(dict.fromkeys(self._values_of(field))) for field in self._varied}

    def _values_of(self, field: str) -> Iterator[str]:
        for rule in self._rules:
            when = rule.get("when", {})
            while when:
                yield from when.get(field, ())
                when = when.get("not", {})

    def cases(self) -> list[EdgeCase]:
        """Returns what was found: spellings first, as the edges and rules are likelier to be met by chance."""
        meets = self._meeting()
        names = ((rule, f"rule {rule['name']} of {self._name}") for rule in self._rules)
        deciding = [(rule, meets[name]) for rule, name in names if name in meets]
        contexts: list[Mapping[str, str]] = []
        for rule, base in deciding:
            contexts += self._other_spellings(rule, base)
        for rule, base in deciding:
            contexts += self._edges(rule, base)
        contexts += meets.values()
        distinct = {tuple(sorted(each.items())): each for each in contexts}
        return [EdgeCase(self._name, each) for each in distinct.values() if each]

    def _meeting(self) -> dict[str, dict[str, str]]:
        """Returns a context for each place of the table that some were found to meet."""
        random = Random(f"edges:{self._name}")  # noqa: S311 (not security-relevant)
        pools = {field: self._pool(field) for field in self._varied if field != "user_id"}
        found: dict[str, dict[str, str]] = {}
        for _ in range(_TRIES):
            context = {field: random.choice(pool) for field, pool in pools.items()}
            if "user_id" in self._varied:
                context["user_id"] = f"u{random.randrange(_TRIES)}"
            asked = {**{field: values[0] for field, values in self._drawn.items()}, **context, "caller": self._caller}
            for place in passed(self._document, self._name, asked):
                if not place.startswith("edge"):
                    found.setdefault(place, context)
        return found

    def _pool(self, field: str) -> list[str]:
        named = self._named[field]
        alike = [other for value in named for other in spelled_alike(value)]
        return [*named, *named, *self._drawn.get(field, ()), *alike] or [""]

    def _other_spellings(self, rule: Mapping[str, Any], base: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """Yields a rule's values, and units, spelled alike or left out, in requests that are otherwise the rule's."""
        when = rule.get("when", {})
        for field in [each for each in when if each in self._varied]:
            yield {**base, field: ""}
            for value in when[field]:
                yield from ({**base, field: other} for other in spelled_alike(value))
        drawn = draw_of(rule, self._name)
        if drawn is None or drawn[0] not in self._varied:
            return
        unit, salt, weights = drawn
        yield {**base, unit: ""}
        shares = shares_of(weights)

        def arm(value: str) -> str:
            bucket = bucket_of(salt, value)
            return next(name for name, begin, end in shares if begin <= bucket < end)

        for spelling in _SPELLINGS if len(shares) > 1 else ():
            values = map(spelling.format, range(_MOST_UNITS))
            apart = (value for value in values if all(arm(value) != arm(other) for other in _mistaken_for(value)))
            if (value := next(apart, None)) is not None:
                yield {**base, unit: value}

    def _edges(self, rule: Mapping[str, Any], base: Mapping[str, str]) -> Iterator[dict[str, str]]:
        drawn = draw_of(rule, self._name)
        if drawn is None or drawn[0] not in self._varied:
            return
        unit, salt, weights = drawn
        missing = {edge for _, begin, end in shares_of(weights) for edge in (begin, end - 1)}
        for number in count():
            if not missing or number > _MOST_USERS:
                return
            value = f"u{number}"
            if (bucket := bucket_of(salt, value)) in missing:
                missing.discard(bucket)
                yield {**base, unit: value}


def _mistaken_for(value: str) -> set[str]:
    """Returns what a value becomes where case, blanks, accents or their form are lost."""
    lost = (value.lower(), value.upper(), value.strip(), normalize("NFC", value), normalize("NFD", value))
    return {*lost, value.encode("ascii", "ignore").decode()} - {value}
