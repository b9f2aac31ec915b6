"""One use case's rules, compiled: conditions as sets, shares as runs of buckets.

A request lacks a field if the field is absent or empty. A lacking field holds for nothing: a condition on it does not
hold (so that ``not`` around it does), and a split or experiment over it does not match.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.errors import CallerNotAllowedError, RouteTableError
from lab.routing.buckets import BUCKETS, Share, bucket_of, experiment_salt, layout, salted, split_salt
from lab.routing.keys import routing_key

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_RULE = "default"
_USE_CASE_FIELDS = frozenset({"callers", "api", "timeout", "default", "rules"})
_RULE_FIELDS = frozenset({"name", "when", "use", "experiment", "split"})
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Conditions:
    """A rule's ``when``.

    Attributes:
        fields: context field → values of which the request must have one.
        negated: conditions that must not all hold.
    """

    fields: tuple[tuple[str, frozenset[str]], ...]
    negated: Conditions | None

    @classmethod
    def of(cls, when: Mapping[str, Any]) -> Conditions:
        """Compiles ``when`` as it stands in the route table."""
        # No request has an empty value, as empty means lacking.
        fields = tuple((name, frozenset(values) - {""}) for name, values in when.items() if name != "not")
        return cls(fields, cls.of(when["not"]) if "not" in when else None)

    def hold(self, context: Mapping[str, str]) -> bool:
        """Whether the request is one of those that are meant."""
        get = context.get
        for name, values in self.fields:
            if get(name) not in values:
                return False
        return self.negated is None or not self.negated.hold(context)

    def reads(self) -> set[str]:
        """Context fields on which it depends whether they hold."""
        own = {name for name, _ in self.fields}
        return own if self.negated is None else own | self.negated.reads()


@dataclass(frozen=True, slots=True)
class Draw:
    """A split's or an experiment's shares.

    Attributes:
        unit: context field whose value is drawn for.
        shares: runs of buckets, named by model version or cell.
        ends: of the shares, for searching.
        keys: routing key of each share.
    """

    unit: str
    salted_hash: Any
    shares: tuple[Share, ...]
    ends: tuple[int, ...]
    keys: tuple[str, ...]

    @classmethod
    def of(cls, unit: str, salt: str, weights: Mapping[str, int], key_of: Mapping[str, str]) -> Draw:
        """Lays out weights, whole percents that add up to 100; ValueError if they do not."""
        shares = layout(weights)
        if not shares or shares[-1].end != BUCKETS:
            raise ValueError("weights do not add up to 100")
        ends = tuple(share.end for share in shares)
        return cls(unit, salted(salt), shares, ends, tuple(key_of[share.name] for share in shares))


@dataclass(frozen=True, slots=True)
class Rule:
    """Conditions, and what to use when they hold: either one routing key or a draw among several."""

    name: str
    conditions: Conditions
    key: str
    draw: Draw | None

    @classmethod
    def of(cls, use_case: str, rule: Mapping[str, Any]) -> Rule:
        """Compiles a rule as it stands in the route table; ValueError if it says more than this code does."""
        name, conditions = rule["name"], Conditions.of(rule.get("when", {}))
        if unknown := rule.keys() - _RULE_FIELDS:
            raise ValueError(f"rule {name!r} has a field {min(unknown)!r} that this version does not carry out")
        if "use" in rule:
            return cls(name, conditions, _key(rule["use"]), None)
        if "split" in rule:
            weights, unit = rule["split"]["weights"], rule["split"]["unit"]
            keys = {reference: _key(reference) for reference in weights}
            return cls(name, conditions, "", Draw.of(unit, split_salt(use_case, name), weights, keys))
        cells = rule["experiment"]["cells"]
        draw = Draw.of(
            rule["experiment"]["unit"],
            experiment_salt(rule["experiment"]["id"]),
            {cell: arm["weight"] for cell, arm in cells.items()},
            {cell: _key(arm["use"]) for cell, arm in cells.items()},
        )
        return cls(name, conditions, "", draw)

    @property
    def keys(self) -> tuple[str, ...]:
        """Routing keys that it may choose."""
        return self.draw.keys if self.draw else (self.key,)

    def reads(self) -> set[str]:
        """Context fields on which its choice depends, a draw's unit included."""
        return self.conditions.reads() | ({self.draw.unit} if self.draw else set())


@dataclass(frozen=True, slots=True)
class UseCase:
    """One use case's rules, compiled."""

    name: str
    callers: frozenset[str]
    api: str
    timeout_s: float
    rules: tuple[Rule, ...]
    default_key: str
    reads: tuple[str, ...]
    keys: frozenset[str]

    @classmethod
    def of(cls, name: str, document: Mapping[str, Any]) -> UseCase:
        """Compiles a use case as it stands in a route table that was validated before.

        Raises:
            RouteTableError: it is not one that this code understands in full.
        """
        try:
            if unknown := document.keys() - _USE_CASE_FIELDS:
                raise ValueError(f"it has a field {min(unknown)!r} that this version does not carry out")  # noqa: TRY301
            rules = tuple(Rule.of(name, rule) for rule in document.get("rules", ()))
            default_key = _key(document["default"])
            return cls(
                name=name,
                callers=frozenset(document["callers"]),
                api=document["api"],
                timeout_s=_seconds(document["timeout"]),
                rules=rules,
                default_key=default_key,
                reads=tuple(sorted({read for rule in rules for read in rule.reads()})),
                keys=frozenset((default_key, *(key for rule in rules for key in rule.keys))),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise RouteTableError(f"cannot be compiled: {reason}", field=f"use_cases.{name}") from error

    def admit(self, context: Mapping[str, str]) -> None:
        """Lets the context's caller pass, or raises :class:`CallerNotAllowedError`."""
        if context.get("caller") not in self.callers:
            raise CallerNotAllowedError(
                f"caller {shown(context.get('caller', ''))} may not ask for use case {self.name!r}; "
                f"these may: {', '.join(sorted(self.callers))}"
            )

    def select(self, context: Mapping[str, str]) -> tuple[str, str, int | None]:
        """Routing key, rule and bucket: the first rule that matches decides."""
        get = context.get
        for rule in self.rules:
            if not rule.conditions.hold(context):
                continue
            draw = rule.draw
            if draw is None:
                return rule.key, rule.name, None
            if unit := get(draw.unit):
                bucket = bucket_of(draw.salted_hash, unit)
                return draw.keys[bisect_right(draw.ends, bucket)], rule.name, bucket
        return self.default_key, DEFAULT_RULE, None


def shown(value: str) -> str:
    """A request's own text in an error: quoted, on one line, cut when it is long."""
    return repr(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!r}…"


def _key(reference: str) -> str:
    model, _, version = reference.partition("@")
    return routing_key(model, version)


def _seconds(timeout: str) -> float:
    if timeout.endswith("ms"):
        return float(timeout.removesuffix("ms")) / 1000
    return float(timeout.removesuffix("s"))
