"""Pure plan of a rollout: the places of a route table that it changes, and the table at each step.

A place is a use case's ``default``, or a rule's ``use``, that names another version of the model. During the rollout it
becomes a split of the old and the new version by ``user_id``. A split's salt is its rule's name, which stays the same
over all steps, so raising the share moves only the users of the added share. Requests without a user keep the old
version until the last step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lab.errors import InputError

UNIT = "user_id"
ALL = 100
DEFAULT = "default"
_WITHOUT_UNIT = "-without-user"
_LONGEST_NAME = 63


@dataclass(frozen=True, slots=True)
class Place:
    """A default or rule that sends traffic to an old version.

    Attributes:
        rule: the rule's name; ``default`` for the use case's default.
        old: that version, e.g. ``cw-ranker@v1``.
    """

    use_case: str
    rule: str
    old: str


@dataclass(frozen=True, slots=True)
class RollPlan:
    """What a rollout changes.

    Attributes:
        model: e.g. ``cw-ranker``.
        to: new version, e.g. ``v2``.
        steps: traffic share of the new version at each step, in percent, rising to 100.
        places: in the order of the table.
        left_alone: splits and experiments with their own shares of other versions, which the rollout does not change.
        before: use case → its document before the rollout, without the remains of an earlier one that was cut off.
    """

    model: str
    to: str
    steps: tuple[int, ...]
    places: tuple[Place, ...]
    left_alone: tuple[str, ...]
    before: Mapping[str, Mapping[str, Any]]

    @property
    def target(self) -> str:
        """``cw-ranker@v2``."""
        return f"{self.model}@{self.to}"

    @property
    def old(self) -> tuple[str, ...]:
        """The old versions, each once."""
        return tuple(dict.fromkeys(place.old for place in self.places))

    @property
    def rule(self) -> str:
        """Name of the rule that replaces a default during the rollout."""
        return roll_rule(self.model, self.to)

    def use_cases(self, percent: int) -> dict[str, dict[str, Any]]:
        """The documents of the changed use cases at a share of the new version."""
        return {name: self._use_case(name, document, percent) for name, document in self.before.items()}

    def rules_of(self, use_case: str) -> frozenset[str]:
        """Names of the rules, over all steps, that decide requests at one of the use case's places."""
        names = {place.rule for place in self.places if place.use_case == use_case}
        return frozenset(names | ({self.rule} if DEFAULT in names else set()))

    def comment(self, percent: int) -> str:
        """``roll cw-ranker v1→v2 10 %``."""
        versions = ",".join(reference.partition("@")[2] for reference in self.old)
        return f"roll {self.model} {versions}→{self.to} {percent} %"

    def _use_case(self, name: str, document: Mapping[str, Any], percent: int) -> dict[str, Any]:
        places = {place.rule: place.old for place in self.places if place.use_case == name}
        rules: list[dict[str, Any]] = []
        for rule in document.get("rules", []):
            rules += self._rule(rule, places[rule["name"]], percent) if rule["name"] in places else [rule]
        result = {**document, "rules": rules}
        if DEFAULT in places:
            if percent == ALL:
                result[DEFAULT] = self.target
            elif not _covered(rules):
                rules.append({"name": self.rule, "split": self._split(places[DEFAULT], percent)})
        if not rules and "rules" not in document:
            del result["rules"]
        return result

    def _rule(self, rule: Mapping[str, Any], old: str, percent: int) -> list[dict[str, Any]]:
        if percent == ALL:
            return [{**rule, "use": self.target}]
        split = {key: value for key, value in rule.items() if key != "use"} | {"split": self._split(old, percent)}
        if UNIT in rule.get("when", {}):  # every request that matches has a user, so the split decides them all
            return [split]
        name = rule["name"][: _LONGEST_NAME - len(_WITHOUT_UNIT)] + _WITHOUT_UNIT
        return [split, {**rule, "name": name}]

    def _split(self, old: str, percent: int) -> dict[str, Any]:
        return {"unit": UNIT, "weights": {old: ALL - percent, self.target: percent}}


def roll_rule(model: str, to: str) -> str:
    """Name of the rule that replaces a default during the rollout: ``roll-cw-ranker-v2``."""
    room = _LONGEST_NAME - len(f"roll--{to}")
    return f"roll-{model[:room]}-{to}"


def plan_roll(
    document: Mapping[str, Any], *, model: str, to: str, steps: Sequence[int], use_case: str | None = None
) -> RollPlan:
    """Finds the places that a rollout changes.

    Args:
        document: the route table.
        model: model to roll out.
        to: target version.
        steps: traffic share of the new version at each step, in percent.
        use_case: change this use case only.

    Raises:
        InputError: no such model, version or use case, nothing to roll, or steps that do not rise to 100.
    """
    _check_steps(steps)
    models = document["models"]
    if model not in models:
        raise InputError(f"model {model!r} is not in the route table; there are {', '.join(sorted(models))}")
    if to not in models[model]["versions"]:
        known = ", ".join(models[model]["versions"])
        raise InputError(f"--to: model {model!r} has no version {to!r}; there are {known}")
    if use_case is not None and use_case not in document["use_cases"]:
        known = ", ".join(document["use_cases"])
        raise InputError(f"--use-case: {use_case!r} is not in the route table; there are {known}")
    names = [use_case] if use_case is not None else list(document["use_cases"])
    before = {name: _without_roll(document["use_cases"][name], roll_rule(model, to)) for name in names}
    places = [place for name in names for place in _places(name, before[name], model, f"{model}@{to}")]
    left_alone = [text for name in names for text in _left_alone(name, before[name], model, f"{model}@{to}")]
    if not places:
        where = f"in use case {use_case}" if use_case is not None else "anywhere"
        also = f" ({'; '.join(left_alone)})" if left_alone else ""
        raise InputError(
            f"no default and no rule {where} uses another version of {model} than {to}: nothing to roll{also}"
        )
    touched = {place.use_case for place in places}
    return RollPlan(
        model,
        to,
        tuple(steps),
        tuple(places),
        tuple(left_alone),
        {name: each for name, each in before.items() if name in touched},
    )


def _check_steps(steps: Sequence[int]) -> None:
    listed = ",".join(map(str, steps))
    if not steps or not all(0 < step <= ALL for step in steps):
        raise InputError(f"--steps: {listed!r} has a step that is not a percentage; write whole numbers from 1 to 100")
    if any(step >= following for step, following in pairwise(steps)):
        raise InputError(f"--steps: {listed} does not rise; write e.g. 1,10,50,100")
    if steps[-1] != ALL:
        raise InputError(f"--steps: {listed} does not end in 100; write e.g. {listed},100")


def _without_roll(use_case: Mapping[str, Any], rule: str) -> Mapping[str, Any]:
    """The use case without the rule of an earlier rollout to this version that was cut off."""
    rules = use_case.get("rules", [])
    kept = [each for each in rules if each["name"] != rule]
    return use_case if len(kept) == len(rules) else {**use_case, "rules": kept}


def _places(name: str, use_case: Mapping[str, Any], model: str, target: str) -> list[Place]:
    named = [(rule["name"], rule["use"]) for rule in use_case.get("rules", []) if "use" in rule]
    named.append((DEFAULT, use_case[DEFAULT]))
    return [Place(name, rule, old) for rule, old in named if old.partition("@")[0] == model and old != target]


def _left_alone(name: str, use_case: Mapping[str, Any], model: str, target: str) -> list[str]:
    result = []
    for rule in use_case.get("rules", []):
        references = rule.get("split", {}).get("weights", {}).keys() | {
            arm["use"] for arm in rule.get("experiment", {}).get("cells", {}).values()
        }
        if any(each.partition("@")[0] == model and each != target for each in references):
            result.append(f"rule {rule['name']} of {name} splits versions itself and stays unchanged")
    return result


def _covered(rules: Sequence[Mapping[str, Any]]) -> bool:
    """Whether these rules decide every request with a user, so that a split after them would never be reached."""
    draws = (rule.get("split") or rule.get("experiment") or {"unit": UNIT} for rule in rules if "when" not in rule)
    return any(draw["unit"] == UNIT for draw in draws)
