"""Is the plan of the driver what was asked for?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lab.checkers.checker import Checker
from lab.checkers.draws import draws_of
from lab.checkers.verdict import Claim, Outcome, Verdict, Violation

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence

NAME = "plan"

_PLANNED_AS_ASKED = (
    *("topology", "caller", "payload_bytes", "seed", "users", "timeout_s", "tear_every", "drivers", "streams"),
    "contexts",
)
"""Options of a load that its plan has by the same name."""

_ARRIVALS = {"poisson": ("rate", "duration_s", "seed"), "constant": ("rate", "duration_s")}

_OF_WORDS = {
    "--rate": "rate",
    "--duration": "duration_s",
    "--users": "users",
    "--payload": "payload_bytes",
    "--tear-every": "tear_every",
    "--streams": "streams",
    "--edge-every": "edge_every",
    "--drivers": "drivers",
    "--seed": "seed",
}
"""Words of ``lab load`` → the option that they give."""

_DEFAULTS = {
    1: {
        "users": 1_000,
        "payload_bytes": 400,
        "tear_every": 0,
        "drivers": 1,
        "seed": 0,
        "streams": 10,
        "edge_every": 10,
    }
}
"""Form of what was kept → option → its value if no word gives it and the engine asks as drawn."""


def check(evidence: Evidence) -> Verdict | None:
    """Compares the driver's plan with the options that were asked for, and these with the words of ``lab load``.

    Each is read a second time here. Rates and durations that a trace, people or a search for a knee decide are left
    out, as is the seed where several callers each have their own.

    Returns:
        None for a run from before what was asked for was kept; else invalid with a violation for each difference.
    """
    asked, plan = evidence.asked_for, evidence.plan_document
    if asked is None:
        return None
    options, words = asked["options"], asked["words"]
    # During a publish either table may have been the one of the plan.
    differences = [[*_of_plan(options, plan, table)] for table in _when_planned(evidence)]
    differ = [*min(differences, key=len), *_of_words(words, options, _DEFAULTS.get(asked["form"], {}))]
    violations = tuple(Violation(NAME, 0, "", each) for each in differ)
    compared = "the options" + (" and the words of the command" if words[:1] == ["load"] else "")
    if violations:
        return Verdict(NAME, Outcome.INVALID, f"{'; '.join(differ)}; compared with {compared}", violations)
    return Verdict(NAME, Outcome.VALID, f"the plan is that of {compared}")


def _when_planned(evidence: Evidence) -> Sequence[Mapping[str, Any]]:
    """Returns the tables that may have been in force when the run began.

    A run also keeps older ones, which models name that had nothing to load since. A plan is drawn from the one for all.
    """
    began_ns = evidence.window_ns[0] if evidence.window_ns else 0
    before = [
        each.revision
        for each in evidence.timeline.rules
        if each.revision.from_ns <= began_ns and not each.failed and not each.revision.callers
    ]
    whole = [place for place, each in enumerate(before) if each.converged_ns and each.converged_ns <= began_ns]
    there = before[whole[-1] if whole else 0 :] or [each.revision for each in evidence.timeline.rules[:1]]
    return [each.document for each in there] or [{}]


def _of_plan(options: Mapping[str, Any], plan: Mapping[str, Any], table: Mapping[str, Any]) -> Iterator[str]:
    """Yields how a plan differs from the options."""
    wanted = {name: options[name] for name in _PLANNED_AS_ASKED}
    wanted["edge_every"] = options["edge_every"] if options["as_drawn"] else 0
    found = {name: plan.get(name) for name in wanted}
    if parameters := _ARRIVALS.get(options["arrivals"]):
        arrivals = plan.get("arrivals", {})
        wanted |= {f"{name} of arrivals": options[name] for name in parameters} | {"arrivals": options["arrivals"]}
        found |= {f"{name} of arrivals": arrivals.get(name) for name in parameters} | {"arrivals": arrivals.get("kind")}
    use_cases = table.get("use_cases", {})
    may_call = [name for name, each in use_cases.items() if options["caller"] in each["callers"]]
    wanted["use_cases"] = sorted(options["use_cases"] or may_call)
    found["use_cases"] = sorted(each["name"] for each in plan.get("use_cases", ()))
    for name, value in wanted.items():
        if found[name] != value:
            yield f"{name}: {value!r} was asked for, and {found[name]!r} was planned"
    draws = draws_of(table) if use_cases else {}
    if wanted["edge_every"] and not plan.get("edge_cases") and any(draws.get(name) for name in wanted["use_cases"]):
        yield "edge cases were asked for, the table has some, and none was planned"


def _of_words(words: Sequence[str], options: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[str]:
    """Yields how the options differ from the words of ``lab load``."""
    if words[:1] != ["load"]:
        return
    given = _given(words)
    wanted = {name: float(given[word]) for word, name in _OF_WORDS.items() if word in given}
    if options["as_drawn"]:
        wanted = {**defaults, **wanted}
    several = "," in given.get("--caller", "") or given.get("--caller") == "all"
    own = {"rate"} if "--find-knee" in words else {"seed"} if several else set()
    for name, value in wanted.items():
        if name not in own and options[name] != value:
            yield f"{name}: the command says {value:g}, and {options[name]!r} was taken"


def _given(words: Sequence[str]) -> dict[str, str]:
    """The options among words, the last one of each: ``--name value`` or ``--name=value``."""
    found = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, is_joined, value = word.partition("=")
        if name.startswith("--"):
            found[name] = value if is_joined else following
    return found


CHECKER = Checker(
    name=NAME,
    question="Did the driver get the plan that was asked for?",
    blind="options that have no effect on the plan",
    subject="what was asked for, kept",
    claim=Claim.CORRECTNESS,
    check=check,
)
