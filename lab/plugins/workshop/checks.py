"""Checks of the exercises: each says whether an answer is right, or gives a hint; none prints a solution.

A check of a route table tries it out on requests, and does not care how it is written.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import product
from json import dumps, loads
from typing import TYPE_CHECKING, Any

from lab import FILES
from lab.checkers.plain import decide
from lab.errors import LabError
from lab.plugins.bench.harness.payloads import json_bytes, protobuf_bytes
from lab.plugins.bench.suites.decomposition import PARTS
from lab.plugins.capacity.assumptions import Assumptions
from lab.plugins.capacity.fleet import Demand, fleet
from lab.plugins.workshop.feedback import ExerciseResult, not_yet, right
from lab.plugins.workshop.watch import back, cut_off, watch
from lab.routing.document import RouteTable, read_path
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from lab.plugins.capacity.costs import Costs
    from lab.plugins.workshop.session import WorkshopLab
    from lab.runs import RunResult

RANKING = "ContinueWatchingRanking"

_CANARY, _MANY, _SOME = 0.05, 2_000, 200
_FIVE_SIGMA = 5 * (_CANARY * (1 - _CANARY) / _MANY) ** 0.5

_PRICES = {"core-hour", "gigabyte"}
_BUSY_AFTER = (0.8, 0.9)  # target utilisation with a zone down: below is expensive, above is slow

_SURVIVE = {"homepage", "payments"}

_FIELDS = ("device", "country", "segment")
_CONTEXTS = [
    dict(zip(_FIELDS, values, strict=True))
    for values in product(("tv", "phone", "web"), ("US", "CA", "DE", "FR"), ("adults", "kids"))
]


def changed_cases(before: Mapping[str, Any], after: Mapping[str, Any], **more: str) -> dict[tuple[str, ...], str]:
    """Contexts whose version differs between two tables → the version after."""
    result = {}
    for context in _CONTEXTS:
        asked = {**context, **more, "caller": "homepage"}
        was, is_now = (decide(each, RANKING, asked) for each in (before, after))
        if was != is_now:
            result[tuple(context.values())] = is_now.version
    return result


def check_phones_in_germany(document: Mapping[str, Any]) -> ExerciseResult:
    """Notebook 1: phones in Germany get ``cw-ranker@v3``, and all others get the same as before."""
    document = _as_published(document)
    if fault := _fault(document):
        return not_yet(fault)
    before = read_path(FILES / "routes.yaml").document
    wanted = {("phone", "DE", "adults"): "v3"}  # children had it before
    seen = changed_cases(before, document)
    if seen == wanted:
        return right("One rule in one place, and no caller had to change.")
    if not seen:
        return not_yet(
            "No request gets another version than before. Is your rule in the list, before those that match first?"
        )
    others = [case for case in seen if case not in wanted]
    if others:
        return not_yet(f"Now {_said(others[0])} gets another version, too. Which conditions must hold all at once?")
    return not_yet("They do get another version, but not v3.")


def check_who_notices(answer: Collection[str]) -> ExerciseResult:
    """Notebook 1: which part has to learn of a move."""
    parts = {"caller", "lease", "resolver", "routing key", "envoy"}
    given = {each.lower() for each in answer}
    if unknown := given - parts:
        return not_yet(f"{min(unknown)!r} is none of {', '.join(sorted(parts))}.")
    if given == {"envoy"}:
        return right("It maps the key to a cluster, and a move changes only that mapping.")
    if "envoy" not in given:
        return not_yet("One part must map the key to a cluster. Which one reads nothing else?")
    return not_yet("Fewer. Look at what was the same in the answers before and after the move.")


def check_causes(answer: Mapping[str, tuple[str | None, str | None]]) -> ExerciseResult:
    """Notebook 3: for each cause, the pair of topologies that differ in it and in nothing else."""
    known = {part.name: {part.more, part.less} for part in PARTS if part.more in TOPOLOGIES and part.less in TOPOLOGIES}
    if missing := known.keys() - answer.keys():
        return not_yet(f"Name the pair that shows {min(missing)!r}.")
    for cause, pair in answer.items():
        if cause not in known:
            return not_yet(f"{cause!r} is none of {', '.join(known)}.")
        if None in pair:
            return not_yet(f"Name two topologies for {cause!r}. What must be the same in both?")
        if set(pair) != known[cause]:
            return not_yet(f"{cause!r}: {pair[0]} and {pair[1]} do not differ in it, or also differ in something else.")
    return right("Each pair isolates one cause. `lab bench decomposition` measures these pairs.")


def check_canary(document: Mapping[str, Any]) -> ExerciseResult:
    """Notebook 5: 5 % of the users whom the default would serve get ``cw-ranker@v2``; all others are unchanged."""
    document = _as_published(document)
    hint = _fault(document) or _wrong_share(document) or _wrong_people(document)
    if hint:
        return not_yet(hint)
    return right(f"{_share(document):.1%} of {_MANY:,} users get v2, on each of their devices, and no other user does.")


def _versions(document: Mapping[str, Any], device: str) -> list[str]:
    context = {"device": device, "country": "DE", "segment": "adults", "caller": "homepage"}
    return [decide(document, RANKING, {**context, "user_id": f"u{number}"}).version for number in range(_MANY)]


def _share(document: Mapping[str, Any]) -> float:
    return _versions(document, "phone").count("v2") / _MANY


def _wrong_share(document: Mapping[str, Any]) -> str:
    share = _share(document)
    if not share:
        return "No user of a phone in Germany gets v2. Is there a split, and does no other rule win?"
    if abs(share - _CANARY) > _FIVE_SIGMA:
        return f"{share:.1%} of the users get v2. Weights are whole percents, and add up to 100."
    return ""


def _wrong_people(document: Mapping[str, Any]) -> str:
    before = read_path(FILES / "routes.yaml").document
    for number in range(_SOME):
        for case, version in changed_cases(before, document, user_id=f"u{number}").items():
            context = {**dict(zip(_FIELDS, case, strict=True)), "caller": "homepage"}
            if decide(before, RANKING, context).version != "v1" or version != "v2":
                return f"Now {_said(case)} may get {version}. Rules are tried in order: which comes first?"
    if _versions(document, "web") != _versions(document, "phone"):
        return "A user who changes the device changes the version, too. What is the split's unit?"
    return ""


def check_bug(run: RunResult, *, at_most: float = 0.05) -> ExerciseResult:
    """Notebook 5: a bug that the checkers find, though few requests meet it."""
    wrong = run.misrouted / max(run.summary.ok, 1)
    if run.summary.failed:
        return not_yet("Requests failed. A bug that everyone sees is not a challenge: let all requests be answered.")
    if not run.misrouted:
        return not_yet("Every answer was right. Does your bug change a field that rules read?")
    if wrong > at_most:
        return not_yet(f"Found: {wrong:.1%} of the answers are wrong. Now one that hits fewer than {at_most:.0%}.")
    return right(f"{run.misrouted} of {run.summary.ok:,} answers were wrong, and the checker named each.")


def check_victims(lab: WorkshopLab, victims: Collection[str]) -> ExerciseResult:
    """Notebook 4: kills units, checks that exactly ``search`` is cut off on both topologies, and starts them again."""
    if not victims:
        return not_yet("Name units to kill; `lab.status()` lists them.")
    killed = []
    try:
        for victim in victims:
            lab.units.kill(victim)
            killed.append(victim)
        seen = cut_off(watch(lab, ["gateway", "mesh"]))
    except LabError as error:
        return not_yet(str(error))
    finally:
        for victim in killed:
            lab.units.start(victim)
        back(lab, ["gateway", "mesh"])
    if all(who == ["search"] for who in seen.values()):
        return right("Both topologies share the model. The talk has no answer to its death; a fallback is one.")
    by_topology = "; ".join(f"{topology}: {', '.join(who) or 'none'}" for topology, who in seen.items())
    return not_yet(f"Cut off: {by_topology}. Which units do both of search's paths use, and no other caller's?")


def check_who_moves_first(first: Collection[str], dead: Mapping[str, Collection[str]]) -> ExerciseResult:
    """Notebook 7: two callers to move, so that a homepage and a payment survive the gateways.

    Args:
        first: the callers to move to the mesh.
        dead: topology → callers that were cut off by it when the gateways were dead.
    """
    if len(set(first)) != len(_SURVIVE):
        return not_yet(f"Choose {len(_SURVIVE)} callers, not {len(set(first))}.")
    cut = [each for each in sorted(_SURVIVE) if each in dead["mesh" if each in first else "gateway"]]
    if cut:
        return not_yet(f"{' and '.join(cut)} would be cut off. Which path does a caller use that you have not moved?")
    return right("Half a move helps those who have moved, and nobody else.")


def check_bytes(*, json: int | None, protobuf: int | None) -> ExerciseResult:
    """Notebook 2: the size of the talk's request."""
    for name, answer, true, hint in (
        ("JSON", json, json_bytes(), "Do quotes, colons, commas and brackets all count?"),
        ("protobuf", protobuf, protobuf_bytes(), "How many strings are there, and what precedes each?"),
    ):
        if answer is None:
            return not_yet(f"Count the bytes of the {name}.")
        if answer != true:
            return not_yet(f"{name}: there are {'more' if answer < true else 'fewer'}. {hint}")
    return right("Both are counted from the wire format, not from the slide.")


def check_remedies(answer: Collection[str]) -> ExerciseResult:
    """Notebook 2: what gets a new replica its share behind an L4 VIP."""
    helps = {"VIP cuts old connections", "models end old connections", "callers reconnect now and then"}
    given = set(answer)
    if not given:
        return not_yet("Choose one or more. What does an L4 balancer choose by, and how often?")
    if given - helps:
        return not_yet(f"{min(given - helps)!r} does not help: old connections stay where they are.")
    if helps - given:
        return not_yet("There are more. What do those you found have in common?")
    return right("Each ends old connections: an L4 balancer chooses once per connection, so only new ones move.")


def check_cheaper(demand: Demand, costs: Costs, change: Mapping[str, float]) -> ExerciseResult:
    """Notebook 6: one assumption, not a price, that halves the cost of a million requests through the gateway."""
    if len(change) != 1:
        return not_yet("Change one assumption, and one only.")
    if _PRICES & change.keys():
        return not_yet("Prices are given. Of what do you pay for less?")
    try:
        before, after = (fleet("gateway", demand, costs, Assumptions(given)).usd.value for given in ({}, change))
    except LabError as error:
        return not_yet(str(error))
    if after > before / 2:
        return not_yet(
            f"It was {before:.3f} USD, and is {after:.3f}. Which two parts does it consist of, and which is larger?"
        )
    return right(
        f"From {before:.3f} USD to {after:.3f}. Traffic that stays within its zone saves more than any faster gateway."
    )


def check_headroom(*, utilisation: float) -> ExerciseResult:
    """Notebook 6: the utilisation at which two zones of three can carry all load."""
    if not 0 < utilisation < 1:
        return not_yet("Write a share of the slots, above 0 and below 1.")
    after = utilisation * 3 / 2
    if after > _BUSY_AFTER[1]:
        return not_yet(f"With a zone down, the other two would be {after:.0%} busy. What does the tail do there?")
    if after < _BUSY_AFTER[0]:
        return not_yet(
            f"Safe, but expensive: with a zone down, the other two would be {after:.0%} busy. Can they do more?"
        )
    return right(f"With a zone down, the others are {after:.0%} busy: the tail grows, but queues stay bounded.")


def _as_published(document: Mapping[str, Any]) -> dict[str, Any]:
    """The table as read back from its file, where a cell's number is text."""
    published: dict[str, Any] = loads(dumps(document))
    return published


def _fault(document: Mapping[str, Any]) -> str:
    try:
        RouteTable.from_document(document)
    except LabError as error:
        return f"The table is not valid: {error}"
    return ""


def _said(case: tuple[str, ...]) -> str:
    device, country, segment = case
    return f"a {device} in {country} ({segment})"
