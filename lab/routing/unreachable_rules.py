"""Finds rules that can never match: contradictory ones, and those to which earlier rules leave nothing.

A rule matches a union of *boxes*. A box restricts each field of the request to a set of values, or to all but a set; an
absent field has the empty value. The boxes of earlier rules are subtracted from a rule's; if nothing remains, it can
never match. That is exact, since fields take their values independently, and cheap: a ``when`` with n conditions, with
any nesting of ``not``, has at most n boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

MAX_STEPS = 1_000_000
"""Maximum comparisons of boxes per table. Larger tables, with thousands of rules per use case, are checked in part."""

_MAX_PIECES = 256
_NAMED = 3
_TRAFFIC_ORIGINS = frozenset({"", "real", "artificial"})
_ABSENT = frozenset({""})

Path = tuple[str | int, ...]


class Unreachable(NamedTuple):
    """A rule that can never match.

    Attributes:
        path: from the rule to the cause.
        reason: the problem, and the remedy.
    """

    rule: int
    path: Path
    reason: str


class _Values(NamedTuple):
    """Values that a field may have: only these, or all but these."""

    listed: frozenset[str]
    inside: bool

    def meet(self, other: _Values) -> _Values:
        if self.inside:
            return _Values(self.listed & other.listed if other.inside else self.listed - other.listed, inside=True)
        if other.inside:
            return _Values(other.listed - self.listed, inside=True)
        return _Values(self.listed | other.listed, inside=False)

    def none(self) -> bool:
        return self.inside and not self.listed


_Box = dict[str, _Values]


class Steps:
    """The comparisons that a table has left."""

    def __init__(self, allowed: int = MAX_STEPS) -> None:
        self.left = allowed


class _Space:
    """All requests of one use case."""

    def __init__(self, callers: Iterable[str]) -> None:
        self._known = {"caller": frozenset(callers), "traffic_origin": _TRAFFIC_ORIGINS}

    def narrowed(self, box: _Box, field: str, values: _Values) -> _Box | None:
        """The part of the box in which the field has these values; None if it is empty."""
        if (known := self._known.get(field)) is not None:
            values = values.meet(_Values(known, inside=True))
        if field in box:
            values = values.meet(box[field])
        if values.none():
            return None
        if values.listed == known:
            return box
        return {**box, field: values}

    def _met(self, box: _Box, other: _Box) -> _Box | None:
        met: _Box | None = box
        for field, values in other.items():
            if met is not None:
                met = self.narrowed(met, field, values)
        return met

    def boxes(self, when: Mapping[str, Any]) -> list[_Box]:
        """The boxes in which conditions hold."""
        box = self._met(
            {}, {name: _Values(frozenset(each), inside=True) for name, each in when.items() if name != "not"}
        )
        if box is None:
            return []
        if "not" not in when:
            return [box]
        return [met for other in self._outside(when["not"]) if (met := self._met(box, other)) is not None]

    def _outside(self, when: Mapping[str, Any]) -> list[_Box]:
        """The boxes in which conditions do not hold: where a field differs, or where the inner ``not`` fails."""
        differing = (
            self.narrowed({}, field, _Values(frozenset(values), inside=False))
            for field, values in when.items()
            if field != "not"
        )
        return [box for box in differing if box is not None] + (self.boxes(when["not"]) if "not" in when else [])

    def with_field(self, boxes: Iterable[_Box], field: str) -> list[_Box]:
        """The parts of the boxes in which the field is present."""
        values = _Values(_ABSENT, inside=False)
        return [box for each in boxes if (box := self.narrowed(each, field, values)) is not None]

    def left_over(self, boxes: list[_Box], others: Iterable[_Box], steps: Steps) -> list[_Box]:
        """The parts of some boxes that are in none of the others; all, if the limit of comparisons is reached."""
        left = boxes
        for other in others:
            steps.left -= len(left)
            if steps.left < 0 or len(left) > _MAX_PIECES:
                return boxes
            left = [piece for box in left for piece in self._taken_away(box, other)]
        return left

    def _taken_away(self, box: _Box, other: _Box) -> list[_Box]:
        """The part of the box that is not in the other."""
        for field, values in other.items():
            if field in box and box[field].meet(values).none():
                return [box]
        pieces: list[_Box] = []
        rest = box
        for field, values in other.items():
            piece = self.narrowed(rest, field, _Values(values.listed, inside=not values.inside))
            if piece is not None:
                pieces.append(piece)
            inner = self.narrowed(rest, field, values)
            if inner is None:
                return [box]
            rest = inner
        return pieces


def unreachable(use_case: Mapping[str, Any], steps: Steps) -> Iterator[Unreachable]:
    """The rules of a use case that can never match.

    Args:
        use_case: as in the route table, of the right shape.
        steps: shared by all use cases of a table.
    """
    space = _Space(use_case["callers"])
    earlier: list[tuple[str, list[_Box]]] = []
    for index, rule in enumerate(use_case.get("rules", [])):
        boxes = space.boxes(rule.get("when", {}))
        if not boxes:
            yield _contradiction(index, rule, use_case["callers"])
            continue
        draw = next((name for name in ("split", "experiment") if name in rule), "")
        if draw:
            unit = rule[draw]["unit"]
            boxes = space.with_field(boxes, unit)
            if not boxes:
                reason = (
                    f"only requests without {unit} meet the rule's conditions, and for those no share can be drawn, so "
                    f"that it can never match; change the conditions, or the unit"
                )
                yield Unreachable(index, (draw, "unit"), reason)
                continue
        if reason := _takers(space, boxes, earlier, steps):
            yield Unreachable(index, (), f"can never match, as {reason}; move it up, or remove it")
            continue
        earlier.append((rule["name"], boxes))


def _takers(space: _Space, boxes: list[_Box], earlier: list[tuple[str, list[_Box]]], steps: Steps) -> str:
    """The earlier rules that together match all of the boxes, as text; empty if something is left."""
    takers = []
    left = boxes
    for name, its_boxes in earlier:
        if steps.left < 0:
            return ""
        before = left
        left = space.left_over(before, its_boxes, steps)
        if left == before:
            continue
        takers.append(name)
        # Mostly a single rule is enough, though others took a part before it.
        if not space.left_over(boxes, its_boxes, steps):
            takers = [name]
            break
        if not left:
            break
    else:
        return ""
    if len(takers) > 1:
        named = ", ".join(repr(name) for name in takers[:_NAMED])
        rest = f" and {len(takers) - _NAMED} more" if len(takers) > _NAMED else ""
        return f"rules {named}{rest} before it match all that it would"
    always = not space.left_over([{}], dict(earlier)[takers[0]], steps)
    return f"rule {takers[0]!r} before it {'always matches' if always else 'matches all that it would'}"


def _contradiction(index: int, rule: Mapping[str, Any], callers: Iterable[str]) -> Unreachable:
    when = rule["when"]
    if "caller" in when and not set(when["caller"]) & set(callers):
        reason = (
            f"none of these may ask for the use case, so that the rule can never match; name one of its callers: "
            f"{', '.join(sorted(callers))}"
        )
        return Unreachable(index, ("when", "caller"), reason)
    reason = (
        "rules out all that the conditions beside it let pass, so that the rule can never match; "
        "change one of them, or remove the rule"
    )
    return Unreachable(index, ("when", "not"), reason)
