"""The load that observes a rollout: who sends it, for which users, and what its records say of each version.

Drawn users meet the new version as seldom as its share is small. A rollout knows the rules and their hash: half of the
requests are of users drawn from all, as in any run; the other half are of users chosen such that, both halves together,
the new and the old version get equally many requests at every step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Any

from lab.checkers import Claim, Outcome
from lab.errors import InputError
from lab.history import UNSENT, Record
from lab.load.plan import EdgeCase
from lab.ops.roll.conditions import Evidence, Figures
from lab.routing.keys import routing_key, version_key
from lab.routing.schema import CONTEXT_FIELDS
from lab.routing.shards import clusters_of

if TYPE_CHECKING:
    from lab.checkers import Verdict
    from lab.ops.roll.plan import RollPlan
    from lab.routing.compiled import Router
    from lab.runs import LoadOptions

_NS_PER_MS = 1e6
_CHOSEN_EVERY = 2
_CASES = 100
_MOST_TRIES = 20_000


def probe_load(
    probe: LoadOptions, document: Mapping[str, Any], plan: RollPlan, callers: Collection[str]
) -> LoadOptions:
    """The load to drive: as the named caller, else as the one that may call most of the changed use cases.

    Requests of one other use case go along, if the caller may call one: what happens to it at the same time is not the
    new version's doing. Its default is not on the new version's cluster.
    """
    asks = {caller: [name for name, each in plan.before.items() if caller in each["callers"]] for caller in callers}
    caller = probe.caller or max(asks, key=lambda each: len(asks[each]), default="")
    if not asks.get(caller):
        raise InputError(
            f"--caller: {caller or 'no caller of this lab'} may call none of the use cases that are rolled "
            f"({', '.join(plan.before)}), so there would be no evidence"
        )
    rolled = tuple(asks[caller])
    # As many drawn requests as all use cases that are rolled: a quarter of all, as the other half is chosen.
    return replace(probe, caller=caller, use_cases=(*rolled, *_others(document, plan, caller)[:1] * len(rolled)))


def _others(document: Mapping[str, Any], plan: RollPlan, caller: str) -> list[str]:
    """Use cases that the caller may call and the rollout does not touch; the furthest apart and most alike first."""
    models, versions = document["models"], document["models"][plan.model]["versions"]
    rolled = {cluster for each in versions.values() for cluster in clusters_of(each["cluster"]).values()}
    to = {*clusters_of(versions[plan.to]["cluster"]).values()}
    apis = {each["api"] for each in plan.before.values()}
    found = {}
    for name, each in document["use_cases"].items():
        model, _, version = each["default"].partition("@")
        its = {*clusters_of(models[model]["versions"][version]["cluster"]).values()}
        if caller in each["callers"] and name not in plan.before and not its & to:
            found[name] = (bool(its & rolled), each["api"] not in apis)
    return sorted(found, key=found.__getitem__)


def balanced(probe: LoadOptions, router: Router, plan: RollPlan) -> LoadOptions:
    """The load with as many requests for the new version as for the old, as far as users of both exist."""
    found: dict[bool | None, list[EdgeCase]] = {True: [], False: [], None: []}
    fixed = {"caller": probe.caller, "traffic_origin": "artificial"}
    for tries, case in enumerate(islice(_drawn(probe), _MOST_TRIES)):
        found[_is_new(case.use_case, {**fixed, **case.context}, router, plan)].append(case)
        if tries >= _CASES and min(len(found[True]), len(found[False])) >= _CASES:
            break
    new, old = found[True], found[False]
    if not new and not old:
        return probe
    tries = sum(map(len, found.values()))
    # Both halves together: (drawn share of new + chosen share of new) equals the same of old.
    share = (1 + (len(old) - len(new)) / tries) / 2 if new and old else float(bool(new))
    count = round(share * _CASES)
    cases = [new[number % len(new)] for number in range(count)] if new else []
    cases += [old[number % len(old)] for number in range(_CASES - count)] if old else []
    Random(f"order:{probe.seed}").shuffle(cases)  # noqa: S311 (not security-relevant)
    return replace(probe, edge_every=_CHOSEN_EVERY, edge_cases=tuple(cases))


def is_drawn(record: Record) -> bool:
    """Whether a request's user was drawn from all, and not chosen."""
    return (record.sequence + 1) % _CHOSEN_EVERY > 0


def _drawn(probe: LoadOptions) -> Iterator[EdgeCase]:
    random = Random(f"users:{probe.seed}")  # noqa: S311 (not security-relevant)
    while True:
        context = {name: random.choice(choices) for name, choices in probe.contexts.items()}
        yield EdgeCase(random.choice(probe.use_cases), {"user_id": f"u{random.randrange(probe.users)}", **context})


def _side(record: Record, router: Router, plan: RollPlan) -> str:
    """Returns whether a request was for the ``new`` version, an ``old`` or ``other`` one; empty if for neither."""
    if record.use_case not in plan.before:
        return "other"
    context = {name: getattr(record, name) for name in CONTEXT_FIELDS}
    is_new = _is_new(record.use_case, context, router, plan)
    return "" if is_new is None else "new" if is_new else "old"


def _is_new(use_case: str, context: Mapping[str, str], router: Router, plan: RollPlan) -> bool | None:
    """Whether the rules send a request to the new version; None if no changed place decides it."""
    rules = plan.rules_of(use_case)
    choice = router.resolve(use_case, {**dict.fromkeys(CONTEXT_FIELDS, ""), **context}) if rules else None
    if choice is None or choice.rule not in rules:
        return None
    versions = {routing_key(plan.model, plan.to): True}
    versions |= {reference.replace("@", "."): False for reference in plan.old}
    return versions.get(version_key(choice.routing_key))


def objections(verdicts: Iterable[Verdict], records: Iterable[Record], router: Router, plan: RollPlan) -> Iterator[str]:
    """Yields what checkers call invalid, but for what conditions judge: misroutes, and failures of the new version."""
    new = {each.sequence for each in records if _side(each, router, plan) == "new"}
    for each in verdicts:
        if each.outcome is not Outcome.INVALID or each.claim is Claim.TIMING or each.checker == "routing":
            continue
        open_ = [one for one in each.violations if each.claim is Claim.CORRECTNESS or one.sequence not in new]
        if open_:
            yield f"{each.checker}: {open_[0].message}"


def figures(records: Iterable[Record], router: Router, plan: RollPlan) -> Evidence:
    """Figures of the new version and of the old ones, for the requests that the rules sent to each, and of the others.

    The router says which version a request was for, since a failed one does not. An answer from a fallback, or the
    caller's own default, counts as a failure of the chosen version.
    """
    answered: dict[str, list[tuple[int, float]]] = {"new": [], "old": [], "other": []}
    errors = dict.fromkeys(answered, 0)
    for record in records:
        if record.status == UNSENT:
            continue
        if not (side := _side(record, router, plan)):
            continue
        if record.status == "OK" and record.source == "model":
            answered[side].append((record.intended_ns, (record.done_ns - record.intended_ns) / _NS_PER_MS))
        else:
            errors[side] += 1
    new, old, other = (Figures.of(errors[side], answered[side]) for side in ("new", "old", "other"))
    return Evidence(new, old, other)
