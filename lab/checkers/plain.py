"""A second, deliberately plain interpreter of route tables: slow, short, and sharing no code with ``lab.routing``.

Checkers judge answers by it. A change of the language changes both interpreters, each from the language's description
alone; a test compares their results. So nothing here is shared, cached or clever.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple


class Expected(NamedTuple):
    """What the rules expect for one request.

    Attributes:
        status: ``OK``, ``NOT_FOUND`` (of the use case, or of the version in ``override``) or ``PERMISSION_DENIED``.
        model: that must answer; empty if the request is refused, as are the next fields.
        version: of that model.
        cluster: in which that version runs, or that shard of it.
        shard: of that version, ``s1`` or greater; empty if it has none.
    """

    status: str
    model: str = ""
    version: str = ""
    cluster: str = ""
    shard: str = ""

    @property
    def routing_key(self) -> str:
        """The key by which a request reaches it: ``cw-ranker.v2``, or ``cw-ranker.v2.s1``."""
        return ".".join(part for part in (self.model, self.version, self.shard) if part)


def decide(document: Mapping[str, Any], use_case: str, context: Mapping[str, str]) -> Expected:
    """Returns what a route table expects for one request.

    Args:
        document: the route table.
        use_case: of the request.
        context: the request's fields, the caller among them; an empty value means that the request lacks the field.
    """
    refusal = _refusal(document, use_case, context)
    if refusal:
        return Expected(refusal)
    if context.get("override", ""):
        return _expected(document, context["override"], context)
    _, reference, _ = _decision(document, use_case, context)
    return _expected(document, reference, context)


def parameters_of(document: Mapping[str, Any], use_case: str, context: Mapping[str, str]) -> dict[str, Any]:
    """Returns the model config in the body of a request for which :func:`decide` returns ``OK``.

    The rule's ``config`` overrides the version's; in an experiment, the cell's overrides both.
    """
    expected = decide(document, use_case, context)
    parameters = dict(document["models"][expected.model]["versions"][expected.version].get("config", {}))
    if not context.get("override", ""):
        rule, _, cell = _decision(document, use_case, context)
        parameters.update(rule.get("config", {}))
        if cell:
            parameters.update(rule["experiment"]["cells"][cell].get("config", {}))
    return parameters


def fallbacks(document: Mapping[str, Any], use_case: str, context: Mapping[str, str]) -> tuple[Expected, ...]:
    """Returns the fallbacks, in order, for when the version that :func:`decide` chooses fails."""
    chosen = decide(document, use_case, context)
    if chosen.status != "OK" or context.get("override", ""):
        return ()
    references = document["use_cases"][use_case].get("fallback", [])
    others = [_expected(document, reference, context) for reference in references]
    return tuple(other for other in others if other != chosen)


def shadow_of(document: Mapping[str, Any], use_case: str, context: Mapping[str, str], request_id: str) -> str:
    """Returns the routing key of the version that must get a copy of the request; empty if none must."""
    if _refusal(document, use_case, context) or context.get("override", ""):
        return ""
    shadow = document["use_cases"][use_case].get("shadow")
    if shadow is None or bucket_of(f"shadow/{use_case}", request_id) >= shadow["percent"] * 100:
        return ""
    return _expected(document, shadow["use"], context).routing_key


def passed(document: Mapping[str, Any], use_case: str, context: Mapping[str, str]) -> list[str]:
    """Returns what a request meets on its way through the table, in words: see :mod:`lab.checkers.coverage`."""
    met = [f"use case {use_case}"]
    if _refusal(document, use_case, context):
        return met
    if context.get("override", ""):
        return [*met, f"override of {use_case}"]
    deciding, reference, cell = _decision(document, use_case, context)
    conditions: list[str] = []
    for rule in document["use_cases"][use_case].get("rules", []):
        when, name = rule.get("when", {}), f"rule {rule['name']} of {use_case}"
        conditions += _conditions(when, context, name)
        met += _negations(when, context, name)
        if rule is deciding:
            break
    name = f"rule {deciding['name']} of {use_case}" if deciding else f"default of {use_case}"
    met += [name, f"{reference} by {name}"]
    if cell:
        met.append(f"cell {cell} by {name}")
    for place in _edge(deciding, use_case, context):
        met.append(f"{place} of {name}")
    return [*met, *conditions]


def _negations(when: Mapping[str, Any], context: Mapping[str, str], name: str) -> list[str]:
    """Returns the side of each negation that decides, if the conditions beside it hold."""
    if "not" not in when or not _holds({field: when[field] for field in when if field != "not"}, context):
        return []
    side = "excludes" if _holds(when["not"], context) else "lets pass"
    return [f"negation that {side} in {name}", *_negations(when["not"], context, f"the negation in {name}")]


def _conditions(when: Mapping[str, Any], context: Mapping[str, str], name: str) -> list[str]:
    """Returns for each condition whether it holds, also within negations."""
    met = []
    for field in when:
        if field == "not":
            met += _conditions(when["not"], context, f"the negation in {name}")
        else:
            side = "holds" if _holds({field: when[field]}, context) else "fails"
            met.append(f"condition {field} that {side} in {name}")
    return met


def _edge(rule: Mapping[str, Any], use_case: str, context: Mapping[str, str]) -> list[str]:
    """Returns the edge bucket of an arm in which the request's unit is, if it is in one."""
    drawn = draw_of(rule, use_case)
    if drawn is None:
        return []
    unit, salt, weights = drawn
    bucket = bucket_of(salt, context[unit])
    return [f"edge bucket {bucket} ({name})" for name, begin, end in shares_of(weights) if bucket in (begin, end - 1)]


def draw_of(rule: Mapping[str, Any], use_case: str) -> tuple[str, str, dict[str, int]] | None:
    """Returns unit, salt and weights in percent by arm of a rule that draws; None for other rules."""
    if "experiment" in rule:
        drawn = rule["experiment"]
        weights = {str(cell): arm["weight"] for cell, arm in drawn["cells"].items()}
        return str(drawn["unit"]), f"experiment/{drawn['id']}", weights
    if "split" in rule:
        return str(rule["split"]["unit"]), f"split/{use_case}/{rule['name']}", dict(rule["split"]["weights"])
    return None


def shares_of(weights: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """Returns each arm that has any buckets, with its first bucket and the first behind it."""
    shares, begin = [], 0
    for name in sorted(weights, key=_with_numbers_as_numbers):
        end = begin + weights[name] * 100
        if end > begin:
            shares.append((name, begin, end))
        begin = end
    return shares


def fields_read(document: Mapping[str, Any], use_case: str) -> list[str]:
    """Returns the context fields on which :func:`decide` depends for this use case, sorted."""
    if use_case not in document["use_cases"]:
        return ["caller"]
    fields = {"caller", "override"}
    for rule in document["use_cases"][use_case].get("rules", []):
        when = rule.get("when", {})
        while when:
            fields.update(field for field in when if field != "not")
            when = when.get("not", {})
        for draw in ("experiment", "split"):
            if draw in rule:
                fields.add(rule[draw]["unit"])
    for reference in _may_use(document, use_case):
        model, version = reference.split("@")
        where = document["models"][model]["versions"][version]["cluster"]
        if not isinstance(where, str):
            fields.add("tenant" if "tenants" in where else "user_id")
    return sorted(fields)


def _may_use(document: Mapping[str, Any], use_case: str) -> list[str]:
    """Returns the model versions that a use case names; all of the table if requests may be pinned."""
    entry = document["use_cases"][use_case]
    if entry.get("override"):
        return _references(document)
    named = [entry["default"], *entry.get("fallback", [])]
    named += [entry["shadow"]["use"]] if "shadow" in entry else []
    for rule in entry.get("rules", []):
        named += [rule["use"]] if "use" in rule else []
        named += rule.get("split", {}).get("weights", [])
        named += [cell["use"] for cell in rule.get("experiment", {}).get("cells", {}).values()]
    return named


def _references(document: Mapping[str, Any]) -> list[str]:
    return [f"{model}@{name}" for model, its in document["models"].items() for name in its["versions"]]


def _refusal(document: Mapping[str, Any], use_case: str, context: Mapping[str, str]) -> str:
    """Returns the status with which a request is refused, empty if it is not."""
    if use_case not in document["use_cases"]:
        return "NOT_FOUND"
    entry = document["use_cases"][use_case]
    caller = context.get("caller", "")
    if caller not in entry["callers"]:
        return "PERMISSION_DENIED"
    override = context.get("override", "")
    if override == "":
        return ""
    if caller not in entry.get("override", []):
        return "PERMISSION_DENIED"
    return "" if override in _references(document) else "NOT_FOUND"


def _expected(document: Mapping[str, Any], reference: str, context: Mapping[str, str]) -> Expected:
    model, version = reference.split("@")
    where = document["models"][model]["versions"][version]["cluster"]
    shard = shard_of(where, context)
    return Expected("OK", model, version, cluster_of_shard(where, shard), shard)


def shard_of(where: str | Mapping[str, Any], context: Mapping[str, str]) -> str:
    """Returns the shard that serves a request, given the ``cluster`` of a version; empty if that has no shards.

    Tenants have the shard of their entry, or of ``default``. Without tenants, the buckets of ``shard`` and the user are
    divided equally: bucket b of 10,000 belongs to shard 1 + b * n / 10,000 of n, rounded down.
    """
    if isinstance(where, str):
        return ""
    if "tenants" in where:
        tenants = where["tenants"]
        return f"s{tenants.get(context.get('tenant', ''), tenants['default'])}"
    return f"s{1 + bucket_of('shard', context.get('user_id', '')) * len(where['shards']) // 10_000}"


def cluster_of_shard(where: str | Mapping[str, Any], shard: str) -> str:
    """Returns the cluster that a version's ``cluster`` gives a shard; empty if it has no such shard."""
    shards = {"": where} if isinstance(where, str) else {f"s{n}": each for n, each in enumerate(where["shards"], 1)}
    return str(shards.get(shard, ""))


def version_of(routing_key: str) -> str:
    """Returns a routing key without its shard."""
    return ".".join(routing_key.split(".")[:2])


def _decision(
    document: Mapping[str, Any], use_case: str, context: Mapping[str, str]
) -> tuple[Mapping[str, Any], str, str]:
    """Returns the rule that decides, the model version that it chooses, and an experiment's cell.

    If no rule matches: an empty rule, the default, and no cell.
    """
    entry = document["use_cases"][use_case]
    for rule in entry.get("rules", []):
        if not _holds(rule.get("when", {}), context):
            continue
        if "use" in rule:
            return rule, str(rule["use"]), ""
        if "experiment" in rule:
            experiment = rule["experiment"]
            weights = {cell: arm["weight"] for cell, arm in experiment["cells"].items()}
            cell = _drawn(f"experiment/{experiment['id']}", context.get(experiment["unit"], ""), weights)
            if cell is not None:
                return rule, str(experiment["cells"][cell]["use"]), cell
        else:
            split = rule["split"]
            drawn = _drawn(f"split/{use_case}/{rule['name']}", context.get(split["unit"], ""), split["weights"])
            if drawn is not None:
                return rule, drawn, ""
    return {}, str(entry["default"]), ""


def _holds(when: Mapping[str, Any], context: Mapping[str, str]) -> bool:
    for field, wanted in when.items():
        if field == "not":
            if _holds(wanted, context):
                return False
        elif context.get(field, "") == "" or context[field] not in wanted:
            return False
    return True


def _drawn(salt: str, unit: str, weights: Mapping[str, int]) -> str | None:
    """Returns the arm whose buckets contain the unit; None if the request lacks the unit."""
    if unit == "":
        return None
    bucket = bucket_of(salt, unit)
    end = 0
    for name in sorted(weights, key=_with_numbers_as_numbers):
        end += weights[name] * 100
        if bucket < end:
            return name
    raise ValueError(f"weights add up to {end / 100:g}, not to 100")


def bucket_of(salt: str, unit: str) -> int:
    """Returns the bucket of a unit, 0 to 9,999."""
    digest = hashlib.blake2b(salt.encode() + b"\0" + unit.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 10_000


def _with_numbers_as_numbers(name: str) -> tuple[str, str]:
    """Returns a key that sorts ``2`` before ``10`` and ``m@v2`` before ``m@v10``: numbers are zero-padded."""
    return re.sub("[0-9]+", lambda number: number[0].zfill(64), name), name
