"""Lists the splits and experiments of a route table, and finds the one that decides a request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Draw:
    """A rule that draws: a split or an experiment.

    Attributes:
        rule: its name.
        salt: identifies the draw across revisions, also when its weights change.
        unit: context field whose value is hashed.
        weights: percent by model version; cells of the same version are added up, as answers do not tell them apart.
    """

    use_case: str
    rule: str
    salt: str
    unit: str
    weights: Mapping[str, int]

    def __str__(self) -> str:
        return f"rule {self.rule} of {self.use_case}"


def draws_of(document: Mapping[str, Any]) -> dict[str, dict[str, Draw]]:
    """Returns every draw by use case and number of its rule."""
    return {
        use_case: {
            str(number): _draw(use_case, rule)
            for number, rule in enumerate(entry.get("rules", ()))
            if "split" in rule or "experiment" in rule
        }
        for use_case, entry in document["use_cases"].items()
    }


def _draw(use_case: str, rule: Mapping[str, Any]) -> Draw:
    if "split" in rule:
        salt, drawn = f"split {rule['name']} of {use_case}", rule["split"]
        return Draw(use_case, rule["name"], salt, drawn["unit"], dict(drawn["weights"]))
    drawn = rule["experiment"]
    weights: Counter[str] = Counter()
    for cell in drawn["cells"].values():
        weights[cell["use"]] += cell["weight"]
    return Draw(use_case, rule["name"], f"experiment {drawn['id']}", drawn["unit"], dict(weights))


def marked(document: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the table with every rule choosing its own number in place of a model version.

    With this table, the plain interpreter says which rule decides a request.
    """
    use_cases = {}
    most = 0
    for name, entry in document["use_cases"].items():
        rules = [_marked(rule, f"rule@{number}") for number, rule in enumerate(entry.get("rules", ()))]
        most = max(most, len(rules))
        use_cases[name] = {"callers": entry["callers"], "default": "rule@none", "rules": rules}
    numbers = ("none", *map(str, range(most)))
    return {"use_cases": use_cases, "models": {"rule": {"versions": {number: {"cluster": ""} for number in numbers}}}}


def _marked(rule: Mapping[str, Any], choice: str) -> dict[str, Any]:
    kept = {name: rule[name] for name in ("name", "when") if name in rule}
    drawn = rule.get("split") or rule.get("experiment")
    if drawn is None:
        return {**kept, "use": choice}
    return {**kept, "split": {"unit": drawn["unit"], "weights": {choice: 100}}}
