"""One use case's rules, compiled: conditions as sets, shares as runs of buckets.

A request lacks a field that is absent or empty. A condition on such a field does not hold (so ``not`` around it does),
and a split or experiment over it does not match.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from lab.errors import CallerNotAllowedError, RouteTableError
from lab.routing.buckets import BUCKETS, Share, bucket_of, experiment_salt, layout, salted, split_salt
from lab.routing.durations import seconds
from lab.routing.keys import routing_key
from lab.routing.resilience import SETTINGS, Policy
from lab.routing.slo import FIELDS as SLO_FIELDS
from lab.routing.slo import NO_SLO, Slo

DEFAULT_RULE = "default"
OVERRIDE_RULE = "override"
OVERRIDE = "override"
_USE_CASE_FIELDS = frozenset(
    {
        *("callers", "override", "api", "timeout", "default", "rules", "shadow", "fallback", "idempotent", "owner"),
        *("slo", "priority", *SETTINGS),
    }
)
_RULE_FIELDS = frozenset({"name", "when", "use", "experiment", "split", "config"})
_CELL_FIELDS = frozenset({"weight", "use", "config"})
_NO_CONFIG: Mapping[str, Any] = MappingProxyType({})
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Conditions:
    """A rule's ``when``.

    Attributes:
        fields: context field → values, one of which the request must have.
        negated: conditions that must not all hold.
    """

    fields: tuple[tuple[str, frozenset[str]], ...]
    negated: Conditions | None

    @classmethod
    def of(cls, when: Mapping[str, Any]) -> Conditions:
        """Compiles a ``when`` of the route table."""
        # A request never has an empty value: empty means absent.
        fields = tuple((name, frozenset(values) - {""}) for name, values in when.items() if name != "not")
        return cls(fields, cls.of(when["not"]) if "not" in when else None)

    def hold(self, context: Mapping[str, str]) -> bool:
        """Whether the conditions hold for a request."""
        get = context.get
        for name, values in self.fields:
            if get(name) not in values:
                return False
        return self.negated is None or not self.negated.hold(context)

    def reads(self) -> set[str]:
        """Context fields that the result depends on."""
        own = {name for name, _ in self.fields}
        return own if self.negated is None else own | self.negated.reads()


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a rule, or of one of its shares.

    Attributes:
        key: routing key.
        config: parameters that override the version's own, one by one.
        share: the model version or cell of the share, empty if nothing is drawn.
    """

    key: str
    config: Mapping[str, Any]
    share: str = ""


@dataclass(frozen=True, slots=True)
class Draw:
    """The shares of a split or an experiment.

    Attributes:
        unit: context field whose value is hashed.
        shares: runs of buckets, named by model version or cell.
        ends: ends of the shares, for bisection.
        targets: targets of the shares.
    """

    unit: str
    salted_hash: Any
    shares: tuple[Share, ...]
    ends: tuple[int, ...]
    targets: tuple[Target, ...]

    @classmethod
    def of(cls, unit: str, salt: str, weights: Mapping[str, int], targets: Mapping[str, Target]) -> Draw:
        """Lays out weights, whole percents with the sum 100; raises ValueError otherwise."""
        shares = layout(weights)
        if not shares or shares[-1].end != BUCKETS:
            raise ValueError("weights do not add up to 100")
        ends = tuple(share.end for share in shares)
        return cls(unit, salted(salt), shares, ends, tuple(targets[share.name] for share in shares))


@dataclass(frozen=True, slots=True)
class Rule:
    """Conditions, and the target if they hold: one, or a draw among several."""

    name: str
    conditions: Conditions
    target: Target | None
    draw: Draw | None

    @classmethod
    def of(cls, use_case: str, rule: Mapping[str, Any]) -> Rule:
        """Compiles a rule of the route table; raises ValueError for a field unknown to this code."""
        name, conditions = rule["name"], Conditions.of(rule.get("when", {}))
        _refuse_unknown(rule, _RULE_FIELDS, f"rule {name!r}")
        config = _config(rule, _NO_CONFIG)
        if "use" in rule:
            return cls(name, conditions, Target(_key(rule["use"]), config), None)
        if "split" in rule:
            weights, unit = rule["split"]["weights"], rule["split"]["unit"]
            shares = {reference: Target(_key(reference), config, reference) for reference in weights}
            return cls(name, conditions, None, Draw.of(unit, split_salt(use_case, name), weights, shares))
        cells = rule["experiment"]["cells"]
        for cell, arm in cells.items():
            _refuse_unknown(arm, _CELL_FIELDS, f"cell {cell!r} of rule {name!r}")
        draw = Draw.of(
            rule["experiment"]["unit"],
            experiment_salt(rule["experiment"]["id"]),
            {cell: arm["weight"] for cell, arm in cells.items()},
            {cell: Target(_key(arm["use"]), _config(arm, config), cell) for cell, arm in cells.items()},
        )
        return cls(name, conditions, None, draw)

    @property
    def targets(self) -> tuple[Target, ...]:
        """All possible targets."""
        return self.draw.targets if self.draw else (self.target,) if self.target else ()

    def reads(self) -> set[str]:
        """Context fields that its choice depends on, including a draw's unit."""
        return self.conditions.reads() | ({self.draw.unit} if self.draw else set())


@dataclass(frozen=True, slots=True)
class Shadow:
    """A model version that gets copies of a share of a use case's requests; its answers are ignored.

    Attributes:
        percent: of the requests, see :func:`lab.routing.buckets.is_shadowed`.
    """

    routing_key: str
    percent: int

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Shadow:
        """Compiles a ``shadow`` of the route table."""
        _refuse_unknown(document, {"use", "percent"}, "its shadow")
        return cls(_key(document["use"]), int(document["percent"]))


@dataclass(frozen=True, slots=True)
class UseCase:
    """One use case's rules, compiled.

    Attributes:
        override: callers that may pin requests to a model version.
        reads: context fields that the choice of model version and rule depends on.
        fallback: routing keys to try in order if the chosen one fails.
        keys: all routing keys in it.
        policy: resilience settings, None if there are none.
        answering: routing keys that the policy applies to: all except a shadow's.
        slo: for pickers that predict.
        priority: for pickers that let requests wait.
    """

    name: str
    callers: frozenset[str]
    override: frozenset[str]
    api: str
    timeout_s: float
    rules: tuple[Rule, ...]
    default: Target
    fallback: tuple[str, ...]
    shadow: Shadow | None
    reads: tuple[str, ...]
    keys: frozenset[str]
    policy: Policy | None
    answering: frozenset[str]
    slo: Slo = NO_SLO
    priority: int = 0

    @classmethod
    def of(cls, name: str, document: Mapping[str, Any]) -> UseCase:
        """Compiles a use case of a validated route table.

        Raises:
            RouteTableError: it has a field unknown to this code.
        """
        try:
            _refuse_unknown(document, _USE_CASE_FIELDS, "it")
            rules = tuple(Rule.of(name, rule) for rule in document.get("rules", ()))
            default = Target(_key(document["default"]), _NO_CONFIG)
            fallback = tuple(_key(reference) for reference in document.get("fallback", ()))
            shadow = Shadow.of(document["shadow"]) if "shadow" in document else None
            keys = {default.key, *fallback, *(target.key for rule in rules for target in rule.targets)}
            return cls(
                name=name,
                callers=frozenset(document["callers"]),
                override=frozenset(document.get("override", ())),
                api=document["api"],
                timeout_s=seconds(document["timeout"]),
                rules=rules,
                default=default,
                fallback=fallback,
                shadow=shadow,
                # A pinned request gets another decision, or an error, even if nobody may pin.
                reads=tuple(sorted({OVERRIDE, *(read for rule in rules for read in rule.reads())})),
                keys=frozenset(keys | {shadow.routing_key} if shadow else keys),
                policy=Policy.of(document),
                answering=frozenset(keys),
                slo=_slo(document["slo"]) if "slo" in document else NO_SLO,
                priority=document.get("priority", 0),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise RouteTableError(f"cannot be compiled: {reason}", field=f"use_cases.{name}") from error

    def admit(self, context: Mapping[str, str]) -> None:
        """Raises :class:`CallerNotAllowedError` unless the context's caller may use the use case."""
        if context.get("caller") not in self.callers:
            raise CallerNotAllowedError(
                f"caller {shown(context.get('caller', ''))} may not ask for use case {self.name!r}; "
                f"these may: {', '.join(sorted(self.callers))}"
            )

    def admit_override(self, context: Mapping[str, str]) -> None:
        """Raises :class:`CallerNotAllowedError` unless the context's caller may pin requests."""
        if context.get("caller") not in self.override:
            raise CallerNotAllowedError(
                f"caller {shown(context.get('caller', ''))} may not override the rules of use case {self.name!r}; "
                f"these may: {', '.join(sorted(self.override)) or 'none'}"
            )

    def select(self, context: Mapping[str, str]) -> tuple[Target, str, int | None]:
        """Target, rule and bucket: the first rule that matches decides."""
        get = context.get
        for rule in self.rules:
            if not rule.conditions.hold(context):
                continue
            if rule.target is not None:
                return rule.target, rule.name, None
            draw = rule.draw
            if draw is not None and (unit := get(draw.unit)):
                bucket = bucket_of(draw.salted_hash, unit)
                return draw.targets[bisect_right(draw.ends, bucket)], rule.name, bucket
        return self.default, DEFAULT_RULE, None


def policies(use_cases: Iterable[UseCase]) -> dict[str, Policy]:
    """Routing key → policy, for keys of use cases that have one."""
    return {key: each.policy for each in use_cases if each.policy is not None for key in each.answering}


def shown(value: str) -> str:
    """A value of a request in an error message: quoted, on one line, truncated."""
    return repr(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!r}…"


def _key(reference: str) -> str:
    model, _, version = reference.partition("@")
    return routing_key(model, version)


def _config(part: Mapping[str, Any], inherited: Mapping[str, Any]) -> Mapping[str, Any]:
    """A rule's or a cell's ``config`` merged over an inherited one."""
    return {**inherited, **part["config"]} if "config" in part else inherited


def _slo(document: Mapping[str, Any]) -> Slo:
    _refuse_unknown(document, frozenset(SLO_FIELDS), "its slo")
    return Slo.of(document)


def _refuse_unknown(part: Mapping[str, Any], fields: AbstractSet[str], what: str) -> None:
    if unknown := part.keys() - fields:
        raise ValueError(f"{what} has a field {min(unknown)!r} that this version does not carry out")
