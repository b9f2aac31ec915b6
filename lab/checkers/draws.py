"""The splits and experiments of a route table, and a way to ask the plain interpreter which of them a request meets."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Draw:
    """A rule that draws.

    Attributes:
        rule: its name.
        salt: what is drawn with: draws of one salt are the same draw, also in another revision with other weights.
        unit: context field whose value is drawn for.
        weights: percent by model version; cells that use the same version count together, as answers do not tell them
            apart.
    """

    use_case: str
    rule: str
    salt: str
    unit: str
    weights: Mapping[str, int]

    def __str__(self) -> str:
        return f"rule {self.rule} of {self.use_case}"


def draws_of(document: Mapping[str, Any]) -> dict[str, dict[str, Draw]]:
    """Every draw by use case and number of its rule."""
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
    """The same table, but every rule chooses its own number as if that were a model version.

    So whoever asks the plain interpreter with this table learns which rule decides, and not whom it chooses.
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
