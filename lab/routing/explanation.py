"""Explains a decision: each rule in order, and why it matched or did not. For people, not for the hot path."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.routing.keys import version_key
from lab.routing.rules import OVERRIDE_RULE, Conditions, Rule, UseCase, shown

if TYPE_CHECKING:
    from lab.routing.compiled import Choice, Router

_VALUES_SHOWN = 5
_PLAIN = re.compile(r"[\w.-]{1,80}")
_ALWAYS = "it has no conditions"


@dataclass(frozen=True, slots=True)
class RuleOutcome:
    """The result of one rule.

    Attributes:
        reason: "device is phone, not one of tv"; for the rule that matched, the conditions that held.
    """

    rule: str
    matched: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A choice, and the result of every rule in order.

    No rule matched if the choice's rule is ``default``; none was tried if it is ``override``.

    Attributes:
        parameters: parameters for the model, each with its origin: ``cw-ranker@v2``, or ``rule canary``.
        beyond: further effects, as text: the shard, copies, and what is tried if the chosen version fails.
    """

    choice: Choice
    rules: tuple[RuleOutcome, ...]
    parameters: Mapping[str, str]
    beyond: tuple[str, ...]


def explain(router: Router, use_case: str, context: Mapping[str, str]) -> Explanation:
    """The choice for a request, and for each rule in order whether it matched, or why not.

    Raises:
        UnknownUseCaseError: no such use case.
        CallerNotAllowedError: ``context["caller"]`` may not use it, or may not pin requests.
        UnknownVersionError: the request is pinned to a model version that is not in the route table.
    """
    choice = router.resolve(use_case, context)
    outcomes = _outcomes(router.use_case(use_case), context, choice)
    beyond = (*_shard(router, choice, context), *_beyond(choice))
    return Explanation(choice, outcomes, _origins(router, use_case, choice), beyond)


def _shard(router: Router, choice: Choice, context: Mapping[str, str]) -> Iterator[str]:
    shards = router.versions[version_key(choice.routing_key)].shards
    if shards is not None:
        yield f"{_value(context, shards.reads)}: shard {shards.choose(context)} of {shards.count}"


def _origins(router: Router, use_case: str, choice: Choice) -> dict[str, str]:
    """The origin of each parameter."""
    rules = (rule for rule in router.use_case(use_case).rules if rule.name == choice.rule)
    own = {
        name
        for rule in rules
        for target in rule.targets
        if (target.key, target.share) == (version_key(choice.routing_key), choice.share)
        for name in target.config
    }
    version = f"{choice.model}@{choice.version}"
    return {name: f"rule {choice.rule}" if name in own else version for name in choice.parameters}


def _beyond(choice: Choice) -> Iterator[str]:
    if choice.shadow is not None:
        yield f"{choice.shadow.percent} % of these requests, by request id, are copied to {choice.shadow.routing_key}"
    if choice.alternatives:
        names = ", then ".join(each.routing_key for each in choice.alternatives)
        yield f"if {choice.routing_key} fails: {names}"


def _outcomes(use_case: UseCase, context: Mapping[str, str], choice: Choice) -> tuple[RuleOutcome, ...]:
    """The result of each rule up to the choice."""
    if choice.rule == OVERRIDE_RULE:
        reason = f"not tried, as the request is pinned to {choice.model}@{choice.version}"
        return tuple(RuleOutcome(rule.name, matched=False, reason=reason) for rule in use_case.rules)
    found: list[RuleOutcome] = []
    decided = False
    for rule in use_case.rules:
        if decided:
            found.append(RuleOutcome(rule.name, matched=False, reason=f"not tried, as {choice.rule} matched before"))
        elif rule.name == choice.rule:
            decided = True
            found.append(RuleOutcome(rule.name, matched=True, reason=_why(rule, context, choice)))
        else:
            found.append(RuleOutcome(rule.name, matched=False, reason=_why_not(rule, context)))
    return tuple(found)


def _listed(values: frozenset[str]) -> str:
    ordered = sorted(values)
    rest = f" and {len(ordered) - _VALUES_SHOWN} more" if len(ordered) > _VALUES_SHOWN else ""
    return ", ".join(ordered[:_VALUES_SHOWN]) + rest


def _value(context: Mapping[str, str], field: str) -> str:
    value = context.get(field, "")
    if not value:
        return f"{field} is not in the request"
    return f"{field} is {value if _PLAIN.fullmatch(value) else shown(value)}"


def _why_not(rule: Rule, context: Mapping[str, str]) -> str:
    for field, values in rule.conditions.fields:
        if not context.get(field):
            return f"{_value(context, field)}; {_listed(values)} would match"
        if context[field] not in values:
            return f"{_value(context, field)}, not one of {_listed(values)}"
    negated = rule.conditions.negated
    if negated is not None and negated.hold(context):
        return f"{_in_words(negated, context)}, which 'not' rules out"
    unit = rule.draw.unit if rule.draw else ""
    return f"{_value(context, unit)}, so that no share can be drawn for it"


def _why(rule: Rule, context: Mapping[str, str], choice: Choice) -> str:
    words = _in_words(rule.conditions, context)
    if rule.draw is None:
        return words
    share = next(share for share in rule.draw.shares if share.first <= (choice.bucket or 0) < share.end)
    drawn = (
        f"{_value(context, rule.draw.unit)}: bucket {choice.bucket} is among {share.first} to {share.end - 1} "
        f"of {'' if '@' in share.name else 'cell '}{share.name}"
    )
    return drawn if words == _ALWAYS else f"{words}; {drawn}"


def _in_words(conditions: Conditions, context: Mapping[str, str]) -> str:
    held = [_value(context, field) for field, _ in conditions.fields]
    if conditions.negated is not None:
        held.append("what 'not' rules out does not hold")
    return " and ".join(held) or _ALWAYS
