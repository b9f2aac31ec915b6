"""Replaces use cases and models in a route table, at a cost independent of the table's size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import Any

from lab.errors import RouteTableError
from lab.routing.checks import Problem, clashing, error_of, problems
from lab.routing.difference import Derivation, Difference, difference, same
from lab.routing.document import KNOWN_APIS, RouteTable, Source, with_defaults
from lab.routing.yaml_nodes import Node, parse


def with_use_cases(table: RouteTable, sources: Mapping[str, Source]) -> RouteTable:
    """The table with these use cases in place of those of the same names; shares everything else with ``table``.

    Args:
        table: not modified.
        sources: name → the content of its entry in a route table.

    Raises:
        RouteTableError: all problems by source and line.
    """
    if not sources:
        return table
    root, section = _tree("use_cases", sources, "use case")
    # A use case depends only on what it refers to, and on use cases of the same experiments.
    alone = problems({**root.value, **_referred_to(table, root.value)}, KNOWN_APIS)
    before = table.document["use_cases"]
    replaced = [before[name] for name in section.value if name in before]
    agreements = None if alone else table.agreements.after(replaced, section.value.values())
    if agreements is None:
        # The remedies list all known names, so the problems are those of the whole table.
        found = problems({**table.document, "use_cases": section.value}, KNOWN_APIS)
        own = [each for each in found if each.path[:1] == ("use_cases",)]
        raise _error_of(own or clashing(section.value, before), root, sources)
    document = {**table.document, "use_cases": {**before, **with_defaults(section.value)}}
    change = Difference(use_cases=frozenset(section.value))
    return replace(table, document=document, derivation=Derivation(table.document, change), known_agreements=agreements)


def with_changes(table: RouteTable, *, use_cases: Mapping[str, Source], models: Mapping[str, Source]) -> RouteTable:
    """The table with these models, and then with these use cases; arguments and errors as for these."""
    between = with_models(table, models)
    after = with_use_cases(between, use_cases)
    steps = [each.derivation.difference for each in (between, after) if each is not table and each.derivation]
    return replace(after, derivation=Derivation(table.document, reduce(or_, steps, Difference())))


def with_models(table: RouteTable, sources: Mapping[str, Source]) -> RouteTable:
    """The table with these models in place of those of the same names; shares everything else with ``table``.

    Arguments and errors as for :func:`with_use_cases`.
    """
    if not sources:
        return table
    root, section = _tree("models", sources, "model")
    before = table.document["models"]
    changed = {**before, **section.value}
    found = problems(
        {"models": section.value, "clusters": _named(table.document["clusters"], section.value)}, KNOWN_APIS
    )
    if found or any(
        before[name]["versions"].keys() - model["versions"] for name, model in section.value.items() if name in before
    ):
        # An error message, and finding users of a removed version, need the whole table.
        found = problems({**table.document, "models": changed}, KNOWN_APIS)
    if found:
        raise _error_of(found, root, sources)
    document = {**table.document, "models": changed}
    gone, new = (
        RouteTable.of_valid({"use_cases": {}, "models": models, "clusters": _named(document["clusters"], models)})
        for models in ({name: before[name] for name in section.value if name in before}, section.value)
    )
    versions = {**table.versions, **new.versions}
    for key in gone.versions.keys() - new.versions.keys():
        del versions[key]
    change = Difference(models=frozenset(section.value), routing_keys=frozenset({*gone.versions, *new.versions}))
    return replace(table, document=document, versions=versions, derivation=Derivation(table.document, change))


def _tree(section: str, sources: Mapping[str, Source], what: str) -> tuple[Node, Node]:
    """A table with one section, made of the entries' contents, and that section."""
    root, part = Node("-", 0, {}), Node("-", 0, {})
    root.add(section, part, 0)
    for name, source in sources.items():
        found = parse(source.text, source.name)
        if found is None:
            raise RouteTableError(f"is empty; write the content of the {what}'s entry", file=source.name, line=1)
        part.add(name, found, found.line)
    return root, part


def sharing(table: RouteTable, before: RouteTable) -> RouteTable:
    """An equal table that reuses the objects of ``before`` wherever both agree, and is derived from it."""
    document = {name: _shared(section, before.document.get(name, {})) for name, section in table.document.items()}
    same_models = all(document[section] is before.document[section] for section in ("models", "clusters"))
    versions = before.versions if same_models else _shared(table.versions, before.versions)
    alike = replace(table, document=document, versions=versions)
    change = difference(before, alike)
    old, new = ([each[name] for name in change.use_cases if name in each] for each in map(_use_cases, (before, alike)))
    agreements = before.agreements.after(old, new)
    return replace(alike, derivation=Derivation(before.document, change), known_agreements=agreements)


def _use_cases(table: RouteTable) -> Mapping[str, Any]:
    use_cases: Mapping[str, Any] = table.document["use_cases"]
    return use_cases


def _shared(entries: Mapping[str, Any], before: Mapping[str, Any]) -> Any:
    result = {name: before[name] if same(before.get(name), entry) else entry for name, entry in entries.items()}
    is_same = len(result) == len(before) and all(entry is before.get(name) for name, entry in result.items())
    return before if is_same else result


def _error_of(found: Iterable[Problem], root: Node, sources: Mapping[str, Source]) -> RouteTableError:
    return error_of(found, root, [root.file, *(source.name for source in sources.values())])


def _referred_to(table: RouteTable, document: Any) -> dict[str, Any]:
    """Models that the document names as ``model@version``, and their clusters."""
    known = table.document["models"]
    models = {
        model: known[model] for text in _texts(document) if (model := text.partition("@")[0]) in known and "@" in text
    }
    return {"models": models, "clusters": _named(table.document["clusters"], models)}


def _named(known: Mapping[str, Any], document: Any) -> dict[str, Any]:
    """Clusters that the document names, and their failover clusters."""
    wanted = known.keys() & set(_texts(document))
    clusters: dict[str, Any] = {}
    while wanted:
        clusters |= {name: known[name] for name in wanted}
        wanted = {clusters[name].get("failover", name) for name in wanted} - clusters.keys()
    return clusters


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, child in value.items():
            yield key
            yield from _texts(child)
    elif isinstance(value, list):
        for child in value:
            yield from _texts(child)
