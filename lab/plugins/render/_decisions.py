"""A use case's rules as a list of positive conditions on headers, of which the first that holds decides.

Proxies match a request by headers, without negation. Here a rule with ``not`` becomes several entries: requests that it
excludes come first, with the decisions of the rules after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from lab.errors import InputError
from lab.routing.buckets import BUCKETS
from lab.routing.rules import DEFAULT_RULE, Conditions, Rule, UseCase

if TYPE_CHECKING:
    from lab.routing.checks import Path
    from lab.routing.document import RouteTable

USE_CASE_HEADER = "x-use-case"
_MOST = 500
_PERCENT = BUCKETS // 100


Cube = Mapping[str, frozenset[str] | None]
"""Context field → its values, one of which the request must have; None: any value, but not none."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A decision, and the requests that it is for unless an earlier entry is.

    Attributes:
        rule: its name; ``default`` if no rule decides.
        path: of the rule in the route table.
        where: conditions on the request.
        shares: routing key → percent of these requests; nobody answers them if empty.
        drawn: whether shares are drawn by the unit of a split or an experiment.
    """

    rule: str
    path: Path
    where: Cube
    shares: Mapping[str, int]
    drawn: bool = False

    def refused(self) -> Entry:
        """The entry for a target that cannot express it: no other rule may answer its requests."""
        return replace(self, shares={})


class TooManyError(InputError):
    """The rules of a use case, without their negations, are too many entries."""


def header_of(field: str) -> str:
    """The header with a context field: ``x-user-id``."""
    return f"x-{field.replace('_', '-')}"


def in_header(value: str) -> str:
    """A context value as a header holds it: percent-encoded, as headers are ASCII and lose blanks at their ends."""
    return quote(value, safe="")


def headers_of(use_case: str, context: Mapping[str, str]) -> dict[str, str]:
    """The headers of a request that a proxy decides by itself; a field that it lacks has none."""
    fields = {header_of(field): in_header(value) for field, value in context.items() if value and field != "override"}
    return {USE_CASE_HEADER: use_case, **fields}


def entries_of(use_case: UseCase, table: RouteTable) -> list[Entry]:
    """The entries of a use case, of which the first that holds decides; none holds for a caller that it refuses.

    Entries with a version that has shards, among which a proxy cannot choose, are refused.

    Raises:
        TooManyError: there are more than 500.
    """
    kept: list[Entry] = []
    for number, entry in enumerate(_entries(use_case, 0, {"caller": use_case.callers})):
        if not any(covers(earlier.where, entry.where) for earlier in kept):
            kept.append(entry if entry.shares.keys() <= table.versions.keys() else entry.refused())
        if number > _MOST:
            raise TooManyError(f"without 'not' its rules are more than {_MOST} conditions on headers")
    return kept


def _entries(use_case: UseCase, number: int, within: Cube) -> Iterator[Entry]:
    path = ("use_cases", use_case.name)
    if number == len(use_case.rules):
        yield Entry(DEFAULT_RULE, (*path, "default"), within, {use_case.default.key: 100})
        return
    rule = use_case.rules[number]
    for where, holds in _cases(rule.conditions):
        both = meet(within, where)
        if both is None:
            continue
        if not holds:
            yield from _entries(use_case, number + 1, both)
            continue
        # A request without the unit of a draw goes on to the entries of the next rules.
        drawn = meet(both, {rule.draw.unit: None}) if rule.draw else both
        if drawn is not None:
            yield Entry(rule.name, (*path, "rules", number), drawn, _shares(rule), drawn=rule.draw is not None)
        if drawn == within:
            return
    yield from _entries(use_case, number + 1, within)


def _shares(rule: Rule) -> dict[str, int]:
    if rule.draw is None:
        return {target.key: 100 for target in rule.targets}
    found: dict[str, int] = {}
    for target, share in zip(rule.draw.targets, rule.draw.shares, strict=True):
        found[target.key] = found.get(target.key, 0) + (share.end - share.first) // _PERCENT
    return found


def _cases(conditions: Conditions) -> Iterator[tuple[Cube, bool]]:
    """Cubes, of which the first that holds says whether the conditions do; they do not if none holds."""
    own: dict[str, frozenset[str] | None] = dict(conditions.fields)
    if conditions.negated is not None:
        for where, holds in _cases(conditions.negated):
            both = meet(own, where)
            if both is not None:
                yield both, not holds
    yield own, True


def meet(one: Cube, other: Cube) -> Cube | None:
    """The requests in both cubes; None if there can be none."""
    found = dict(one)
    for field, values in other.items():
        mine = found.get(field)
        if mine is None or values is None:
            found[field] = values if mine is None else mine
        else:
            found[field] = mine & values
        if found[field] == frozenset():
            return None
    return found


def covers(wide: Cube, narrow: Cube) -> bool:
    """Whether a cube holds every request that another one holds."""
    for field, values in wide.items():
        if field not in narrow:
            return False
        its = narrow[field]
        if values is not None and (its is None or not its <= values):
            return False
    return True


def exact(cube: Cube) -> list[dict[str, str | None]]:
    """The cube as a union of cubes with one value for each field."""
    found: list[dict[str, str | None]] = [{}]
    for field, values in cube.items():
        options: Sequence[str | None] = (None,) if values is None else sorted(values)
        found = [{**each, field: value} for each in found for value in options]
    return found
